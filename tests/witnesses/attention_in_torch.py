"""`fastattn.attention` as a function of torch tensors with gradients, and its comparison with another such function."""

import torch

import fastattn

# In units of the dtype's eps and of the largest number, or 1. A weight is as far off as its score, which is at most 48
# in Keras' tests; a gradient has such weights in two factors. Measured: 55, of which Keras' side is the larger part.
ROOM = 3 * 48
LOG = {"forward": 0, "backward": 0, "dropout": 0, "compared": 0, "loaded": 0, "apart": {}, "tests": {}}


class Attend(torch.autograd.Function):
    """`fastattn.attention_vjp` for torch: context and weights forward, gradients of all four operands backward."""

    @staticmethod
    def forward(context, query, key, value, vector, options):
        LOG["forward"] += 1
        query, key, value = (x.numpy(force=True) for x in (query, key, value))
        score = "dot" if vector is None else fastattn.scores.Additive(v=vector.numpy(force=True))
        output, context.vjp = fastattn.attention_vjp(query, key, value, score=score, return_weights=True, **options)
        return torch.from_numpy(output.context), torch.from_numpy(output.weights)

    @staticmethod
    def backward(context, d_context, d_weights):
        LOG["backward"] += 1
        found = context.vjp(d_context.numpy(force=True), d_weights=d_weights.numpy(force=True))
        vector = found.score.get("v")
        return *map(torch.from_numpy, found[:3]), None if vector is None else torch.from_numpy(vector), None


def attend(query, key, value, vector=None, **options):
    """Context and weights in query's dtype; what is narrower than float32 is widened for fastattn."""
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    given = (None if x is None else x.to(wide) for x in (query, key, value, vector))
    return tuple(x.to(query.dtype) for x in Attend.apply(*given, options))


def attend_dropping(rate, seed, query, key, value, vector=None, **options):
    """Context and weights after dropout: contexts of unit vectors are the weights, if the same ones are dropped."""
    LOG["dropout"] += 1
    options |= {"dropout": rate, "seed": seed}
    context, weights = attend(query, key, value, vector, **options)
    units = torch.eye(key.shape[-2], dtype=key.dtype).expand(*key.shape[:-1], -1)
    dropped, _ = attend(query, key, units, vector, **options)
    near = {"rtol": 1e-2, "atol": 1e-3} if key.dtype.itemsize < 4 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(dropped, torch.where(dropped == 0, 0, weights / (1 - rate)), **near)
    torch.testing.assert_close(context, dropped @ value, **near)
    return context, dropped


def compare(layer, operands, ours, theirs, rows):
    """Fail unless context, weights and the gradients of operands and of the layer's own parameters are alike.

    `ours` and `theirs` are functions of the operands and return (context, weights or None); a call does not count.
    `rows`, of context's shape with a last axis of 1, tells which rows may attend to something. Returns whether Keras
    has weights.
    """
    counts = {name: LOG[name] for name in ("forward", "backward")}
    leaves = [x.detach().clone().requires_grad_() for x in operands]
    parameters = [x.value for x in layer.trainable_weights]
    with torch.enable_grad():
        right = [x for x in theirs(*leaves) if x is not None]
        both = [list(ours(*leaves))[: len(right)], right]  # Keras has no weights from a fused kernel
        random = torch.Generator().manual_seed(0)
        seeds = [torch.where(rows, torch.randn(x.shape, generator=random).to(x.dtype), 0) for x in both[0]]
        both = [
            [*(torch.where(rows, x, 0) for x in side),
             *torch.autograd.grad(side, [*leaves, *parameters], seeds, allow_unused=True)]
            for side in both
        ]  # fmt: skip
    for place, (mine, wanted) in enumerate(zip(*both)):
        if mine is None or wanted is None:
            assert mine is wanted, f"only one of the two has gradient {place}"
            continue
        assert mine.shape == wanted.shape and mine.dtype == wanted.dtype, f"shape or dtype of {place}"
        unit = torch.finfo(mine.dtype).eps * max(1, wanted.abs().max().item())
        apart = (mine.double() - wanted.double()).abs().max().item() / unit
        name = str(mine.dtype).removeprefix("torch.")
        LOG["apart"][name] = max(LOG["apart"].get(name, 0), apart)
        assert apart <= ROOM, f"output or gradient {place} is {apart:.0f} eps apart"
    LOG.update(counts)
    LOG["compared"] += 1
    return len(right) == 2


def rows_with_keys(mask, shape):
    """Which rows of scores of a shape a mask leaves anything, as (..., Tq, 1)."""
    return torch.ones(1, dtype=bool) if mask is None else mask.expand(shape).any(-1, keepdim=True)


def as_options(mask, samples):
    """A mask as `fastattn.attention` takes it; one that only says how many keys a sample has becomes lengths."""
    if mask is None:
        return {}
    mask = mask.numpy(force=True)
    rows = mask.reshape(len(mask), -1, mask.shape[-1])
    if len(rows) == samples and (rows == rows[:, :1]).all() and (rows[..., 1:] <= rows[..., :-1]).all():
        return {"key_lengths": rows[:, 0].sum(axis=-1)}
    return {"mask": mask}
