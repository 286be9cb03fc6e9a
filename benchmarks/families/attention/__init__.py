"""What the families of attention calls share: dot, additive and sparse ones differ in their formulas."""
