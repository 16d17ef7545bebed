"""From images to rows of features: only the rows that are missing are computed."""
