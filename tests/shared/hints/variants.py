"""Hints of attention mechanisms."""

import math

import numpy as np

import fastattn
from fastattn import losses, scores
from fastattn.plugin import ScoreRecord, VariantRecord, isolated
from fastattn.variants import hard, registry
from fastattn.variants.heads import loading
from hints import advice, ones

MEMORY, QUERY, QUERIES = ones(2, 5, 4), ones(2, 4), ones(2, 3, 4)


def make(name="general", **given):
    sizes = {"query_width": 4, "memory_width": 4, "rng": np.random.default_rng(0)}
    return fastattn.create(name, **{**sizes, **given})


GENERAL, HEADS = make(), make("multihead", heads=2)
CAUSAL, MONOTONIC = make("causal_self_attention", heads=2), make("monotonic", width=4)


def attend(variant=GENERAL, queries=QUERIES, memory=MEMORY, **given):
    return variant.forward(queries, variant.prepare(memory, **given))


def step(variant=MONOTONIC, rows=(0, 1), state=None, **given):
    """One step with a backward pass."""
    prepared = variant.prepare(MEMORY).select(np.array(rows)) if rows != (0, 1) else variant.prepare(MEMORY)
    return variant.step_vjp(
        ones(len(rows), 4), prepared, state(prepared) if state else variant.start(prepared, **given)
    )


# Sizes and options
advice(lambda dtype=int: make(dtype=dtype), "pass {dtype}.", dtype="np.float32")
advice(lambda width=0.5: make("additive", width=width), "pass width={width}, say", width="64")
advice(lambda width=0: make("additive", width=width), "pass width={width}, say", width="64")
advice(lambda training="sgd": make("hard", training=training), "pass training={training}.", training="'gumbel'")
advice(
    lambda normalizer={"alpha": 1.3}: make(normalizer=normalizer),
    "or {normalizer} and its settings",
    normalizer="{'name': 'softmax'}",
)
advice(lambda heads=3: make("multihead", heads=heads), "pass a divisor", heads=2)
advice(lambda head_width=None: make("multihead", heads=3, head_width=head_width), "or head_width=", head_width=2)
advice(
    lambda key_heads=2: make("multihead", heads=3, head_width=2, key_heads=key_heads),
    "each key head serves as many query heads",
    key_heads=3,
)
advice(
    lambda memory_width=3: make("multihead", heads=2, memory_width=memory_width, positions="sinusoidal"),
    "the same vectors are added to queries and memory",
    memory_width=4,
)
advice(
    lambda memory_width=3: make("causal_self_attention", heads=2, memory_width=memory_width),
    "positions are queries, keys and values",
    memory_width=4,
)
advice(
    lambda rng=None: fastattn.create("dot", query_width=4, memory_width=3, rng=rng),
    "pass rng=np.random.default_rng(0): a matrix takes queries to the memory's width",
    rng=np.random.default_rng(0),
)


class Undrawn(scores.Score):
    """A score that does not say where training begins."""

    def __init__(self, w):
        super().__init__()


class Drawn(Undrawn):
    """One that does."""

    @classmethod
    def drawn(cls, query_width, key_width):
        return cls(ones(key_width))


def of_plugin(score):
    with isolated({"mine": Hooks(score)}):
        return fastattn.create("mine", query_width=4, memory_width=3, rng=np.random.default_rng(0))


class Hooks:
    """A plugin of one score."""

    def __init__(self, score):
        self.score = score

    def fastattn_scores(self):
        return [ScoreRecord("mine", self.score)]


advice(
    lambda score=Undrawn: of_plugin(score),
    "its class needs a method drawn(query_width, key_width, *, rng, dtype), which draws parameters",
    score=Drawn,
)
advice(lambda scale=math.inf: make("dot", scale=scale), "leave it out", scale=None)
advice(lambda fertility=0: make("coverage", width=4, fertility=fertility), "{fertility} is the paper's", fertility="2")
advice(
    lambda fertility=0: make("coverage", width=4, fertility=fertility),
    "leave it out for coverage without fertility",
    fertility=None,
)
advice(lambda soft_share=2: make("hard", soft_share=soft_share), "{soft_share} is the paper's", soft_share="0.5")
advice(lambda temperature=0: make("hard", temperature=temperature), "{temperature} is a start", temperature="1.0")
advice(lambda decay=1.0: hard.MovingBaseline(decay), "{decay} is the paper's", decay="0.9")
advice(lambda noise=-1: make("monotonic", width=4, noise=noise), "see the docstring for the paper's", noise=1.0)
advice(
    lambda offset=math.nan: make("monotonic", width=4, offset=offset), "see the docstring for the paper's", offset=-4.0
)


