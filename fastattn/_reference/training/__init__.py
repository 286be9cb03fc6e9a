"""Twins of layers, losses and optimisers."""
