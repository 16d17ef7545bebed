"""One self-contained page that shows a result."""
