"""Attention in heads: projections to them and back, and the mechanisms that have them."""
