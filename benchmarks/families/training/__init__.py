"""What the families of models share: a training step is a loss, all gradients, clipping by their norm, and Adam."""

LIMIT, BETAS, EPSILON = 1.0, (0.9, 0.999), 1e-8  # of the norm of all gradients, and of Adam
