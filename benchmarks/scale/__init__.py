"""Long runs beyond one process: the same bits after faults, and what engines and processes cost."""
