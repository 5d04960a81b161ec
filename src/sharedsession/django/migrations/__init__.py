"""The migrations of the table; it is ours, and no model."""
