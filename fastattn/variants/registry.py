"""The variants by name, those of plugins too."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastattn.errors import UnsupportedError, describe
from fastattn.plugin.making import accepts
from fastattn.plugin.records import VariantRecord
from fastattn.plugin.registry import Registry
from fastattn.scores import registry as scores
from fastattn.variants.of_score import of_score
from fastattn.variants.protocol.variant import Variant

__all__ = ["REGISTRY", "check_normalized", "names", "options", "record", "records", "register"]

_HERE, _HEADS, _TWIN = "fastattn.variants", "fastattn.variants.heads", "fastattn._reference"
_BAHDANAU = "Bahdanau, Cho, Bengio 2015 (arXiv:1409.0473)"
_LUONG = "Luong, Pham, Manning 2015 (arXiv:1508.04025)"

_OWN = (
    VariantRecord(
        "gated_additive", f"{_HERE}.gated:GatedAdditive", "additive, the context times sigmoid(q . w + b)",
        "Xu et al. 2015 (arXiv:1502.03044), section 4.2.1", reference=f"{_TWIN}.variants:gated_additive",
    ),
    VariantRecord(
        "bahdanau", f"{_HERE}.published:bahdanau", "additive, as published", f"{_BAHDANAU}, eq. 5 and 6",
        reference=f"{_TWIN}.variants:bahdanau",
    ),
    VariantRecord(
        "multihead", f"{_HEADS}.multihead:MultiHead", "heads of scaled dot products, keys shared by groups of them",
        "Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.2; Ainslie et al. 2023 (arXiv:2305.13245)",
        reference=f"{_TWIN}.variants:multihead",
    ),
    VariantRecord(
        "additive_multihead", f"{_HEADS}.additive:AdditiveMultiHead", "heads of additive scores",
        f"Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.2; {_BAHDANAU}, A.1.2",
        reference=f"{_TWIN}.variants:additive_multihead",
    ),
    VariantRecord(
        "causal_self_attention", f"{_HEADS}.causal:CausalSelfAttention", "multihead, each position over those so far",
        "Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.3", reference=f"{_TWIN}.variants:causal_self_attention",
    ),
    VariantRecord(
        "pooling", f"{_HERE}.pooling:Pooling", "v . tanh(m W + b) or v . m, without a query",
        "Yang et al. 2016 (NAACL), eq. 5 to 7", reference=f"{_TWIN}.variants:pooling",
    ),
    VariantRecord(
        "local_m", f"{_HERE}.local:LocalM", "softmax over the keys around the t-th", f"{_LUONG}, section 3.2",
        reference=f"{_TWIN}.variants:local_m",
    ),
    VariantRecord(
        "local_p", f"{_HERE}.local:LocalP", "softmax over the keys around a predicted position, times a Gaussian",
        f"{_LUONG}, eq. 9 and 10", reference=f"{_TWIN}.variants:local_p",
    ),
    VariantRecord(
        "location_sensitive", f"{_HERE}.location_sensitive:LocationSensitive",
        "v . tanh(q W + m V + U (F * previous weights) + b)",
        "Chorowski et al. 2015 (arXiv:1506.07503), eq. 8 and 9", reference=f"{_TWIN}.variants:location_sensitive",
    ),
    VariantRecord(
        "coverage", f"{_HERE}.coverage:Coverage", "v . tanh(m W + q U + w c + b), c the sum of earlier weights",
        "See, Liu, Manning 2017 (arXiv:1704.04368), eq. 10 and 11; Tu et al. 2016 (arXiv:1601.04811)",
        reference=f"{_TWIN}.variants:coverage",
    ),
    VariantRecord(
        "neural_coverage", f"{_HERE}.neural_coverage:NeuralCoverage",
        "v . tanh(q W + m V + C U), C a vector at each position that a GRU updates",
        "Tu et al. 2016 (arXiv:1601.04811), section 3.1.2", reference=f"{_TWIN}.variants:neural_coverage",
    ),
    VariantRecord(
        "monotonic", f"{_HERE}.monotonic:Monotonic", "walks on, stops with p = sigmoid(an additive score + r)",
        "Raffel et al. 2017 (arXiv:1704.00784), eq. 11 to 14 and 16", reference=f"{_TWIN}.monotonic:monotonic",
    ),
    VariantRecord(
        "mocha", f"{_HERE}.mocha:Mocha", "softmax over the w positions up to where monotonic attention stops",
        "Chiu, Raffel 2018 (arXiv:1712.05382)", reference=f"{_TWIN}.monotonic:mocha",
    ),
    VariantRecord(
        "hard", f"{_HERE}.hard:Hard", "one position a step: drawn in training, else the likeliest",
        "Xu et al. 2015 (arXiv:1502.03044), section 4.1; Jang, Gu, Poole 2017 (arXiv:1611.01144)",
        reference=f"{_TWIN}.hard:hard",
    ),
    VariantRecord(
        "luong", f"{_HERE}.published:luong", "dot, general, concat or location", f"{_LUONG}, eq. 7",
        reference=f"{_TWIN}.variants:luong",
    ),
)  # fmt: skip


class _Variants(Registry[VariantRecord, Variant[Any]]):
    """Variants, among them that of every score."""

    def registered(self) -> Mapping[str, VariantRecord]:
        def new(registry: Registry[Any, Any], known: Mapping[str, Any]) -> dict[str, Any]:
            return {name: record for name, record in known.items() if registry.built_in.get(name) is not record}

        of_scores = new(scores.REGISTRY, scores.REGISTRY.registered())
        return {**self.built_in, **{name: of_score(r) for name, r in of_scores.items()}, **new(self, self._own)}

    def offers(self) -> Iterator[tuple[Any, VariantRecord]]:
        own = {(provider.name, record.name): (provider, record) for provider, record in super().offers()}
        given = scores.REGISTRY.offers()
        of_scores = {(provider.name, record.name): (provider, of_score(record)) for provider, record in given}
        yield from {**of_scores, **own}.values()


REGISTRY = _Variants(VariantRecord, Variant, (*map(of_score, scores.REGISTRY.built_in.values()), *_OWN))
names = REGISTRY.names
options = REGISTRY.options
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register


def check_normalized(name: str, given: Iterable[str]) -> None:
    """Raise where a normalizer is among the options for a variant whose weights follow a rule of its own."""
    if "normalizer" in given and not accepts(record(name), "normalizer"):
        hint = "'additive', 'general' and other soft attention takes one; here leave it out."
        expected = f"none with {name!r}, whose weights are not made by a normalizer of scores alone"
        raise UnsupportedError(describe("normalizer", expected, "one", hint))
