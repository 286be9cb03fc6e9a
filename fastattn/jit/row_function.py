"""Functions of rows with their parameters: normalizers that the kernels call."""

from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn.jit.bound import Bound, Compiled, problem_of
from fastattn.jit.check import check_rows
from fastattn.jit.derivative import derive_rows
from fastattn.jit.evaluate import evaluate
from fastattn.jit.row_text import buffers_of

__all__ = ["RowFunction"]


class RowFunction(Bound):
    """A function of whole rows of scores, for ``attention(..., normalizer=)``."""

    @property
    def buffers(self) -> int:
        """How many buffers of a row its compiled functions need."""
        return buffers_of(self._traced)

    def compiled(self, dtype: Any, batch: int, heads: int, queries: int, keys: int) -> Compiled:
        """Return the compiled functions for a problem of these sizes; see `ScoreModifier.compiled`."""
        key = (np.dtype(dtype).itemsize, batch, heads, queries, keys)

        def make() -> Compiled:
            narrow = self._narrow(problem_of(batch, heads, queries, keys))
            if not self._checked and min(key) > 0:
                check_rows(self, batch, heads, queries, keys)
                self._checked = True
            shared = ("code", key[0], narrow)
            return self._remember(
                shared, lambda: Compiled(self._traced, self._arrays, self._trained, 8 * key[0], narrow)
            )

        return self._remember(key, make)

    def evaluate(self, s: Any, b: Any = 0, h: Any = 0, i: Any = 0) -> Array:
        """Return the weights of rows of scores (..., Tk), -inf where masked, in NumPy, float64.

        b, h and i broadcast with the rows, and have one key.
        """
        inputs = _inputs(s, b, h, i)
        (found,) = evaluate([self._traced.result], inputs, self._arrays)
        return np.where(inputs["seen"].any(axis=-1, keepdims=True), found, 0.0)

    def evaluate_vjp(self, s: Any, d: Any, b: Any = 0, h: Any = 0, i: Any = 0) -> tuple[Array, dict[str, Array]]:
        """Return the gradients of scores and of parameters in NumPy, float64; `d` is that of the weights."""
        inputs = {**_inputs(s, b, h, i), "d": np.asarray(d, np.float64)}
        some = inputs["seen"].any(axis=-1, keepdims=True)
        derivative, graph = derive_rows(self._traced), self._traced.graph
        given = derivative.inputs.get("s", graph.constant(0.0))
        nodes = [given, *(node for look, gradient in derivative.looks for node in (gradient, *look.arguments))]
        values = dict(zip(nodes, evaluate(nodes, inputs, self._arrays)))
        totals = {name: np.zeros(array.shape) for name, array in self.parameters.items() if name in self.trained}
        for look, gradient in derivative.looks:
            name = self._traced.parameters[look.value][0]
            if name in totals:
                part, *place = np.broadcast_arrays(
                    np.where(some, values[gradient], 0.0), *(values[node] for node in look.arguments)
                )
                number = np.ravel_multi_index(place, totals[name].shape) if place else np.zeros(part.shape, int)
                np.add.at(totals[name].reshape(-1), number, part)
        return np.where(inputs["seen"], values[given], 0.0), totals


def _inputs(s: Any, b: Any, h: Any, i: Any) -> dict[str, Array]:
    s = np.asarray(s, np.float64)
    return {"s": s, "seen": s != -np.inf, "b": b, "h": h, "i": i, "j": np.arange(s.shape[-1])}
