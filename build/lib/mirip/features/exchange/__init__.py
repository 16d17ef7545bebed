"""Features that come from other tools, and features given to them."""
