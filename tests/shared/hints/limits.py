"""Hints of what is known before training, and of sizes and positions that do not fit."""

from dataclasses import replace
from pathlib import Path
from unittest import mock

from fastattn import seq2seq
from fastattn.seq2seq import ChoConfig, InferenceConfig, TransformerConfig
from hints import advice
from hints.runs import CONFIG, forged, same, train

TINY = {"width": 4, "heads": 2, "inner": 4, "encoder_layers": 1, "decoder_layers": 1}


def learned(longest=6, folder="run", **training):
    return train(folder, config=replace(CONFIG, model=TransformerConfig(**TINY, positions="learned", longest=longest)),
                 **training)  # fmt: skip


def small_machine(width=64):
    with mock.patch("fastattn.seq2seq.runs.prospect.memory", lambda: 1 << 17):
        return train(config=replace(CONFIG, model=TransformerConfig(**{**TINY, "width": width})))


advice(lambda width=64: small_machine(width), "give it smaller sizes", width=4)
advice(lambda longest=5: learned(longest), "give at least {longest}, or", longest="6")
advice(lambda most=5: learned(5, max_length=most), "or lower training.max_length", most=4)
advice(
    lambda penalty=0.5: train(
        config=replace(
            CONFIG,
            model=ChoConfig(embedding=4, hidden=4, readout_width=4),
            inference=InferenceConfig(coverage_penalty=penalty),
        )
    ),
    "leave it out",
    penalty=0.0,
)
advice(
    lambda cache="int8": train(config=replace(CONFIG, inference=InferenceConfig(cache=cache))),
    "leave it out",
    cache="float32",
)


def score(source="ab", longest=6, max_length=5):
    if not Path(f"run-{longest}").exists():
        learned(longest, f"run-{longest}", max_length=max_length)
    return seq2seq.load(f"run-{longest}").score([source], ["ba"])


advice(lambda source="abcabca": score(source), "leave the pair out", source="abc")
advice(lambda longest=6: score("abcabca", longest), "or train with more positions", longest=20)


def sized(hidden):
    return lambda config: {**config, "model": {**config["model"], "hidden": hidden}}


advice(
    lambda config=sized(8000): forged(config=config),
    "use the configuration and the vocabularies that were saved with it",
    config=same,
)


def resumed(folder):
    return train(folder, resume=True, max_steps=4)


advice(
    lambda change=lambda progress: {**progress, "position": {**progress["position"], "step": 1}}: forged(
        resumed, progress=change
    ),
    "use another checkpoint",
    change=same,
)
