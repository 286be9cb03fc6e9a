"""Decoder steps of attention mechanisms, one after the other, and the backward pass through all of them."""
