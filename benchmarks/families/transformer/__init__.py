"""Training steps and beam search of the Transformer of Vaswani et al. 2017.

Post-norm, biases everywhere, one matrix for both embeddings and the output, scaled embeddings with sinusoids, relu:
what Marian computes. No sentence is padded, no dropout, no smoothing.

The names and shapes of the parameters are those of fastattn; weights are (inputs, outputs). The begin token has the
embedding zero, since CTranslate2 starts from zeros. Special tokens, and the last one, which Marian pads with, have so
small a bias that they are never chosen: every search takes all its steps. The bias is not learnt.
"""
