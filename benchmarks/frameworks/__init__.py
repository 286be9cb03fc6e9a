"""The adapters of `fastattn.interop` beside their frameworks: a command for each."""
