"""The modifications that the public collection attention-gym has, in forms of our own, beside eager FlexAttention.

Contexts and all gradients, also of what the functions captured. What of the collection cannot be compiled is refused,
each with its reason; docs/torch.md has the table.
"""

import functools
import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn import functional  # noqa: E402
from torch.nn.attention import flex_attention as theirs  # noqa: E402

from fastattn import errors  # noqa: E402
from fastattn.interop import torch as ours  # noqa: E402

B, H, T, D = 2, 2, 96, 8
SIDE = 8  # of a picture of T / SIDE rows


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))


def trained(*shape, seed=0):
    return draw(*shape, seed=seed).requires_grad_()


def integers(below, *shape, seed=0):
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


LENGTHS = torch.tensor([40, 17, 1, 38])
STARTS = torch.cat([torch.zeros(1, dtype=torch.long), LENGTHS.cumsum(0)])
DOCUMENT = torch.repeat_interleave(torch.arange(len(LENGTHS)), LENGTHS)
GLOBAL = integers(9, T, seed=1) == 0
SHOWN = torch.tensor([[0, 20], [20, 64], [64, 96]])  # queries that see each picture
PICTURE = torch.repeat_interleave(torch.arange(3), T // 3)
PREFIX = torch.tensor([0, 0, 2, 2])  # the document that each continues
PARENTS = [-1, 0, 0, 1, 1, 2, 5, 5] + [n // 2 for n in range(8, 32)]
TREE = torch.eye(32, dtype=torch.bool)
for _node, _parent in enumerate(PARENTS[1:], 1):
    TREE[_node] |= TREE[_parent]
CHOSEN = integers(6, B, H, 6, 3, seed=3)  # tiles of 16 keys for each tile of 16 queries
FILLED = torch.tensor([16, 16, 9, 16, 4, 16])
PAGES = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(b)) for b in range(B)])
PAGES[1, 2] = -1


def causal(b, h, q, k):
    return q >= k


