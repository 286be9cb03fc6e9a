"""Hints of the trained models: how they are made, called, searched and measured."""

import numpy as np

from fastattn import seq2seq
from fastattn.seq2seq import (
    BahdanauConfig,
    Batch,
    Batches,
    ChoConfig,
    LuongConfig,
    SutskeverConfig,
    TransformerConfig,
    metrics,
)
from fastattn.seq2seq.models.registry import record
from fastattn.seq2seq.search.evaluation import evaluate
from fastattn.seq2seq.text.batches import group, pad
from hints import advice

GRU = {"embedding": 4, "hidden": 4}
HEADS = {"width": 4, "heads": 2, "inner": 4, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}


def build(config, source=8, target=9):
    return seq2seq.build(config, source, target, seed=0)


def bahdanau(**given):
    return build(BahdanauConfig(**{**GRU, "attention": 4, "readout_width": 4, **given}))


def cho(**given):
    return build(ChoConfig(**{**GRU, "readout_width": 4, **given}))


def sutskever(**given):
    return build(SutskeverConfig(**{**GRU, "layers": 1, **given}))


def luong(**given):
    return build(LuongConfig(**{**GRU, "layers": 1, **given}))


def transformer(source=8, **given):
    return build(TransformerConfig(**{**HEADS, **given}), source)


# Settings
advice(lambda kind="bahdanu": record(kind), "did you mean {kind}?", kind="'bahdanau'")
advice(lambda size=3: build(BahdanauConfig(**GRU), size), "pass source_vocabulary_size={size}, say", size="64")
advice(lambda hidden=0: bahdanau(hidden=hidden), "the default is 1000", hidden=4)
advice(lambda dropout=1.0: bahdanau(dropout=dropout), "the default is {dropout}.", dropout="0.0")
advice(lambda readout="max": bahdanau(readout=readout), "did you mean {readout}?", readout="'maxout'")
advice(
    lambda tied=True, readout_width=3: bahdanau(tied=tied, readout_width=readout_width), "change these", readout_width=4
)
advice(lambda tied=True: bahdanau(tied=tied, readout_width=3), "or leave tied out", tied=False)
advice(lambda reset="never": cho(reset=reset), "known are published, before, after", reset="published")
advice(lambda reset="never": bahdanau(reset=reset), "known are after, before", reset="after")
for make in (sutskever, luong):
    advice(lambda layers=0, make=make: make(layers=layers), "the default is {layers}.", layers="4")
advice(lambda score="genral": luong(score=score), "did you mean {score}?", score="'general'")
advice(
    lambda options={"score": "dot"}: luong(mechanism={"name": "luong", "score": "dot"}, **options),
    "leave score out: the mechanism has its own",
    options={},
)
advice(lambda positions="rotery": transformer(positions=positions), "did you mean {positions}?", positions="'rotary'")
advice(lambda norm="layer": transformer(norm=norm), "known are post, pre", norm="pre")
advice(
    lambda encoder_layers=0: transformer(encoder_layers=encoder_layers),
    "the default is {encoder_layers}.",
    encoder_layers="6",
)
advice(lambda source=8: transformer(source, tied="all"), "share one vocabulary", source=9)
advice(lambda tied="all": transformer(tied=tied), "or use tied={tied}.", tied='"target"')
advice(lambda heads=3: transformer(heads=heads), "give another number of heads", heads=2)

advice(lambda width=4: transformer(heads=3, width=width), "or another width", width=6)

# Mechanisms
advice(
    lambda mechanism={}: bahdanau(mechanism=mechanism),
    'write name = "location_sensitive", say',
    mechanism={"name": "location_sensitive"},
)
advice(
    lambda mechanism={"name": "additive", "query_width": 4}: bahdanau(mechanism=mechanism),
    "leave it out: it is decided elsewhere",
    mechanism={"name": "additive"},
)
advice(
    lambda mechanism={"name": "additive", "widht": 4}: bahdanau(mechanism=mechanism),
    "did you mean 'width'?",
    mechanism={"name": "additive", "width": 4},
)
advice(
    lambda mechanism={"name": "causal_self_attention", "heads": 2}: luong(mechanism=mechanism),
    "its memory grows with the queries",
    mechanism={"name": "multihead", "heads": 2},
)

