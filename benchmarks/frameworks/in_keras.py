"""fastattn in Keras beside Keras' own layers, in models: ``python -m benchmarks.frameworks.in_keras``.

``KERAS_BACKEND`` says what is below, ``torch`` or ``jax``. A case is a model of one layer, ours and Keras' with the
same weights: its ``predict_on_batch``, and as a step its ``train_on_batch``. What is predicted, and the weights after a
step, are compared before anything is timed. Both sides of a case are timed in turn, round by round; printed are the
medians, their ratio, and the largest difference.
"""

from collections.abc import Callable, Iterator
from typing import Any

from .table import Case, options, show


def cases() -> Iterator[Case]:
    import keras
    import numpy as np

    from fastattn.interop import keras as fast

    rng = np.random.default_rng(0)

    def model(made: Any, call: Callable[..., Any], shape: tuple[int, ...], like: Any = None) -> Any:
        given = keras.Input(shape[1:])
        found = keras.Model(given, call(made, given))
        found.compile(keras.optimizers.SGD(1.0), "mse")
        if like is not None:
            found.set_weights(like.get_weights())
        return found

    def step(trained: Any) -> Callable[..., Any]:
        def run(*batch: Any) -> Any:
            trained.train_on_batch(*batch)
            return trained

        return run

    def with_heads(layer: Any, x: Any) -> Any:
        return layer(x, x, use_causal_mask=True)

    def of_one(layer: Any, x: Any) -> Any:
        return layer([x, x])

    for name, settings, call, shape in (
        ("MultiHeadAttention", {"num_heads": 8, "key_dim": 64}, with_heads, (4, 512, 512)),
        ("MultiHeadAttention", {"num_heads": 4, "key_dim": 64}, with_heads, (64, 30, 256)),
        ("Attention", {"use_scale": True}, of_one, (16, 100, 256)),
        ("AdditiveAttention", {}, of_one, (16, 100, 256)),
    ):
        theirs = model(getattr(keras.layers, name)(**settings), call, shape)
        ours = model(getattr(fast, name)(**settings), call, shape, theirs)
        x, y = ((0.2 * rng.normal(size=shape)).astype(np.float32) for _ in range(2))
        title = f"{name} {','.join(map(str, shape))}"
        yield Case(title, ours.predict_on_batch, theirs.predict_on_batch, [x])
        yield Case(f"{title}, step", step(ours), step(theirs), [x, y])


def main() -> int:
    given = options("in_keras", __doc__)
    import fastattn

    fastattn.set_num_threads(given.threads)

    def leaves(found: Any) -> list[Any]:
        return found.get_weights() if hasattr(found, "get_weights") else [found]

    show("Keras", cases(), given.quick, leaves)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
