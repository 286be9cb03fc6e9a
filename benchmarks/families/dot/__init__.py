"""Scaled dot attention over whole sequences, from one long sequence to many short ones, and decoder steps."""