# Batches
A, B = [np.array([4, 5, 2], np.int32)], [np.array([6, 7, 2], np.int32)]
advice(
    lambda tokens_per_batch=2: Batches(A, B, tokens_per_batch=tokens_per_batch),
    "raise tokens_per_batch",
    tokens_per_batch=9,
)
advice(lambda texts=[*A, *A]: Batches(texts, B, tokens_per_batch=9), "give one target for every source", texts=A)
advice(lambda pool=0: Batches(A, B, tokens_per_batch=9, pool=pool), "pass pool={pool}, say", pool="64")

# Calls
SOURCE, LENGTHS = pad(A)
MODEL = bahdanau()


def batch(source=SOURCE, source_lengths=LENGTHS, target=SOURCE, target_lengths=LENGTHS):
    return Batch(source, source_lengths, target, target_lengths, np.arange(len(source)))


def loss(batch=None, seeds=(1,), sampling=0.0, model=MODEL):
    return model.loss_vjp(batch or BATCH, seeds=np.array(seeds), sampling=sampling)


BATCH = batch()
advice(
    lambda source=SOURCE[0]: loss(batch(source)),
    "pad sentences to one length",
    lambda: loss(batch(pad([SOURCE[0]])[0])),
)
advice(
    lambda lengths=np.array([3, 3]): loss(batch(source_lengths=lengths)), "pass one length a sentence", lengths=LENGTHS
)
advice(
    lambda lengths=np.array([0]): loss(batch(source_lengths=lengths)),
    "a sentence has at least its end token",
    lengths=LENGTHS,
)
advice(
    lambda target=np.repeat(SOURCE, 2, 0), lengths=np.repeat(LENGTHS, 2): loss(
        batch(target=target, target_lengths=lengths)
    ),
    "a batch has pairs of sentences",
    target=SOURCE,
    lengths=LENGTHS,
)
advice(lambda seeds=[0.5]: loss(seeds=seeds), "pass uint64 seeds", seeds=np.ones(1, np.uint64))
advice(lambda sampling=2: loss(sampling=sampling), "{sampling} is teacher forcing", sampling="0")
advice(lambda weights="all": MODEL.teacher_forcing(BATCH, weights=weights), "{weights} suits most uses", weights="True")
advice(
    lambda name="multihead": loss(
        model=bahdanau(coverage_loss=1.0, mechanism={"name": name, **({"heads": 2} if name == "multihead" else {})})
    ),
    "choose a mechanism with one head",
    name="coverage",
)


# Search
def ending():
    """A model that writes nothing but ends."""
    model = bahdanau()
    with model.projection.b.edit() as value:
        value[seq2seq.EOS] = 99
    return model


def beam(model=MODEL, **given):
    return seq2seq.beam_search(model, SOURCE, LENGTHS, **{"size": 2, "limit": 3, **given})


def sample(seeds=(1,), **given):
    return seq2seq.sample(MODEL, SOURCE, LENGTHS, seeds=np.array(seeds), **{"limit": 3, **given})


advice(lambda size=2: beam(size=size, best=3), "a beam of n finds at most n sentences", size=3)
advice(lambda penalty=-1: beam(length_penalty=penalty), "the default is {penalty}.", penalty="0.6")
advice(lambda penalty=100: beam(ending(), length_penalty=penalty, limit=7500), "{penalty} is much already", penalty="1")
advice(lambda seeds=[0.5]: sample(seeds), "pass one seed a sample", seeds=np.ones(1, np.uint64))
advice(
    lambda temperature=0: sample(temperature=temperature),
    "use greedy for the limit 0",
    lambda: seq2seq.greedy(MODEL, SOURCE, LENGTHS, limit=3),
)
advice(lambda top_k=0: sample(top_k=top_k), "leave it out to draw from all tokens", top_k=None)
advice(lambda top_p=0: sample(top_p=top_p), "{top_p} draws from all tokens", top_p="1")
for wrong in ("3", 0):
    advice(lambda limit=wrong: beam(limit=limit), "count target tokens", limit=3)
advice(lambda forbid=[2]: beam(forbid=forbid), "the end must stay possible", forbid=[3])
for wrong in ([[4], [5]], [[2]]):
    advice(lambda prefix=wrong: beam(prefix=prefix), "pass a list of ids for each source", prefix=[[4]])
