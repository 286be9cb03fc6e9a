"""Training runs: the loop, its files, exact resume."""
