"""The frozen backbones: recipe, weights, transform and forward pass. Nothing here knows of a cache."""