def sensitive(**given):
    return make("location_sensitive", width=4, filters=2, **{"filter_size": 3, **given})


advice(lambda filter_size=4: sensitive(filter_size=filter_size), "its middle is the key itself", filter_size=5)
advice(lambda sharpening=math.inf: sensitive(sharpening=sharpening), "{sharpening} is none", sharpening="1.0")
advice(
    lambda sharpening=2.0: sensitive(sharpening=sharpening, smoothing=True),
    "smoothing spreads the weights",
    sharpening=1.0,
)
advice(
    lambda initial="ones": sensitive(initial=initial),
    "pass initial={initial}.",
    initial="'zeros'",
)
advice(lambda score="genral": make("luong", score=score), "did you mean {score}?", score="'general'")
advice(lambda score="zzz": make("luong", score=score), "{score} did best in the paper", score="'general'")
advice(
    lambda score="general": make("luong", score=score, width=4), "only {score} has a layer between", score="'concat'"
)
advice(
    lambda query_width=4: make("pooling", width=4, query_width=query_width),
    "use 'additive' for attention with a query",
    lambda: make("additive", width=4),
)
advice(
    lambda terms=("z",): make("linear", terms=terms),
    "a term is elementwise, x the query and y a key",
    terms=("x", "y"),
)
advice(
    lambda terms=("x*y",): make("linear", terms=terms, memory_width=3),
    "only the terms x and y may differ in width",
    terms=("x", "y"),
)
advice(
    lambda activation="relu": make("linear", activation=activation),
    "pass activation={activation}.",
    activation="'linear'",
)
advice(
    lambda score="location": make("local_m", window=2, score=score),
    "a window moves, so that positions in it have no weights of their own",
    score="dot",
)


# Names
def registered(name):
    """Register a variant for a moment; if the name is taken, say so."""
    registry.register(VariantRecord(name, len))
    del registry.REGISTRY._own[name]


advice(
    lambda name="Mine": registered(name),
    "use lower case letters, digits and underscores",
    lambda: registered("mine_2"),
)
advice(lambda name="dot": registered(name), "choose another name", lambda: registered("mine_2"))
advice(
    lambda new=len: registry.register(new),
    "pass {new}.",
    lambda: registered("mine_2"),
    new="VariantRecord('mine', Mine)",
)
advice(lambda rng=7: make(rng=rng), "pass rng={rng}.", rng="np.random.default_rng(0)")
advice(
    lambda replace=False: registry.register(registry.record("dot"), replace=replace),
    "or pass replace={replace}.",
    replace="True",
)


advice(lambda name=3: fastattn.create(name), "pass {name}, say", lambda: make("dot"), name="'dot'")
advice(lambda name="generel": make(name), "did you mean {name}?", name="'general'")
advice(
    lambda options={"normalizer": "sparsemax"}: make("monotonic", width=4, **options), "here leave it out", options={}
)
advice(
    lambda name="coverage": make(name, width=4, normalizer="sparsemax"),
    "{name}, 'general' and other soft attention takes one",
    name="'additive'",
)
advice(lambda options={"widht": 3}: make("additive", **options), "did you mean 'width'?", options={"width": 3})
advice(lambda options={}: make("additive", **options), "pass width=.", options={"width": 3})
advice(
    lambda rng=None, given={}: fastattn.create("general", query_width=4, memory_width=4, **given),
    "pass rng={rng}.",
    lambda: make(rng=np.random.default_rng(0)),
    rng="np.random.default_rng(0)",
)

# Arrays
advice(
    lambda queries=ones(2, 3, 5): attend(queries=queries),
    "general has query_width 4 and memory_width 4",
    queries=QUERIES,
)
advice(
    lambda queries=ones(2, 3, 4, dtype="f8"): attend(queries=queries),
    "pass {queries}, or make the variant",
    queries="np.asarray(queries, np.float32)",
)
advice(
    lambda queries=ones(2, 3, 4, dtype="f8"), dtype=np.float32: attend(
        make(dtype=dtype), queries, ones(2, 5, 4, dtype=dtype)
    ),
    "or make the variant with dtype={dtype}.",
    dtype="np.float64",
)
advice(lambda mask=ones(2, 5): attend(mask=mask), "True = may be attended to", mask=ones(2, 5, dtype=bool))
advice(lambda lengths=[5]: attend(lengths=lengths), "pass one length a sample", lengths=[5, 4])
advice(lambda lengths=[6, 5]: attend(lengths=lengths), "they count positions of the memory", lengths=[5, 5])
advice(
    lambda longest=3: attend(make("location", longest=longest)),
    "make the variant with a larger longest=",
    longest=5,
)
advice(
    lambda memory=MEMORY: attend(make("location", longest=3), memory=memory),
    "or shorten the memory",
    memory=MEMORY[:, :3],
)
advice(
    lambda values=ones(2, 5, 3): attend(HEADS, values=values),
    "pass values= of the width that the variant was made for with value_width=",
    values=MEMORY,
)
advice(lambda given={"lengths": [5, 4]}: attend(CAUSAL, **given), "pass what precedes the queries, whole", given={})

