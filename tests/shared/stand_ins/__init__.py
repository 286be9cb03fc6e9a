"""What takes the place of other programs and processes in tests."""
