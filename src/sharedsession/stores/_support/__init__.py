"""What the stores share, each rule once. No part of it is public."""
