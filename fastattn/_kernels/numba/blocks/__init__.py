"""What kernels are made of: vectors, tiles of products, scores, options of rows, and how all that is compiled."""
