"""The feature cache: its file, the store behind it, locks and verification."""
