"""Products with weights packed once, for the few rows of a decoder step."""
