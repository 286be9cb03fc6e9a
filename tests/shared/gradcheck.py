"""Gradients against central differences, for tests of layers."""

import numpy as np


def check_directions(loss, arrays, gradients, rng, step=1e-5, room=1e-7):
    """The derivative of loss() along random directions of each array, changed in place, is its gradient's product."""
    for name, array in arrays.items():
        kept, gradient = array.copy(), gradients[name]
        assert gradient.shape == array.shape, name
        for _ in range(3):
            direction = rng.standard_normal(array.shape)
            ends = []
            for sign in (1, -1):
                array[...] = kept + sign * step * direction
                ends.append(loss())
            array[...] = kept
            expected = (gradient * direction).sum()
            found = (ends[0] - ends[1]) / (2 * step)
            assert abs(found - expected) <= room * (1 + np.abs(gradient).sum()), (name, found, expected)
