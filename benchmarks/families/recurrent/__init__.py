"""GRU and LSTM layers over whole sequences, forward and with the gradients of inputs and weights."""
