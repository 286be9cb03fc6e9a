"""Additive (Bahdanau) attention: ``softmax(v . tanh(q + k)) @ value``, query and key already projected."""
