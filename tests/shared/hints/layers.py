"""Hints of functional, linear, layers and optim."""

import math

import numpy as np

from fastattn import functional, layers, linear, losses, optim
from fastattn.layers import GRU, Embedding, GRUCell, LayerNorm, Linear, LSTMCell, Parameter, Stacked
from hints import advice, ones

X, W = ones(3, 4), ones(4, 5)
RNG = np.random.default_rng(0)

# Functional
advice(lambda alpha=ones(2): functional.entmax(X, alpha), "call once for each alpha", alpha=1.0)
advice(lambda mask=ones(4): functional.softmax(X, mask=mask), "pass {mask}.", mask="np.asarray(mask, np.bool)")
advice(
    lambda mask=ones(3, dtype=bool): functional.softmax(X, mask=mask), "reshape the mask", mask=ones(3, 1, dtype=bool)
)
advice(lambda dy=ones(3): functional.softmax_vjp(X, dy), "pass y's gradient", dy=X)
advice(lambda out=ones(3): functional.exp(X, out=out), "or leave it out", out=None)
advice(lambda x=X, out=ones(3): functional.exp(x, out=out), "pass {out}, or", out="np.empty((3, 4), np.float32)")

advice(lambda x=X.astype(int): functional.exp(x), "pass {x}.", x="np.asarray(x, np.float32)")

# Linear
advice(lambda w=ones(2, 2, 5): linear.PackedWeights(w), "reshape it to (K, N)", w=W)
advice(
    lambda dtype=complex: linear.PackedWeights(W, dtype),
    "pass one of these, or leave it out to keep the type of w",
    dtype=None,
)
advice(lambda w=ones(4, 5, dtype="f8"): linear.PackedWeights(w, "int8"), "pass {w}.", w="np.asarray(w, np.float32)")
advice(
    lambda w=np.full((4, 5), math.nan, np.float32): linear.PackedWeights(w, "int8"),
    "or find out where they are from",
    w=W,
)
advice(
    lambda dtype="int8": linear.PackedWeights(np.zeros((linear.MOST_OF_INT8 + 1, 1), np.float32), dtype),
    "or use dtype={dtype}",
    dtype="'bfloat16'",
)
advice(lambda dy=ones(3, 5, dtype="f8"): linear.weight_gradient(X, dy), "pass {dy}.", dy="np.asarray(dy, np.float32)")
advice(lambda dy=ones(2, 5): linear.weight_gradient(X, dy), "pass the gradient of x @ w", dy=X @ W)
advice(lambda out=ones(5, 4): linear.weight_gradient(X, ones(3, 5), out), "or leave it out", out=None)
advice(
    lambda out=ones(5, 4): linear.weight_gradient(X, ones(3, 5), out),
    "pass {out}, or",
    out="np.zeros((4, 5), np.float32)",
)
advice(lambda out=ones(3, 10)[:, ::2]: linear.PackedWeights(W).matmul(X, out), "or leave it out", out=None)
advice(lambda sums=ones(4): linear.weight_gradient(X, ones(3, 5), sums=sums), "or leave it out", sums=None)
advice(lambda x=ones(3, 5): linear.matmul(x, W), "the matrix is (4, 5)", x=X)
advice(lambda x=X.astype("f8"): linear.matmul(x, W), "pass {x}.", x="np.asarray(x, np.float32)")
advice(
    lambda out=ones(3): linear.PackedWeights(W).matmul(X, out),
    "pass {out}, or",
    out="np.empty((3, 5), np.float32)",
)
advice(
    lambda bias=ones(4): linear.PackedWeights(W).matmul(X, bias=bias),
    "pass one number for each column of the matrix",
    bias=ones(5),
)


# Layers
def edited():
    with PARAMETER.edit() as w:
        w += 1


advice(lambda dy=ones(3): layers.dropout_vjp(X, 0.5, 1)[1](dy), "pass the gradient of the output", dy=X)
for wrong in ("0.5", 1.0):
    advice(lambda rate=wrong: layers.dropout(X, rate, 1), "pass {rate} for no dropout", rate="0.0")
advice(lambda x=np.float32(1): layers.dropout(x, 0.5, 1), "add an axis: {x}.", x="x[None]")
for wrong in (0.5, [1, 2]):
    advice(lambda seed=wrong: layers.dropout(X, 0.5, seed), "an int gives every sample of the batch a mask", seed=1)
    advice(lambda seed=wrong: layers.dropout(X, 0.5, seed), "an array (B,) fixes each sample's mask", seed=[1, 2, 3])