# States
advice(
    lambda state=lambda prepared: None: step(state=state),
    "pass what start() or the step before returned",
    state=MONOTONIC.start,
)
advice(
    lambda rows=(1, 0): step(GENERAL, rows), "train on what prepare() returned; selections are for search", rows=(0, 1)
)
advice(
    lambda state=lambda prepared: GENERAL: step(state=state),
    "pass what start() or the step before returned",
    state=lambda prepared: MONOTONIC.step(QUERY, prepared, MONOTONIC.start(prepared))[-1],
)


def selected(together):
    prepared = MONOTONIC.prepare(MEMORY)
    state, rows = MONOTONIC.start(prepared), np.array([1])
    return MONOTONIC.step(ones(1, 4), prepared.select(rows), state.select(rows) if together else state)


def of(longer, again):
    """A step over a memory, perhaps a longer one, with a state of that one or of a shorter one."""
    memory = MONOTONIC.prepare(np.repeat(MEMORY, 2 if longer else 1, axis=1))
    return MONOTONIC.step(QUERY, memory, MONOTONIC.start(memory if again else MONOTONIC.prepare(MEMORY)))


advice(lambda again=False: of(True, again), "start() anew for another memory", again=True)
advice(
    lambda prepared=None: GENERAL.forward(QUERIES, prepared),
    "pass {prepared}.",
    lambda: GENERAL.forward(QUERIES, GENERAL.prepare(MEMORY)),
    prepared="variant.prepare(memory, lengths, mask)",
)
advice(
    lambda variant=MONOTONIC: GENERAL.forward(QUERIES, variant.prepare(MEMORY)),
    "prepare() it by the variant that attends",
    variant=GENERAL,
)
POOLING = fastattn.create("pooling", memory_width=4, width=3, rng=np.random.default_rng(0))
advice(
    lambda: POOLING.forward(MEMORY),
    "call pool(variant.prepare(memory))",
    lambda: POOLING.pool(POOLING.prepare(MEMORY)),
)
advice(
    lambda width=3, rng=None: fastattn.create("pooling", memory_width=4, width=width, rng=rng),
    "pass rng=np.random.default_rng(0), or width=None for no layer between",
    rng=np.random.default_rng(0),
)


def exchange():
    GENERAL.prepare(MEMORY).memory = MEMORY[:1]


advice(exchange, "prepare() another memory", lambda: GENERAL.prepare(MEMORY[:1]))
advice(exchange, "or select() rows of this one", lambda: GENERAL.prepare(MEMORY).select([0]))
advice(lambda together=False: selected(together), "select the same rows of the state and of the memory", together=True)
advice(
    lambda mode="hard": step(mode=mode), "train with start(prepared), whose alignments are expected ones", mode="soft"
)
advice(
    lambda seeds=[1, 2]: MONOTONIC.start(MONOTONIC.prepare(MEMORY), mode="hard", seeds=seeds),
    "noise is for training",
    seeds=None,
)
advice(lambda seeds=[1]: step(seeds=seeds), "pass one seed a sample", seeds=[1, 2])


def causal(back, state=True):
    prepared = CAUSAL.prepare(MEMORY)
    if back == "vjp":
        return CAUSAL.vjp(QUERIES, prepared, state=CAUSAL.start(prepared) if state else None)
    state = (CAUSAL.step_vjp if back else CAUSAL.step)(QUERY, prepared, CAUSAL.start(prepared))[2]
    return CAUSAL.step_vjp(QUERY, prepared, state)


advice(lambda back=False: causal(back), "make every step with step_vjp, from start() on", back=True)
advice(lambda state=True: causal("vjp", state), "prepare what precedes the queries as the memory", state=False)


# In the backward pass
def back(return_weights=False, **cotangents):
    return GENERAL.vjp(QUERIES, GENERAL.prepare(MEMORY), return_weights=return_weights)[1](**cotangents)


