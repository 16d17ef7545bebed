"""The trainable head on frozen features: its layers, losses, training, judgement and checkpoints."""
