"""Hints of `attention`, `attention_vjp`, `prepare` and `Memory`."""

import numpy as np
from numpy.lib.stride_tricks import as_strided
from others import Exchanged

import fastattn
from fastattn import scores
from fastattn.positions import RelativeBias
from hints import advice, ones

QUERY, KEY, VALUE = ones(2, 3, 4), ones(2, 5, 4), ones(2, 5, 6)


def huge(*shape):
    """An array of any shape that takes four bytes."""
    return as_strided(ones(1), shape, (0,) * len(shape), writeable=False)


def attend(query=QUERY, key=KEY, value=VALUE, **options):
    return fastattn.attention(query, key, value, **options)


def same(query=QUERY, **options):
    return attend(query, query, query, **options)


def heads(query, key, value):
    return fastattn.attention(ones(2, query, 3, 4), ones(2, key, 5, 4), ones(2, value, 5, 6))


# Functions
@fastattn.score_mod
def weighed(score, b, h, i, j, w):
    return score * w[b]


MODIFIED = fastattn.prepare(KEY, VALUE, score_mod=weighed(w=ones(2)))
advice(
    lambda score_mod=3: attend(score_mod=score_mod),
    "decorate a function with fastattn.score_mod, and bind its parameters by keyword",
    score_mod=None,
)
advice(
    lambda mask=len: attend(mask=mask),
    "decorate a function with fastattn.mask_mod, and bind its parameters by keyword",
    mask=None,
)
advice(
    lambda score=scores.Location(ones(4, 9)): same(score=score, score_mod=weighed(w=ones(2))),
    "use a score that a kernel computes",
    score="dot",
)
advice(
    lambda: fastattn.prepare(KEY, VALUE, score="l2").attend(QUERY, score_mod=lambda s, b, h, i, j: 2 * s),
    "of a memory, pass score_mod= to prepare()",
    lambda: fastattn.prepare(KEY, VALUE, score="l2", score_mod=lambda s, b, h, i, j: 2 * s).attend(QUERY),
)
advice(
    lambda score_mod=weighed(w=ones(2)): attend(score=scores.General(ones(4, 4)), score_mod=score_mod),
    "gradients come back under these names; give the function's parameters others",
    score_mod=None,
)
advice(
    lambda score_mod=weighed(w=ones(2)): attend(score=scores.Modified("dot", weighed(w=ones(2))), score_mod=score_mod),
    "write one function that does what both do",
    score_mod=None,
)
advice(lambda first=-1: MODIFIED.attend(QUERY, first=first), "pass how many queries were before this one", first=0)
advice(
    lambda: MODIFIED.attend(QUERY, score_mod=weighed(w=ones(2))),
    "prepare a memory without score_mod, and pass one to attend()",
    lambda: fastattn.prepare(KEY, VALUE).attend(QUERY),
)
advice(
    lambda: MODIFIED.select([0]),
    "pass score_mod= and mask= to attend(), whose batch entries are those of the query",
    lambda: fastattn.prepare(KEY, VALUE).select([0]),
)