def same_batch(size, inner):
    return lambda b, h, q, k: (q // size == k // size) & inner(b, h, q % size, k % size)


def diffusion(length, size):
    def mask(b, h, q, k):
        noised, beside = q < length, k < length
        mine, other = (q % length) // size, (k % length) // size
        clean = ~beside & torch.where(noised, mine > other, mine >= other)
        return ((mine == other) & noised & beside) | clean

    return mask


def of_documents(inner):
    def mask(b, h, q, k):
        mine = DOCUMENT[q]
        return (mine == DOCUMENT[k]) & inner(b, h, q - STARTS[mine], k - STARTS[DOCUMENT[k]])

    return mask


def picture(b, h, q, k):
    shown = SHOWN[PICTURE[k]]
    return (shown[0] <= q) & (q < shown[1])


def tree(prefix):
    def mask(b, h, q, k):
        node = torch.clamp(k - prefix, min=0, max=31)
        return (k < prefix) | ((k < prefix + 32) & TREE[q % 32, node])

    return mask


def drafts(prefix, size):
    def mask(b, h, q, k):
        place = k - prefix
        return (k < prefix) | ((place // size == q // size) & (place % size <= q % size) & (k >= prefix))

    return mask


def neighbours(places, width, height, reach):
    def mask(b, h, q, k):
        near = True
        for mine, other, size in zip(places(q), places(k), (width, height)):
            near = (torch.clamp(mine, reach, size - 1 - reach) - other).abs().le(reach) & near
        return near

    return mask


def rows(n):
    return n % SIDE, n // SIDE


def tiles(n):
    """Places in a picture that is laid out by tiles of 4 x 2."""
    tile, inside = n // 8, n % 8
    return tile % (SIDE // 4) * 4 + inside % 4, tile // (SIDE // 4) * 2 + inside // 4


def morton(n):
    """Places in a picture that is laid out with the bits of row and column in turn."""

    def every_other(n):
        n = n & 0x5555555555555555
        for step, kept in ((1, 0x3333333333333333), (2, 0x0F0F0F0F0F0F0F0F), (4, 0x00FF00FF00FF00FF)):
            n = (n | n >> step) & kept
        return n

    return every_other(n), every_other(torch.bitwise_right_shift(n, 1))


def shared_prefix(b, h, q, k):
    mine = DOCUMENT[q]
    first = PREFIX[mine]
    own = (STARTS[mine] <= k) & (k <= q)
    return own | ((mine != first) & (STARTS[first] <= k) & (k < STARTS[first + 1]))


def sliding_tiles(kernel, text, axes):
    """Tiles of 2 in each axis, of a box with `axes` sizes in tiles, and `text` behind it."""
    seen = math.prod(axes) * 2 ** len(axes)

    def split(n):
        tile, found = n // 2 ** len(axes), []
        for size in reversed(axes):
            found.append(tile % size)
            tile = tile // size
        return found[::-1]

    def mask(b, h, q, k):
        near = (q < seen) & (k < seen)
        for mine, other, size in zip(split(q), split(k), axes):
            middle = mine.clamp(kernel // 2, size - 1 - kernel // 2)
            near = near & (other >= middle - kernel // 2) & (other <= middle + kernel // 2)
        return near | (k >= seen) & (k < seen + text) | (q >= seen) & (k < seen + text)

    return mask


def spatial(prompt, width):
    return lambda b, h, q, k: (k < prompt) | (q < prompt) | (torch.abs(q - k) < width)


def temporal(prompt, frame, width):
    def mask(b, h, q, k):
        apart = torch.abs((q - prompt) % frame - (k - prompt) % frame)
        return (k < prompt) | (q < prompt) | (apart < width)

    return mask


def chosen_tiles(b, h, q, k):
    tile = k // 16
    return (CHOSEN[b, h, q // 16] == tile.unsqueeze(-1)).any(dim=-1) & (k % 16 < FILLED[tile])


def paged(b, h, q, k):
    page = PAGES[b, k // 16]
    return torch.where(page >= 0, causal(b, h, q, page * 16 + k % 16), False)


def paged_relative(score, b, h, q, k):
    page = PAGES[b, k // 16]
    return torch.where(page >= 0, score + 0.125 * (q - page * 16 - k % 16), -float("inf"))


MASKS = {
    "causal": causal,
    "batchify": same_batch(16, causal),
    "block diffusion": diffusion(T // 2, 8),
    "dilated sliding window": lambda b, h, q, k: (torch.abs(q - k) <= 12) & (torch.abs(q - k) % 3 == 0),
    "documents": of_documents(causal),
    "packed causal documents": lambda b, h, q, k: (k >= STARTS[DOCUMENT[q]]) & (q >= k),
    "flamingo": picture,
    "global sliding window": theirs.or_masks(
        lambda b, h, q, k: (q - k).abs() <= 5, lambda b, h, q, k: GLOBAL[q] | GLOBAL[k]
    ),
    "jetspec tree": tree(40),
    "jetspec training": drafts(16, 5),
    "natten": neighbours(rows, SIDE, T // SIDE, 2),
    "natten in tiles": neighbours(tiles, SIDE, T // SIDE, 2),
    "natten in morton order": neighbours(morton, SIDE, 2 * SIDE, 2),
    "prefix": theirs.or_masks(lambda b, h, q, k: k < 20, causal),
    "shared prefix": shared_prefix,
    "sliding window": theirs.and_masks(lambda b, h, q, k: q - k <= 15, causal),
    "sliding tiles in two axes": sliding_tiles(3, 16, (5, 4)),
    "sliding tiles in three axes": sliding_tiles(3, 0, (4, 3, 1)),
    "sparse video, spatial": spatial(10, 16),
    "sparse video, temporal": temporal(10, 12, 3),
    "video sparse": chosen_tiles,
    "paged": paged,
}

SPATIAL, DISTANCES = trained(H, 6, seed=2), integers(6, B, T, T, seed=4)
EDGES, KINDS, HOPS = trained(H, 3, 5, seed=3), integers(5, B, T, T, 3, seed=5), integers(4, B, T, T, seed=6)
TURNED_QUERY, TURNED_KEY = trained(B, H, T, 4, seed=8), trained(B, 1, T, 4, seed=9)
WAVES = torch.cos(
    torch.arange(1 - T, T, dtype=torch.float64).abs()[:, None] / 10000 ** (torch.arange(16) / 16)
).sum(1).requires_grad_()  # fmt: skip
RATIO = (H / (8.0 * torch.arange(1, H + 1, dtype=torch.float64))).requires_grad_()


def edges(score, b, h, q, k):
    hops, total = HOPS[b, q, k], 0.0
    for n in range(3):
        total = total + torch.where(hops > n, EDGES[h, n, KINDS[b, q, k, n]], 0.0)
    return score + total / torch.clamp(hops, min=1)


def activated(function):
    return lambda score, b, h, q, k: torch.log(function(score) + 1.0)


MODS = {
    "alibi": lambda score, b, h, q, k: score + (k - q) * torch.exp2(-((h + 1) * 8.0 / H)),
    "softcap": lambda score, b, h, q, k: 2 * torch.tanh(score / 2),
    "graphormer, spatial": lambda score, b, h, q, k: score + SPATIAL[h, DISTANCES[b, q, k]],
    "graphormer, edges": edges,
    "latent attention": lambda score, b, h, q, k: (
        score + 0.5 * torch.dot(TURNED_QUERY[b, h, q], TURNED_KEY[b, h // H, k])
    ),
    "sandwich": lambda score, b, h, q, k: score + WAVES[q - k + T - 1] * RATIO[h],
    "relu": activated(functional.relu),
    "sigmoid": activated(torch.sigmoid),
    "silu": activated(functional.silu),
    "gelu": activated(functional.gelu),
    "gelu by tanh": activated(functools.partial(functional.gelu, approximate="tanh")),
    "relative": lambda score, b, h, q, k: score + (q - k),
    "bias of heads": lambda score, b, h, q, k: score + 2 * h,
    "causal": lambda score, b, h, q, k: torch.where(q >= k, score, -float("inf")),
    "paged": paged_relative,
}
CAPTURED = (SPATIAL, EDGES, TURNED_QUERY, TURNED_KEY, WAVES, RATIO)


@pytest.fixture
def eager(monkeypatch):
    """FlexAttention without a compiler, and with the backward pass that it refuses on CPUs and has."""
    monkeypatch.setattr(theirs, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(theirs, "_validate_device", lambda *given: None)
    return theirs.flex_attention


def of_captured(score_mod, q, k, v):
    """Gradients by the formula with all scores: without a compiler FlexAttention does not follow what is captured."""
    scores, places = q @ k.mT / math.sqrt(D), [torch.arange(n) for n in (B, H, T, T)]
    for axis in (4, 3, 2, 1):
        dims = [None] * 5
        dims[0] = dims[axis] = 0
        score_mod = torch.vmap(score_mod, tuple(dims))
    loss = (torch.softmax(score_mod(scores, *places), -1) @ v).sin().sum()
    return torch.autograd.grad(loss, CAPTURED, allow_unused=True)


def check(eager, score_mod=None, block_mask=None, right=None):
    q, k, v = trained(B, H, T, D), trained(B, H, T, D, seed=1), trained(B, H, T, 6, seed=2)
    inputs = [q, k, v]
    found, grads = [], []
    for attend, blocks in ((ours.flex_attention, block_mask), (eager, right or block_mask)):
        context = attend(q, k, v, score_mod, blocks)
        found.append(context)
        grads.append(torch.autograd.grad(context.sin().sum(), inputs, retain_graph=True))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-9)
    if score_mod is not None and block_mask is None:
        more = torch.autograd.grad(found[0].sin().sum(), CAPTURED, allow_unused=True)
        for one, other in zip(more, of_captured(score_mod, q, k, v), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def masked(mask_mod):
    return theirs.create_block_mask(mask_mod, B, H, T, T, device="cpu", BLOCK_SIZE=64)


@pytest.mark.parametrize("name", MASKS)
def test_masks(name, eager):
    check(eager, block_mask=masked(MASKS[name]))


@pytest.mark.parametrize("name", MODS)
def test_functions_on_scores(name, eager):
    check(eager, score_mod=MODS[name], block_mask=masked(MASKS["documents"]) if name == "alibi" else None)


@pytest.mark.parametrize("size", [64, (64, 32), 48], ids=str)
def test_blocks_of_a_mask_count(eager, size):
    """Of a list where the function alone does not say what is shown: full blocks are, and what is not listed is not."""
    rows, columns = size if isinstance(size, tuple) else (size, size)
    down, across = -(-T // rows), -(-T // columns)
    order = torch.arange(across, dtype=torch.int32).expand(B, 1, down, across).contiguous()
    counts = torch.ones(B, 1, down, dtype=torch.int32)
    listed = theirs.BlockMask.from_kv_blocks(
        counts, order.flip(-1).contiguous(), counts, order, BLOCK_SIZE=(rows, columns), mask_mod=causal,
        seq_lengths=(T, T),
    )  # fmt: skip

    def shown(b, h, q, k):
        return (k < columns) | ((k // columns == across - 1) & (q >= k))

    check(eager, block_mask=listed, right=masked(shown))


def test_the_log_sum_is_asked_for_in_either_way(eager):
    q, k, v = (draw(B, H, T, D, seed=n) for n in range(3))
    request = theirs.AuxRequest(lse=True)
    context, beside = ours.flex_attention(q, k, v, MODS["softcap"], return_aux=request)
    right, theirs_beside = eager(q, k, v, MODS["softcap"], return_aux=request)
    torch.testing.assert_close((context, beside.lse), (right, theirs_beside.lse))
    assert beside.max_scores is None
    # The sum of f(score) value for another function than the exponential is found by the log-sum.
    lse = ours.flex_attention(q, k, v, MODS["relu"], return_lse=True)[1]
    weights = torch.relu(q @ k.mT / math.sqrt(D)) + 1
    torch.testing.assert_close(lse.exp(), weights.sum(-1))


LIBRARY = torch.library.Library("gym", "DEF")
LIBRARY.define("tanh(Tensor x) -> Tensor")
LIBRARY.impl("tanh", torch.tanh, "CompositeExplicitAutograd")
WIDE = torch.zeros(H, 300)
REFUSED = {
    "an operator of an extension": (lambda s, b, h, q, k: torch.ops.gym.tanh(s), "the operator gym::tanh"),
    "bits of real numbers": (lambda s, b, h, q, k: s + (s & 0x5555), "a logical operation on numbers"),
    "a shift by what is not known": (lambda s, b, h, q, k: s + (1 << h), "by a known number"),
    "a row beyond 256": (lambda s, b, h, q, k: s + WIDE[h].sum(), "at most 256"),
    "a row for a number": (lambda s, b, h, q, k: s + SPATIAL[h], "look up one element"),
    "rows of two lengths": (lambda s, b, h, q, k: s + torch.dot(SPATIAL[h], EDGES[h, 0]), "of one length"),
    "a sum of no axis of a row": (lambda s, b, h, q, k: s + SPATIAL[h].sum(dim=2), "leave dim out"),
    "two axes at once": (lambda s, b, h, q, k: s + EDGES[h], "look up one element"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    q = draw(1, H, 4, 4)
    score_mod, words = REFUSED[name]
    with pytest.raises(errors.UnsupportedError, match=words):
        ours.flex_attention(q, q, q, score_mod)


def test_masks_of_other_sizes_are_refused():
    q = draw(1, H, T, D)
    for mask, words in ((masked(causal), "1 batch entries"), (masked(causal)[:1], "mask_mod")):
        with pytest.raises((errors.ShapeError, errors.UnsupportedError), match=words):
            ours.flex_attention(q, q, q, block_mask=mask)
    with pytest.raises(errors.UnsupportedError, match=r"AuxRequest\(lse=True\)"):
        ours.flex_attention(q, q, q, return_aux=theirs.AuxRequest(max_scores=True))
