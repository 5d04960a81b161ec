"""The demo: real servers behind a real balancer, on a page and as a check."""
