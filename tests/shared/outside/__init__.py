"""What comes from outside: compiled functions by hand, with their twins."""