D_CONTEXT = ones(2, 3, 4)
advice(
    lambda cotangents={}: back(**cotangents),
    "pass the gradient of what the loss depends on",
    cotangents={"d_context": D_CONTEXT},
)
advice(
    lambda return_weights=False: back(return_weights, d_weights=ones(2, 3, 5)),
    "call vjp(..., return_weights=True)",
    return_weights=True,
)
advice(lambda d_context=QUERY: back(d_context=d_context), "pass the gradient of the output", d_context=D_CONTEXT)


def steps_back(times=1, d_state=None):
    """Go back one step of two, with some d_state."""
    prepared = MONOTONIC.prepare(MEMORY)
    _, _, after, first = MONOTONIC.step_vjp(QUERY, prepared, MONOTONIC.start(prepared))
    second = MONOTONIC.step_vjp(QUERY, prepared, after)[3]
    d_state = d_state(second) if callable(d_state) else d_state
    for _ in range(times):
        first(QUERY, None, d_state)


advice(lambda times=2: steps_back(times), "call step_vjp again for another backward pass", times=1)
advice(
    lambda d_state=QUERY: steps_back(d_state=d_state),
    "pass what the backward pass of the step after this one returned",
    d_state=lambda second: second(QUERY)[1],
)
advice(lambda d_state=QUERY: steps_back(d_state=d_state), "or None", d_state=None)

# Losses
WEIGHTS = ones(2, 3, 5) / 5


def sampled(training="reinforce", seeds=(1, 2)):
    variant = make("hard", training=training)
    prepared = variant.prepare(MEMORY)
    state = variant.start(prepared, seeds=None if seeds is None else np.array(seeds))
    return hard.reinforce(variant.step_vjp(QUERY, prepared, state)[2], ones(2))


advice(lambda training="gumbel": sampled(training), "make the variant with training={training}", training="'reinforce'")
advice(lambda seeds=None: sampled(seeds=seeds), "and start with seeds", seeds=[1, 2])
advice(
    lambda given=ones(2, 3): losses.marginal_likelihood(WEIGHTS, given),
    "one for each sample, step and position",
    given=-WEIGHTS,
)
advice(
    lambda log_likelihoods=WEIGHTS.astype("f8"): losses.marginal_likelihood(WEIGHTS, log_likelihoods),
    "pass {log_likelihoods}.",
    log_likelihoods="np.asarray(log_likelihoods, np.float32)",
)
advice(
    lambda weights=WEIGHTS[None]: losses.doubly_stochastic_loss(weights),
    "choose one head, or call it for each",
    weights=WEIGHTS,
)
advice(
    lambda allowed=ones(2, 5): losses.doubly_stochastic_loss(WEIGHTS, allowed=allowed),
    "True = may be attended to",
    allowed=ones(2, 5, dtype=bool),
)

advice(
    lambda state=None: hard.reinforce(state, ones(2)),
    "pass what the last step returned",
    state=hard.SampledState(np.zeros(2, np.uint64), 1, ones(2), ones(2)),
)
advice(lambda rewards=ones(2, 1): hard.MovingBaseline().advantage(rewards), "pass one reward a sample", rewards=ones(2))
advice(
    lambda weights=WEIGHTS[None]: losses.coverage_loss(weights),
    "choose one head, or call it for each",
    weights=WEIGHTS,
)

# Parameters of other libraries
PARTS = [ones(4, 2, 2), ones(2, 2), ones(4, 2, 2), ones(2, 2), ones(4, 2, 2), ones(2, 2), ones(2, 2, 4), ones(4)]
advice(
    lambda weights=PARTS[:3]: loading.load_keras(make("multihead", heads=2), weights),
    "pass the layer's get_weights()",
    weights=PARTS,
)
advice(
    lambda bias=False: loading.load_keras(make("multihead", heads=2, bias=bias), PARTS),
    "make the variant with bias={bias}.",
    bias="True",
)
advice(
    lambda heads=2: loading.load_keras(make("multihead", heads=heads, head_width=4), PARTS),
    "make the variant with the widths and heads of that layer",
    lambda: loading.load_keras(make("multihead", heads=2), PARTS),
)
STATE = {
    "in_proj_weight": ones(12, 4),
    "in_proj_bias": ones(12),
    "out_proj.weight": ones(4, 4),
    "out_proj.bias": ones(4),
}
for wrong in ({}, make("multihead", heads=2), {**STATE, "bias_k": ones(1, 1, 4)}):
    advice(
        lambda state=wrong: loading.load_torch(make("multihead", heads=2), state),
        "pass the state_dict() of a torch.nn.MultiheadAttention that has add_bias_kv=False",
        state=STATE,
    )
