"""The trainable head on frozen features: its layers, losses, training, evaluation, audit and checkpoints."""