advice(lambda limit=2: beam(prefix=[[4, 5]], limit=limit), "raise it", limit=3)
advice(lambda models=[3]: seq2seq.Ensemble(models), "or the models of translators", models=[MODEL])
advice(
    lambda models=[MODEL, build(MODEL.config, 9, 12)]: seq2seq.Ensemble(models),
    "pass models that were trained with the same vocabularies",
    models=[MODEL, MODEL],
)
advice(
    lambda model=seq2seq.Ensemble([MODEL]): model.teacher_forcing(BATCH, weights="layers"),
    "ask the models one by one",
    model=MODEL,
)
advice(
    lambda model=seq2seq.Ensemble([MODEL]): model.loss_vjp(BATCH, seeds=np.array([1])),
    "train its models one by one",
    model=MODEL,
)
advice(
    lambda model=sutskever(): seq2seq.greedy(model, SOURCE, LENGTHS, limit=3, weights=True),
    "ask for no weights",
    lambda: seq2seq.greedy(sutskever(), SOURCE, LENGTHS, limit=3),
)


advice(lambda cache="int8": beam(cache=cache), "Transformers of float32 have such caches", cache="float32")


def diverged():
    model = bahdanau()
    with model.projection.b.edit() as value:
        value[...] = np.nan
    return model


advice(
    lambda model=diverged(): seq2seq.greedy(model, SOURCE, LENGTHS, limit=3),
    "use a checkpoint from before its training diverged",
    model=MODEL,
)
WEIGHTS = np.ones((1, 1))
advice(
    lambda tokens=seq2seq.BOS: MODEL.step(tokens, MODEL.encode(SOURCE, LENGTHS)),
    "pass BOS, or what was chosen, for each",
    tokens=[seq2seq.BOS],
)
advice(
    lambda ids=[3, 3]: seq2seq.replace_unknown(["?"], ids, WEIGHTS, ["a"]),
    "pass ids and weights of the same hypothesis",
    ids=[3],
)

# Metrics
VOCABULARY = seq2seq.Vocabulary(["a", "b"])
advice(
    lambda metrics=["bleuu"]: evaluate(["a"], [["a"]], VOCABULARY, metrics),
    "did you mean {metric}?",
    lambda: evaluate(["a"], [["a"]], VOCABULARY, ["bleu"]),
    metric="'bleu'",
)
advice(
    lambda references=[[]]: metrics.count_errors([["a"]], references),
    "give every output at least one reference",
    references=[[["a"]]],
)
advice(
    lambda references=[["a"]]: metrics.count_errors([["a"], ["b"]], [references]),
    "give one entry of references",
    lambda: metrics.count_errors([["a"]], [[["a"]]]),
)
advice(
    lambda targets=["x"]: metrics.group_references(["a", "b"], targets),
    "give one target for every source",
    targets=["x", "y"],
)
advice(
    lambda references=[["a", "b"], ["a"]]: metrics.chrf(["a", "b"], references),
    "give one more of those that have fewer",
    references=[["a", "b"], ["a", "c"]],
)
advice(
    lambda references=["a b"]: metrics.count_errors([["a", "b"]], references),
    "split texts",
    references=[["a b".split()]],
)
advice(
    lambda references=[["a b"]]: metrics.count_errors([["a", "b"]], references),
    "split texts",
    references=[["a b".split()]],
)
advice(
    lambda references=["a"]: metrics.chrf(["a"], references),
    "give a list of references for each output, [] around one alone",
    references=[["a"]],
)
advice(lambda outputs="a": metrics.chrf(outputs, [["a"]]), "pass a list of texts, each of them a str", outputs=["a"])

# Arguments of another sort
advice(lambda sequences=3: pad(sequences), "pass a list of arrays of ids, such as encode returns", sequences=[[4, 2]])
advice(lambda sequences=[3]: pad(sequences), "pass a list of arrays of ids, such as encode returns", sequences=[[4, 2]])
advice(lambda lengths=[0.5]: group(lengths, 8), "pass one length a sample", lengths=[3])
advice(
    lambda left=3: metrics.edit_distance(left, ["a"]),
    "pass lists of tokens, or two texts to be compared by characters",
    left=["a"],
)
advice(lambda batch=3: MODEL.loss(batch), "pass a fastattn.seq2seq.Batch", batch=BATCH)
WORDS = seq2seq.Vocabulary(["a"])
advice(
    lambda config=None: seq2seq.Translator(MODEL, WORDS, WORDS, config),
    "load() makes a whole Translator from a folder",
    config=seq2seq.Config(model=MODEL.config),
)
advice(lambda model=None: seq2seq.greedy(model, SOURCE, LENGTHS, limit=3), "pass what build returned", model=MODEL)
