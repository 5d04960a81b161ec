"""What the public modules share: advice for typical slips. No part of it is public."""
