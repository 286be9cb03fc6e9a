"""Sentences from a model: greedy, beam, sampling, scores of given ones."""
