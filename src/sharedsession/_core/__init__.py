"""The core: one request and its session, without any framework. No part of it is public."""
