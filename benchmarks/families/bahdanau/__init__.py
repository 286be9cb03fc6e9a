"""The encoder-decoder of Bahdanau et al. 2015.

A bidirectional GRU encoder; a GRU decoder with the reset gate after the product, which attends with its previous state
through an additive score as wide as the state; and one affine map of [state; context; embedding] to the vocabulary.
No sentence is padded, no dropout, no smoothing: the model as it is written down in a few lines.

The names and shapes of the parameters are those of fastattn; weights are (inputs, outputs), gates in the order r, z, n.
"""
