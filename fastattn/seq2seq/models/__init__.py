"""Encoder-decoders: what they share, and one file for each."""
