"""What a package that extends fastattn hands over."""
