"""The HTTP API: images in; scores, comparisons and rankings out, by one trained model."""
