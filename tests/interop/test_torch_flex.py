"""FlexAttention: functions written for PyTorch's, beside the formula with all scores, values and gradients."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn.attention import flex_attention as theirs  # noqa: E402

from fastattn import errors  # noqa: E402
from fastattn.interop import torch as ours  # noqa: E402

B, H, TQ, TK, D = 2, 4, 70, 90, 8


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()


SLOPES = (-draw(H, seed=5).detach().abs()).requires_grad_()
TABLE = draw(H, TQ + TK, seed=6)
WEIGHT = draw(B, H, seed=7)
TEMPERATURE = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
DOCUMENTS = torch.randint(0, 3, (B, TK), generator=torch.Generator().manual_seed(1)).sort().values
PREFIX = torch.tensor([20, 33])
OFFSET = torch.tensor(9)
NEVER = torch.tensor(-float("inf"))


def softcapped(cap):
    def score_mod(score, b, h, q_idx, kv_idx):
        return cap * torch.tanh(score / cap)

    return score_mod


def banded(width):
    def mask_mod(b, h, q_idx, kv_idx):
        return (q_idx - kv_idx).abs() <= width

    return mask_mod


def causal(b, h, q, k):
    return q >= k


def buckets(score, b, h, q, k):
    """Exact near by, then logarithmic, as T5's."""
    far = (k - q).abs()
    large = 8 + (torch.log(far.clamp(min=1).float() / 8) / 2.5 * 8).to(torch.long)
    return score + TABLE[h, torch.where(far < 8, far, torch.minimum(large, torch.tensor(15)))]


def tiled(b, h, q, k):
    """Neighbours in a picture that is 10 wide."""
    qx, qy, kx, ky = q % 10, q // 10, k % 10, k // 10
    return ((qx - kx).abs() <= 2) & ((qy - ky).abs() <= 2)


MODS = {
    "identity": lambda score, b, h, q, k: score,
    "linear bias": lambda score, b, h, q, k: score + SLOPES[h] * (q - k),
    "powers of two": lambda score, b, h, q, k: score + torch.exp2(-((h + 1) * 8.0 / H)) * (k - q),
    "table of distances": lambda score, b, h, q, k: score + TABLE[h, q - k + TK - 1],
    "buckets": buckets,
    "cap": softcapped(2.0),
    "temperature": lambda score, b, h, q, k: score / TEMPERATURE,
    "weights of heads": lambda score, b, h, q, k: score * WEIGHT[b, h],
    "masking in it": lambda score, b, h, q, k: torch.where(q >= k, score, NEVER),
    "masking by a number": lambda score, b, h, q, k: torch.where(DOCUMENTS[b, k] == 1, score, -float("inf")),
    "parity": lambda score, b, h, q, k: torch.where(((q + k) % 2 == 0) | (h == 1), score * 2, score - 1),
    "functions": lambda score, b, h, q, k: torch.relu(score) + score.sigmoid() - torch.exp(-score * score).log1p(),
}
MASKS = {
    "none": None,
    "causal": causal,
    "window": lambda b, h, q, k: (q >= k) & (q - k <= 16),
    "window made": banded(5),
    "prefix": lambda b, h, q, k: (k < PREFIX[b]) | (q >= k),
    "documents": lambda b, h, q, k: DOCUMENTS[b, q] == DOCUMENTS[b, k],
    "dilated": lambda b, h, q, k: ((q - k).abs() <= 12) & ((q - k) % 3 == 0),
    "tiles": tiled,
    "of heads": lambda b, h, q, k: torch.where(h < 2, q >= k, k >= q),
    "offset": lambda b, h, q, k: q + OFFSET >= k,
    "joined": theirs.and_masks(causal, theirs.or_masks(banded(3), lambda b, h, q, k: k < 4)),
    "everything": theirs.noop_mask,
}


def over(function, arguments):
    """A function of single numbers over (B, H, TQ, TK)."""
    axes = [torch.arange(n) for n in (B, H, TQ, TK)]
    front = (0,) if arguments == 5 else ()
    for place in (4, 3, 2, 1):
        dims = [None] * 5
        dims[place] = 0
        if front:
            dims[0] = 0
        function = torch.vmap(function, tuple(dims[1 - len(front) :]))
    return lambda *score: function(*score, *axes)


