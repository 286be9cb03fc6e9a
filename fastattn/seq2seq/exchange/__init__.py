"""Encoder-decoders of Transformers as ours, and ours as theirs: Marian and BART, tensor by tensor."""