advice(lambda padding=9: Embedding(9, 4, padding=padding, rng=RNG), "it is the id of a row of the table", padding=8)
advice(lambda padding=9: Embedding(9, 4, padding=padding, rng=RNG), "leave it out for none", padding=None)
EMBEDDING = Embedding(9, 4, rng=RNG)
advice(lambda ids=[0.5]: EMBEDDING.forward(ids), "pass {ids}.", ids="np.asarray(ids, np.int64)")
advice(lambda ids=[9]: EMBEDDING.forward(ids), "the numbers must be those of the vocabulary in use", ids=[8])
advice(lambda dy=X: EMBEDDING.vjp([1])[1](dy), "pass the gradient of the output", dy=ones(1, 4))
advice(lambda dy=ones(1, 4, dtype="f8"): EMBEDDING.vjp([1])[1](dy), "pass {dy}.", dy="np.asarray(dy, np.float32)")
advice(lambda reset="never": GRUCell(4, 4, reset=reset, rng=RNG), "{reset} is PyTorch's GRU", reset="'after'")
advice(lambda logits=ones(3, 0): losses.log_softmax(logits), "pass at least one logit for each row", logits=ones(3, 1))
LINEAR = Linear(4, 9, rng=RNG)


def loss(x=X, targets=(1, 2, 3), smoothing=0.0):
    return losses.cross_entropy(x, LINEAR, targets, smoothing=smoothing)


advice(lambda x=W: loss(x), "the projection is (4, 9)", x=X)
advice(lambda x=X.astype("f8"): loss(x), "pass {x}.", x="np.asarray(x, np.float32)")
advice(lambda targets=[1]: loss(targets=targets), "pass one target for each row of x", targets=[1, 2, 3])
advice(lambda smoothing=1.0: loss(smoothing=smoothing), "pass {smoothing} for none", smoothing="0.0")
advice(lambda smoothing=1.0: loss(smoothing=smoothing), "{smoothing} is usual", smoothing="0.1")
advice(lambda epsilon=-1: LayerNorm(4, epsilon=epsilon), "{epsilon} is usual", epsilon="1e-5")
advice(lambda x=W: LayerNorm(4).forward(x), "the layer was made for width 4", x=X)
advice(lambda x=X.astype("f8"): LayerNorm(4).forward(x), "pass {x}.", x="np.asarray(x, np.float32)")
advice(lambda dy=W: LayerNorm(4).vjp(X)[1](dy), "pass the gradient of the output", dy=X)
advice(lambda dy=X.astype("f8"): LayerNorm(4).vjp(X)[1](dy), "pass {dy}.", dy="np.asarray(dy, np.float32)")
advice(
    lambda gradient=ones(2, 4): Parameter(ones(4)).accumulate(gradient),
    "sum it over the axes that the parameter was broadcast along",
    gradient=ones(2, 4).sum(0),
)
advice(
    lambda gradient=ones(4, dtype="f8"): Parameter(ones(4)).accumulate(gradient),
    "pass {gradient}.",
    gradient="np.asarray(gradient, np.float32)",
)
PARAMETER = Parameter(ones(4))
advice(lambda: setattr(PARAMETER, "value", ones(4)), "call assign(value)", lambda: PARAMETER.assign(ones(4)))
advice(lambda: setattr(PARAMETER, "value", ones(4)), "change the copy that `with parameter.edit() as w:` gives", edited)
advice(
    lambda size=5: Linear(4, size, rng=RNG).w.assign(ones(4, 4)),
    "the parameter keeps its shape; make another layer for another size",
    size=4,
)


# Recurrent layers
SEQUENCES = ones(2, 3, 4)
GRU4 = GRU(4, 4, rng=RNG)
advice(
    lambda backward=GRU4: layers.Bidirectional(GRU4, backward),
    "pass GRU(...) and GRU(..., reverse=True)",
    backward=GRU(4, 4, rng=RNG, reverse=True),
)
BOTH = layers.Bidirectional(GRU4, GRU(4, 4, rng=RNG, reverse=True))
advice(lambda state=1.0: BOTH.forward(SEQUENCES, state), "pass a state of both directions", state=ones(2, 8))
STACK = Stacked([GRU4, GRU4], dropout=0.5)
advice(lambda states=(ones(2, 4),): STACK.forward(SEQUENCES, states), "pass one for each layer, or None", states=None)
advice(lambda seeds=None: STACK.vjp(SEQUENCES, seeds=seeds), "pass seeds=1, say", seeds=1)
advice(
    lambda state=ones(2, 4): LSTMCell(4, 4, rng=RNG).forward(ones(2, 4), state),
    "pass both parts",
    state=(ones(2, 4), ones(2, 4)),
)
advice(lambda state=ones(2, 4): LSTMCell(4, 4, rng=RNG).forward(ones(2, 4), state), "or {state}.", state="None")
advice(lambda x=ones(2, 3, 5): GRU4.forward(x), "match the width of the layer", x=SEQUENCES)