# Arrays
class Tracer:
    """What stands for an array while JAX traces."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("it is traced, on no device")


advice(lambda query=[[1.0], [1.0, 2.0]]: same(query), "pass numbers in rows of one length", query=[[1.0], [2.0]])
advice(
    lambda query=np.ma.ones((3, 4)): same(query),
    "pass its .data, and what may be attended to as mask= (True = may attend, ~array.mask)",
    lambda: same(ones(3, 4), mask=~np.ma.make_mask_none((3, 3), None)),
)
advice(lambda query=Exchanged(QUERY, device=(2, 0)): same(query), "copy it to the CPU first", query=Exchanged(QUERY))
advice(
    lambda query=Exchanged(QUERY, requires_grad=True): same(query),
    "call fastattn.interop.torch, which records gradients, or pass x.detach()",
    query=Exchanged(QUERY),
)
advice(lambda query=Tracer(): same(query), "call fastattn.interop.jax, which JAX can trace", query=Exchanged(QUERY))
advice(
    lambda query=Exchanged(QUERY.astype("U1")): same(query),
    "convert it first to a type and a layout that NumPy has: float32 and dense, say",
    query=Exchanged(QUERY),
)
advice(lambda query=ones(3, 4, dtype=int): same(query), "pass {query}.", query="np.asarray(query, np.float32)")
advice(lambda query=[[1, 2], [3, 4]]: same(query), "pass {query}.", query="np.asarray(query, np.float32)")
advice(lambda query=None: same(query), "pass an array of np.float32", query=ones(3, 4))
advice(lambda query=ones(3, 4, dtype=complex): same(query), "pass an array of np.float32", query=ones(3, 4))
advice(lambda key=ones(2, 5, 4, dtype="f8"): attend(key=key), "pass {key}.", key="np.asarray(key, np.float32)")
advice(lambda value=VALUE.tolist(): attend(value=value), "pass {value}.", value="np.asarray(value, np.float32)")
advice(lambda query=ones(4): same(query), "add or merge leading axes by reshape", query=ones(4).reshape(1, 4))
advice(lambda key=ones(5, 4): attend(key=key), "query has shape (2, 3, 4)", key=KEY)
advice(lambda value=ones(5, 4): attend(value=value), "query has shape (2, 3, 4)", value=VALUE)
advice(
    lambda query=ones(1, 3, 4): attend(query),
    "repeat the smaller one, for instance by np.broadcast_to; query has shape (1, 3, 4)",
    query=np.broadcast_to(ones(1, 3, 4), (2, 3, 4)),
)
advice(lambda value=ones(2, 4, 6): attend(value=value), "key has shape (2, 5, 4)", value=VALUE)
advice(lambda value=4: heads(4, 2, value), "key has shape (2, 2, 5, 4)", value=2)
advice(lambda key=3: heads(4, key, key), "the heads of query are a multiple of those of key and value", key=2)
advice(
    lambda query=huge(2**40, 1), value=huge(1, 2**25): fastattn.attention(query, ones(1, 1), value),
    "split the call into smaller ones",
    query=ones(1, 1),
    value=ones(1, 1),
)

# Options
advice(lambda mask=ones(3, 5): attend(mask=mask), "pass {mask} with True = may attend", mask="np.asarray(mask, bool)")
advice(lambda mask=ones(3, 5): attend(mask=mask), "or bias= to add numbers", lambda: attend(bias=ones(3, 5)))
advice(lambda mask=[[1, 0, 1, 0, 1]]: attend(mask=mask), "pass {mask}.", mask="np.asarray(mask, np.bool)")
advice(lambda mask="all": attend(mask=mask), "pass an array of np.bool", mask=ones(1, dtype=bool))
advice(
    lambda mask=ones(3, 1, 5, dtype=bool): attend(mask=mask),
    "axes of mask are matched from the last one; use size 1 where it does not vary",
    mask=ones(1, 1, 5, dtype=bool),
)
advice(lambda bias=ones(3, 5, dtype="f8"): attend(bias=bias), "pass {bias}.", bias="np.asarray(bias, np.float32)")
advice(
    lambda bias=ones(3, 5, dtype=bool): attend(bias=bias),
    "pass a bool array as mask=",
    lambda: attend(mask=ones(3, 5, dtype=bool)),
)
advice(
    lambda bias=RelativeBias(np.ones(7)): attend(bias=bias),
    "make it of values of np.float32",
    bias=RelativeBias(ones(7)),
)
advice(
    lambda bias=RelativeBias(ones(8)): attend(bias=bias),
    "one from -(Tq - 1) to Tk - 1",
    bias=RelativeBias(ones(len(range(-2, 5)))),
)
advice(lambda values=ones(1, 1, 7): RelativeBias(values), "one number for each distance", values=ones(7))
advice(lambda values=ones(1, 1, 7): RelativeBias(values), "or a row of them for each head", values=ones(1, 7))
advice(
    lambda key_lengths=[5.0, 4.0]: attend(key_lengths=key_lengths),
    "pass {key_lengths}.",
    key_lengths="np.asarray(key_lengths, np.int64)",
)
advice(
    lambda key_lengths=[5, 5, 5]: attend(key_lengths=key_lengths),
    "lengths belong to batch entries, not to heads or queries",
    key_lengths=[5, 5],
)
advice(
    lambda key_lengths=[7, 5]: attend(key_lengths=key_lengths),
    "clip them to the number of keys",
    key_lengths=np.clip([7, 5], 0, 5),
)
for wrong in (True, "left"):
    advice(lambda causal=wrong: attend(causal=causal), '"top_left" lets query i read keys 0..i', causal="top_left")
    advice(
        lambda causal=wrong: attend(causal=causal),
        '"bottom_right" aligns the last query with the last key',
        causal="bottom_right",
    )
for wrong in (3, (0.5, 0), (-1, 0)):
    advice(lambda window=wrong: attend(window=window), "window=(left, right) counts keys on either side", window=(3, 0))
    advice(lambda window=wrong: attend(window=window), "None is unbounded", window=(None, 0))
advice(lambda dropout="0.1": attend(dropout=dropout), "pass {dropout} for none", dropout="0.0")
advice(lambda dropout=1.5: attend(dropout=dropout), "pass {dropout} for none", dropout="0.0")
for wrong in (None, 0.5, [1, 2, 3]):
    advice(lambda seed=wrong: attend(dropout=0.5, seed=seed), "an int gives every sample of the batch a mask", seed=1)
    advice(lambda seed=wrong: attend(dropout=0.5, seed=seed), "an array (B,) fixes each sample's mask", seed=[1, 2])
advice(
    lambda dropout=0.5: fastattn.attention(ones(0, 0), huge(2**32 + 1, 0), huge(2**32 + 1, 0), dropout=dropout, seed=1),
    "attend without dropout",
    dropout=0.0,
)
advice(lambda scale="half": attend(scale=scale), "pass {scale} for none", scale="1.0")
advice(lambda scale=np.inf: attend(scale=scale), "pass {scale} for none", scale="1.0")
advice(
    lambda return_lse=np.array([True, False]): attend(return_lse=return_lse),
    "pass return_lse={return_lse}, or leave it out",
    return_lse="True",
)


def read_only():
    array = ones(2, 3, 6)
    array.flags.writeable = False
    return array


for wrong in ([1.0], ones(2, 3, 6, dtype="f8"), ones(2, 3, 5), read_only(), huge(2, 3, 6), ones(2, 3, 6)[:, :, ::-1]):
    if isinstance(wrong, np.ndarray) and wrong.strides == (0, 0, 0):
        wrong = as_strided(ones(1), (2, 3, 6), (0, 0, 0))
    value = VALUE
    if isinstance(wrong, np.ndarray) and wrong.strides[-1] < 0:
        wrong = value[:, :3]
    advice(lambda out=wrong: attend(out=out), "pass {out}, or leave it out", out="np.empty((2, 3, 6), np.float32)")
    advice(lambda out=wrong: attend(out=out), "or leave it out", out=None)

# Scores and normalizers in a call
advice(lambda w=ones(4, 4, dtype="f8"): attend(score=scores.General(w)), "pass {w}.", w="np.asarray(w, np.float32)")
advice(
    lambda return_lse=True: attend(normalizer="sparsemax", return_lse=return_lse),
    "rows of sparse weights have no log-sum-exp; leave return_lse out",
    return_lse=False,
)
advice(
    lambda normalizer="sparsemax": fastattn.attention(
        ones(0, 1), huge(2**31, 1), huge(2**31, 1), normalizer=normalizer
    ),
    "use softmax",
    normalizer="softmax",
)


# In the backward pass
def back(normalizer="softmax", return_weights=False, **cotangents):
    _, backward = fastattn.attention_vjp(QUERY, KEY, VALUE, normalizer=normalizer, return_weights=return_weights)
    return backward(**cotangents)


D_CONTEXT = ones(2, 3, 6)
advice(lambda: back(), "pass the gradient of what the loss depends on", lambda: back(d_context=D_CONTEXT))
advice(
    lambda return_weights=False: back(return_weights=return_weights, d_weights=ones(2, 3, 5)),
    "call attention_vjp(..., return_weights=True)",
    return_weights=True,
)
advice(
    lambda d_lse=ones(2, 3): back("sparsemax", d_context=D_CONTEXT, d_lse=d_lse),
    "rows of sparse weights have no log-sum-exp; leave d_lse out",
    d_lse=None,
)
advice(
    lambda d_context=ones(2, 3, 4): back(d_context=d_context),
    "pass the gradient of context",
    d_context=np.ones_like(attend()),
)
advice(
    lambda d_context=D_CONTEXT.astype("f8"): back(d_context=d_context),
    "pass {d_context}.",
    d_context="np.asarray(d_context, np.float32)",
)


# In two halves
def halves(normalizer="softmax", weights=False, bias_gradient=True, spoilt=lambda residuals: residuals):
    _, residuals = fastattn.attention_forward(QUERY, KEY, VALUE, normalizer=normalizer, return_weights=weights)
    given = spoilt(residuals)
    return fastattn.attention_backward(
        QUERY, KEY, VALUE, given, D_CONTEXT, normalizer=normalizer, bias_gradient=bias_gradient
    )


def kept(residuals):
    return residuals


FORWARDS = "pass what attention_forward returned"
SAME = "pass what attention_forward returned for the same inputs and options"
advice(lambda spoilt=tuple: halves(spoilt=spoilt), FORWARDS, spoilt=kept)
advice(lambda spoilt=lambda found: found._replace(row_max=None): halves(spoilt=spoilt), SAME, spoilt=kept)
advice(lambda spoilt=lambda found: found._replace(context=found.row_sum): halves(spoilt=spoilt), SAME, spoilt=kept)
advice(
    lambda spoilt=lambda found: found._replace(row_sum=ones(2, 3)): halves("sparsemax", spoilt=spoilt),
    SAME,
    spoilt=kept,
)


# Memories
def memory(key=KEY, value=VALUE, **options):
    return fastattn.prepare(key, value, **options)


advice(
    lambda key=ones(4), value=ones(4): memory(key, value),
    "add or merge leading axes by reshape",
    key=ones(1, 4),
    value=ones(1, 4),
)
advice(lambda value=ones(2, 4, 6): memory(value=value), "key has shape (2, 5, 4)", value=VALUE)
advice(
    lambda mask=ones(5, 3, dtype=bool): memory(mask=mask),
    "the last axis of the mask is over keys",
    mask=ones(3, 5, dtype=bool),
)
advice(lambda rows=[0.5]: memory().select(rows), "pass batch entries", rows=[0])
advice(
    lambda key=ones(5, 4), value=ones(5, 6): memory(key, value).select([0]),
    "prepare {key}, {value}",
    key="key[None]",
    value="value[None]",
)
advice(lambda rows=[2]: memory().select(rows), "they index the batch, and do not count from its end", rows=[1])
advice(
    lambda key=ones(2, 1, 4, dtype="f8"): memory().append(key, np.asarray(ones(2, 1, 6), key.dtype)),
    "pass {key}.",
    key="np.asarray(key, np.float32)",
)
advice(
    lambda key=ones(2, 1, 3): memory().append(key, ones(2, 1, 6)),
    "append what the memory was prepared from",
    key=KEY[:, :1],
)
advice(
    lambda: memory(key_lengths=[5, 4]).append(KEY, VALUE),
    "pass mask= to attend() instead",
    lambda: memory().append(KEY, VALUE).attend(QUERY, mask=ones(10, dtype=bool)),
)
advice(
    lambda query=ones(2, 3, 4, dtype="f8"): memory().attend(query),
    "pass {query}.",
    query="np.asarray(query, np.float32)",
)
advice(
    lambda query=ones(4, 3, 4): memory().attend(query),
    "the memory has shape (2, 5); use memory.select(rows) for beams",
    lambda: memory().select([0, 0, 1, 1]).attend(ones(4, 3, 4)),
)
advice(
    lambda query=ones(2, 3, 1, 4): memory(ones(2, 2, 5, 4), ones(2, 2, 5, 6)).attend(query),
    "match the heads",
    query=ones(2, 4, 1, 4),
)
advice(
    lambda storage="nonsense": fastattn.prepare(KEY, VALUE, storage=storage),
    "pass np.float16, np.int8, or ml_dtypes.bfloat16 of that package",
    storage=np.float16,
)
advice(
    lambda storage=np.float64: fastattn.prepare(KEY, VALUE, storage=storage),
    "convert key and value first, for a memory of another type",
    lambda: fastattn.prepare(KEY.astype(np.float64), VALUE.astype(np.float64), storage=np.float64),
)
