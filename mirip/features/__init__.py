"""Features of a frozen backbone: one row of numbers for each distinct image.

backbones   a recipe, its fingerprint, its weights, and the forward pass
cache       features files and the store behind them: rows that check themselves
extract     computes the rows that are missing
exchange    features from and for other tools
"""
