"""Texts: files, words and pieces of words, batches, and how translations are compared."""
