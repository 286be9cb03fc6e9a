"""Speed of fastattn next to NumPy, PyTorch, JAX and Keras, measured in one run. See README.md in this folder."""
