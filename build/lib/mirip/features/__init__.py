"""Features of the frozen backbone: recipe, transform, backbone, cache and extraction."""
