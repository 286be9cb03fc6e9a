"""Attention with sparsemax and 1.5-entmax: whole sequences, and a decoder step."""