def twice(again):
    *_, backward = GRU4.vjp(SEQUENCES)
    backward(SEQUENCES)
    return (GRU4.vjp(SEQUENCES)[-1] if again else backward)(SEQUENCES)


advice(lambda again=False: twice(again), "call vjp again", again=True)
LSTM4 = layers.LSTM(4, 4, rng=RNG)
advice(
    lambda d_state=ones(2, 4): LSTM4.vjp(SEQUENCES)[-1](SEQUENCES, d_state),
    "pass None for a part without any",
    d_state=(ones(2, 4), None),
)
advice(lambda dy=ones(2, 3): GRU4.vjp(SEQUENCES)[-1](dy), "match the sizes of the layer", dy=SEQUENCES)
advice(lambda dy=ones(2, 3, 4, dtype="f8"): GRU4.vjp(SEQUENCES)[-1](dy), "pass {dy}.", dy="np.asarray(dy, np.float32)")
advice(
    lambda lengths=[0.5, 1]: GRU4.forward(SEQUENCES, lengths=lengths),
    "count the positions of each sample",
    lengths=[3, 1],
)
advice(lambda lengths=[1]: GRU4.forward(SEQUENCES, lengths=lengths), "pass lengths of shape (B,)", lengths=[3, 1])
advice(lambda lengths=[4, 1]: GRU4.forward(SEQUENCES, lengths=lengths), "count positions, not padding", lengths=[3, 1])

# Optimizers
P = {"w": Parameter(ones(4))}


def adam(**given):
    return optim.Adam(P, **{"rate": 0.1, **given})


advice(lambda betas=(0.9, 1.0): adam(betas=betas), "0.9 and 0.999 are usual", lambda: adam(betas=(0.9, 0.999)))
advice(lambda rate=math.nan: adam(rate=rate), "check how rate is computed", rate=0.1)
STATE = adam().state()
advice(
    lambda state={}: adam().load_state({**state}), "it must come from an optimizer of the same parameters", state=STATE
)
advice(
    lambda state={**STATE, "m.w": ones(3)}: adam().load_state({**state}),
    "the parameters have another shape or dtype",
    state=STATE,
)
advice(
    lambda state={**STATE, "steps": np.array(-1)}: adam().load_state({**state}),
    "load what state() returned",
    state=STATE,
)
advice(lambda epsilon=0.0: adam(epsilon=epsilon), "{epsilon} is usual", epsilon="1e-8")
advice(lambda decay=1.0: optim.WeightAverage(P, decay), "{decay} averages about 1000 steps", decay="0.999")
advice(lambda limit=0: optim.clip_scale(1.0, limit), "pass {limit} for no limit", limit="math.inf")
advice(lambda norm=math.nan: optim.clip_scale(norm, 1.0), "lower the learning rate, or look for bad input", norm=1.0)
advice(lambda rate=0: optim.Constant(rate), "check how rate is computed", rate=1)
advice(lambda warmup=0.5: optim.Constant(1.0, warmup=warmup), "warmup counts", warmup=1)
advice(lambda state={"a": 1}: optim.Constant(1.0).load_state(state), "the state is that of another schedule", state={})


def plateau(**given):
    return optim.ReduceOnPlateau(1.0, **given)


advice(lambda factor=1: plateau(factor=factor), "{factor} halves the rate", factor="0.5")
advice(lambda threshold=-1: plateau(threshold=threshold), "{threshold} is usual", threshold="0.0")
advice(lambda better="best": plateau(better=better), "pass {better} for a loss", better='"lower"')
advice(lambda better="best": plateau(better=better), "{better} for an accuracy", better='"higher"')
advice(
    lambda state={"a": 1}: plateau().load_state(state), "the state is that of another schedule", state=plateau().state()
)
advice(lambda betas=0.9: adam(betas=betas), "0.9 and 0.999 are usual", betas=(0.9, 0.999))
advice(lambda seeds="x": STACK.vjp(SEQUENCES, seeds=seeds), "pass seeds={seeds}, say", seeds="1")
advice(lambda seeds=[0.5]: STACK.vjp(SEQUENCES, seeds=seeds), "or an array (B,)", seeds=[1, 2])