def formula(q, k, v, score_mod, mask_mod):
    k, v = (one.repeat_interleave(H // one.shape[1], 1) for one in (k, v))
    scores = q @ k.mT * D**-0.5
    if score_mod is not None:
        scores = over(score_mod, 5)(scores)
    if mask_mod is not None:
        scores = torch.where(over(mask_mod, 4)(), scores, -torch.inf)
    lse = scores.logsumexp(-1)
    weights = torch.where(
        lse[..., None] == -torch.inf, 0, torch.exp(scores - torch.where(lse.isfinite(), lse, 0)[..., None])
    )
    return weights @ v, lse


@pytest.mark.parametrize(
    ("mod", "mask"), [(mod, "none") for mod in MODS] + [(None, mask) for mask in MASKS] + [("linear bias", "documents")]
)
def test_flex_attention_is_the_formula(mod, mask):
    q, k, v = draw(B, H, TQ, D), draw(B, 2, TK, D, seed=1), draw(B, 2, TK, 6, seed=2)
    score_mod, mask_mod = MODS.get(mod), MASKS[mask]
    block_mask = (
        None if mask_mod is None else theirs.create_block_mask(mask_mod, B, H, TQ, TK, device="cpu", BLOCK_SIZE=32)
    )
    found = ours.flex_attention(q, k, v, score_mod, block_mask, enable_gqa=True, return_lse=True)
    expected = formula(q, k, v, score_mod, mask_mod)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    captured = [SLOPES, TABLE, WEIGHT, TEMPERATURE]
    grads = []
    for context, lse in (found, expected):
        loss = context.square().sum() + torch.where(lse.isfinite(), lse, 0).sin().sum()
        grads.append(torch.autograd.grad(loss, [q, k, v, *captured], allow_unused=True))
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_attention_is_pytorchs():
    q, k, v = (draw(B, H, n, D, seed=i, dtype=torch.float32).detach() for i, n in enumerate((TQ, TK, TK)))
    mask = theirs.create_block_mask(MASKS["window"], None, None, TQ, TK, device="cpu")
    for score_mod in (None, MODS["linear bias"]):
        found = ours.flex_attention(q, k, v, score_mod, mask)
        expected = theirs.flex_attention(q, k, v, score_mod, mask)
        torch.testing.assert_close(found, expected)


def test_no_options_are_no_options():
    assert torch.equal(ours.flex_attention(X, X, X, kernel_options={}), ours.flex_attention(X, X, X))


def test_what_was_captured_is_followed():
    q, slopes = draw(1, 2, 5, 4), torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)

    def score_mod(score, b, h, i, j):
        return score + slopes[h] * (i - j)

    first = ours.flex_attention(q, q, q, score_mod)
    with torch.no_grad():
        slopes.mul_(2)
    assert not torch.equal(ours.flex_attention(q, q, q, score_mod), first)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()


X = draw(1, 2, 5, 4)
WRONG = {
    "a branch": (lambda: ours.flex_attention(X, X, X, lambda s, b, h, i, j: s if i > j else -s), "torch.where"),
    "a whole tensor": (lambda: ours.flex_attention(X, X, X, lambda s, b, h, i, j: s + SLOPES), "look up an element"),
    "a row": (lambda: ours.flex_attention(X, X, X, lambda s, b, h, i, j: s + TABLE[h]), "look up one element"),
    "a function": (lambda: ours.flex_attention(X, X, X, lambda s, b, h, i, j: torch.erfinv(s)), "write it with"),
    "an error": (lambda: ours.flex_attention(X, X, X, lambda s, b, h, i, j: s.nothing), "called once with symbols"),
    "options": (lambda: ours.flex_attention(X, X, X, kernel_options={"BLOCK_M": 1}), "leave it out"),
    "axes": (lambda: ours.flex_attention(X[0], X, X), "unsqueeze"),
    "heads": (lambda: ours.flex_attention(X, X[:, :1], X[:, :1]), "enable_gqa"),
    "a mask": (lambda: ours.flex_attention(X, X, X, block_mask=causal), "create_block_mask"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compiled_is_refused(name):
    call, hint = WRONG[name]
    with pytest.raises(errors.FastattnError) as found:
        call()
    assert hint in str(found.value), found.value
