"""Tensors of Marian and BART as Transformers names and lays them out, and those of our Transformer.

A matrix of theirs is (outputs, inputs), ours (inputs, outputs); ours has side by side what one input is multiplied by.
Marian adds all sines before all cosines where ours take turns. As nothing else depends on the order of the features of
a state, theirs are put in that of ours, wherever a tensor has an axis of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastattn._arrays import Array
from fastattn.errors import CheckpointError, describe_file
from fastattn.positions.tables import sinusoids
from fastattn.seq2seq.models.transformer import TransformerConfig
from fastattn.seq2seq.text.vocabulary import BOS

__all__ = ["Layout", "Theirs", "read", "write"]

# Rows before the first position in BART's tables.
_OFFSET = 2

# By how much the logit of a token that is never chosen is below the one that it is a copy of: e^-100 of a probability
# is less than any float32, and what label smoothing makes of it does no harm.
_NEVER = np.float32(100)

_HINT = "convert a model of the published architecture, saved by save_pretrained."


@dataclass(frozen=True)
class Layout:
    """Where rows of tokens are in their tables.

    Attributes
    ----------
    source, target : int array
        For each of our ids the row of theirs.
    silent : tuple of int
        Of our target ids those that their search never chooses, besides `BOS` where it is a copy of another token.
    """

    source: Array
    target: Array
    silent: tuple[int, ...] = ()


class _Product(NamedTuple):
    """A Linear of ours, theirs that it has side by side, and whether inputs and outputs are features of a state."""

    ours: str
    theirs: tuple[str, ...]
    inputs: int
    outputs: int
    of_states: tuple[bool, bool]


class Theirs:
    """Tensors by name, each of which is to be read.

    Parameters
    ----------
    tensors : mapping of str to array
    place : object
        Where they are from, for messages.
    """

    def __init__(self, tensors: Mapping[str, Array], place: object) -> None:
        self._left, self.place = dict(tensors), place

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> Array:
        """Return a tensor as float32, or raise unless there is one of that shape."""
        found = self._left.pop(name, None)
        if found is None or found.shape != shape or found.dtype.kind != "f":
            got = "there is none" if found is None else f"got {found.dtype} of shape {found.shape}"
            raise self.refusal(f"{name}: expected a tensor of shape {shape}, {got}")
        return found.astype(np.float32)

    def same(self, name: str, other: Array, room: float = 0.0) -> None:
        """Raise if there is a tensor of this name that is not, but for `room`, another one."""
        if name in self and not np.abs(self.take(name, *other.shape) - other).max(initial=0) <= room:
            raise self.refusal(f"{name}: is not what its model computes or shares")

    def done(self) -> None:
        """Raise if there are tensors that nothing has read."""
        if self._left:
            raise self.refusal(f"{len(self._left)} tensors are of no known part ({', '.join(sorted(self._left)[:3])})")

    def refusal(self, problem: str) -> CheckpointError:
        """Return the error that says so."""
        return CheckpointError(describe_file(self.place, problem, _HINT))


def read(theirs: Theirs, config: TransformerConfig, layout: Layout) -> dict[str, Array]:
    """Return the parameters of our model by name, or raise a CheckpointError by the name of what differs."""
    order, found = _order(config), dict[str, Array]()
    for one in _products(config):
        split = one.outputs // len(one.theirs)
        w = np.concatenate([theirs.take(f"{name}.weight", split, one.inputs).T for name in one.theirs], axis=1)
        b = np.concatenate([theirs.take(f"{name}.bias", split) for name in one.theirs])
        w = w[order] if one.of_states[0] else w
        found[f"{one.ours}.w"], found[f"{one.ours}.b"] = (w[:, order], b[order]) if one.of_states[1] else (w, b)
    for ours, name in _norms(config):
        found[f"{ours}.gain"] = theirs.take(f"{name}.weight", config.width)[order]
        found[f"{ours}.offset"] = theirs.take(f"{name}.bias", config.width)[order]
    for side, ours in (("encoder", "source"), ("decoder", "target")):
        name = f"model.{side}.embed_positions.weight"
        if config.positions == "learned":
            table = theirs.take(name, config.longest + _OFFSET, config.width)
            found[f"{ours}_positions.rows.w"] = table[_OFFSET:]
        elif name in theirs:
            longest = len(theirs._left[name])
            theirs.same(name, sinusoids(0, longest, config.width)[:, np.argsort(order)].astype(np.float32), 1e-5)
    _read_tables(theirs, config, layout, order, found)
    theirs.done()
    return found


def _read_tables(
    theirs: Theirs, config: TransformerConfig, layout: Layout, order: Array, found: dict[str, Array]
) -> None:
    """Read what has a row for each token, which is in their file once or under the names of all that share it."""
    rows = {"source": int(layout.source.max()) + 1, "target": int(layout.target.max()) + 1}
    shared = ("model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    tables: dict[str, dict[str, tuple[str, ...]]] = {
        "all": {"projection.w": (*shared, "lm_head.weight")},
        "target": {"source_embedding.w": shared[1:2], "projection.w": (*shared[2:], "lm_head.weight")},
        "none": {
            "source_embedding.w": shared[1:2], "target_embedding.w": shared[2:], "projection.w": ("lm_head.weight",)
        },
    }  # fmt: skip
    for ours, several in tables[config.tied].items():
        side = "source" if ours.startswith("source") else "target"
        first = next((name for name in several if name in theirs), several[0])
        table = theirs.take(first, rows[side], config.width)
        for name in several:
            theirs.same(name, table)
        own = table[layout.source if side == "source" else layout.target][:, order]
        found[ours] = own.T if ours == "projection.w" else own
    bias = np.zeros(rows["target"], np.float32)
    if "final_logits_bias" in theirs:
        bias = theirs.take("final_logits_bias", 1, rows["target"])[0]
    bias = bias[layout.target]
    copied = np.count_nonzero(layout.target == layout.target[BOS]) > 1
    for number in (*layout.silent, *((BOS,) if copied else ())):
        bias[number] -= _NEVER
    found["projection.b"] = bias


def write(parameters: Mapping[str, Array], config: TransformerConfig, layout: Layout) -> dict[str, Array]:
    """Return the tensors of theirs by name, from the parameters of our model."""
    back, made = np.argsort(_order(config)), {}
    for one in _products(config):
        w = parameters[f"{one.ours}.w"]
        b = parameters.get(f"{one.ours}.b", np.zeros(one.outputs, np.float32))
        w = w[back] if one.of_states[0] else w
        w, b = (w[:, back], b[back]) if one.of_states[1] else (w, b)
        parts = len(one.theirs)
        for name, weight, bias in zip(one.theirs, np.split(w, parts, axis=1), np.split(b, parts)):
            made[f"{name}.weight"], made[f"{name}.bias"] = weight.T, bias
    for ours, name in _norms(config):
        made[f"{name}.weight"] = parameters[f"{ours}.gain"][back]
        made[f"{name}.bias"] = parameters[f"{ours}.offset"][back]
    if config.positions == "learned":
        for side, ours in (("encoder", "source"), ("decoder", "target")):
            rows = parameters[f"{ours}_positions.rows.w"]
            made[f"model.{side}.embed_positions.weight"] = np.concatenate([np.zeros_like(rows[:_OFFSET]), rows])
    output = _placed(parameters["projection.w"].T[:, back], layout.target)
    if config.tied == "all":
        made["model.shared.weight"] = output
    else:
        made["model.encoder.embed_tokens.weight"] = _placed(parameters["source_embedding.w"][:, back], layout.source)
        made["lm_head.weight"] = made["model.decoder.embed_tokens.weight"] = output
        if config.tied == "none":
            embedded = parameters["target_embedding.w"][:, back]
            made["model.decoder.embed_tokens.weight"] = _placed(embedded, layout.target)
    made["final_logits_bias"] = _placed(parameters["projection.b"], layout.target)[None]
    return {name: np.array(tensor, np.float32, order="C") for name, tensor in made.items()}


def _placed(rows: Array, places: Array) -> Array:
    """Return rows at their places, zeros elsewhere."""
    made = np.zeros((int(places.max()) + 1, *rows.shape[1:]), np.float32)
    made[places] = rows
    return made


def _order(config: TransformerConfig) -> Array:
    """Return for each of our features of a state the number that it has in theirs."""
    every = np.arange(config.width)
    if config.positions == "learned":
        return every
    return np.where(every % 2, (config.width + 1) // 2 + every // 2, every // 2)


def _products(config: TransformerConfig) -> Iterator[_Product]:
    D, inner = config.width, config.inner
    for side, count in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for number in range(count):
            ours, theirs = f"{side}.{number}", f"model.{side}.layers.{number}"

            def heads(name: str, letters: str, at: str = theirs) -> tuple[str, ...]:
                return tuple(f"{at}.{name}.{letter}_proj" for letter in letters)

            yield _Product(f"{ours}.attention.project", heads("self_attn", "qkv"), D, 3 * D, (True, False))
            yield _Product(f"{ours}.attention.output", (f"{theirs}.self_attn.out_proj",), D, D, (False, True))
            if side == "decoder":
                yield _Product(f"{ours}.cross.query", heads("encoder_attn", "q"), D, D, (True, False))
                yield _Product(f"{ours}.cross.project", heads("encoder_attn", "kv"), D, 2 * D, (True, False))
                yield _Product(f"{ours}.cross.output", (f"{theirs}.encoder_attn.out_proj",), D, D, (False, True))
            yield _Product(f"{ours}.network.inner", (f"{theirs}.fc1",), D, inner, (True, False))
            yield _Product(f"{ours}.network.outer", (f"{theirs}.fc2",), inner, D, (False, True))


def _norms(config: TransformerConfig) -> Iterator[tuple[str, str]]:
    for side, count in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for number in range(count):
            ours, theirs = f"{side}.{number}", f"model.{side}.layers.{number}"
            yield f"{ours}.attended.norm", f"{theirs}.self_attn_layer_norm"
            if side == "decoder":
                yield f"{ours}.crossed.norm", f"{theirs}.encoder_attn_layer_norm"
            yield f"{ours}.fed.norm", f"{theirs}.final_layer_norm"
    if config.norm_embedding:
        yield "source_norm", "model.encoder.layernorm_embedding"
        yield "target_norm", "model.decoder.layernorm_embedding"
