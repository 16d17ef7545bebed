"""What a pull request changed, as one Markdown comment."""
