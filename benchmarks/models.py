"""Models of others against their own code: ``python -m benchmarks.models [marian] [diacritizer] [pronouncer]``.

- marian: 6 + 6 layers of width 512, random weights, 32 sentences of 20 tokens, five beams, 20 tokens each: `generate`
  of Transformers with its sdpa attention, with ours, and the model converted to `fastattn.seq2seq`.
- diacritizer: the weights of the package arabic-diacritizer in layers of fastattn, against the package's own code:
  texts of 60, 8 x 120 and 500 letters, gradients of all parameters and a step of training with Adam at 120 letters, the
  memory that 2000 letters take.
- pronouncer: those of g2p-fa, likewise: 100 words one by one, and 256 and 1000 at once, 29 sounds
  each, in the precisions "highest" and "batched".

PyTorch, Transformers and the packages have to be installed. Ratios are of medians of rounds in which all take turns;
results are compared before.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastattn
from fastattn.optim import Adam

from .frameworks.recurrent import Diacritizer, Pronouncer, words
from .timing import Effort, interleave

ROUNDS = 7
RATE = 1e-4
Runs = Mapping[str, Callable[[], Any]]


def compare(title: str, runs: Runs) -> None:
    """Print the median of each, and how many times as fast as the first one it is."""
    effort = Effort(ROUNDS, sample_seconds=0.01)
    found = {name: statistics.median(samples) for name, samples in interleave(runs, effort).items()}
    first = next(iter(found.values()))
    for name, seconds in found.items():
        print(f"{title:34} {name:22} {1e3 * seconds:10.2f} ms {first / seconds:7.2f}x", flush=True)


def marian(layers: int = 6, width: int = 512, size: int = 16000) -> None:
    """Translate by random weights."""
    import torch
    import transformers

    from fastattn.interop.transformers import register
    from fastattn.seq2seq import Vocabulary, beam_search, from_transformers

    register()
    torch.manual_seed(0)
    both = {"layers": layers, "ffn_dim": 4 * width, "attention_heads": 8}
    last = size - 1
    config = transformers.MarianConfig(
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in both.items()},
        d_model=width, vocab_size=size, decoder_vocab_size=size, pad_token_id=last, eos_token_id=0,
        decoder_start_token_id=last, forced_eos_token_id=None, activation_function="swish", scale_embedding=True,
    )  # fmt: skip
    model = transformers.MarianMTModel(config).eval()
    words = Vocabulary.build(["a b"], "sentencepiece", max_size=12).model
    names = {"</s>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, last)}, "<pad>": last}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for side in ("source", "target"):
            Path(folder, f"{side}.spm").write_bytes(words)
        Path(folder, "vocab.json").write_text(json.dumps(names))
        ours = from_transformers(folder).model
    ids = torch.randint(2, last, (32, 20))
    ids[:, -1] = 0
    # Of ours: 0 to 3 are special, then the others in their order.
    source = ids.numpy() + 2
    source[:, -1] = 2
    options = {"num_beams": 5, "max_new_tokens": 20, "early_stopping": "never", "bad_words_ids": [[last], [0], [1]]}

    def theirs(implementation: str) -> Callable[[], Any]:
        def run() -> Any:
            model.set_attn_implementation(implementation)
            with torch.no_grad():
                return model.generate(ids, do_sample=False, **options)

        return run

    search: Any = {"size": 5, "limit": 20, "length_penalty": 1.0, "length_norm": "length", "forbid": [3]}

    def own() -> Any:
        return beam_search(ours, source, np.full(32, 20), **search)

    runs = {"generate, sdpa": theirs("sdpa"), "generate, fastattn": theirs("fastattn"), "fastattn.seq2seq": own}
    expected, same, found = (run() for run in runs.values())
    assert torch.equal(expected, same)
    tokens = np.array([one[0].tokens[:20] for one in found]) - 2
    print(f"marian: {np.mean(tokens == expected[:, 1:21].numpy()):.1%} of the converted model's tokens are theirs")
    compare("marian 6 + 6, beam 5, 32 x 20", runs)


def diacritizer() -> None:
    """Label letters."""
    import torch
    from diacritize.baseline.model import BiLSTMDiacritizer

    theirs = BiLSTMDiacritizer.from_pretrained()
    ours = Diacritizer(theirs.state_dict())
    rng = np.random.default_rng(0)

    def forward(ids: Any) -> Any:
        with torch.no_grad():
            return theirs(ids)

    for batch, letters in ((1, 60), (8, 120), (1, 500)):
        ids = rng.integers(4, 54, (batch, letters))
        tensor = torch.from_numpy(ids)
        same = (forward(tensor).argmax(-1).numpy() == ours.logits(ids).argmax(-1)).mean()
        assert same > 0.999, same
        compare(f"diacritizer {batch} x {letters}", {
            "its own code": lambda t=tensor: forward(t), "fastattn": lambda i=ids: ours.logits(i),
        })  # fmt: skip
    ids, labels = rng.integers(4, 54, (1, 120)), rng.integers(0, 15, (1, 120))
    tensors = torch.from_numpy(ids), torch.from_numpy(labels)

    def step() -> None:
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(theirs(tensors[0]).flatten(0, 1), tensors[1].flatten()).backward()

    compare("diacritizer, gradients, 1 x 120", {"its own code": step, "fastattn": lambda: ours.gradients(ids, labels)})
    trained = Diacritizer(theirs.state_dict())
    their_adam, adam = torch.optim.Adam(theirs.parameters(), RATE), Adam(trained.parameters(), rate=RATE)

    def train() -> None:
        step()
        their_adam.step()

    compare("diacritizer, training, 1 x 120", {
        "its own code": train, "fastattn": lambda: trained.step(adam, ids, labels),
    })  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.models", "--memory"], capture_output=True, text=True, check=True
    )
    print(f"diacritizer, 2000 letters: {done.stdout.strip()} MB of memory beside the weights (fastattn)")


def memory() -> None:
    """Print how many MB the labels of 2000 letters take, in a process that has done nothing else."""
    ours, rng = Diacritizer.random(), np.random.default_rng(0)
    ours.logits(rng.integers(4, 54, (1, 60)))  # weights are packed
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _kilobytes("VmRSS")
    ours.logits(rng.integers(4, 54, (1, 2000)))
    print(round((_kilobytes("VmHWM") - before) / 1024))


def _kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def pronouncer() -> None:
    """Write sounds of words."""
    import torch
    from g2p_fa import G2P_Fa

    theirs = G2P_Fa().model.eval()
    ours = Pronouncer(theirs.state_dict())

    def write(several: Any) -> Any:
        with torch.no_grad():
            given = torch.from_numpy(several.T.copy())
            return theirs(given, torch.ones(30, len(several), dtype=torch.long), 0)[1:].argmax(-1).T

    singles = [word[None] for word in words(100)]
    compare("pronouncer, 100 words in turn", {
        "its own code": lambda: [write(one) for one in singles],
        "fastattn": lambda: [ours.write(one, 29) for one in singles],
    })  # fmt: skip
    for count in (256, 1000):
        ids = words(count)

        def batched(ids: Any = ids) -> Any:
            with fastattn.float32_precision("batched"):
                return ours.write(ids, 29)

        assert (write(ids).numpy() == ours.write(ids, 29)).all() and (ours.write(ids, 29) == batched()).all()
        compare(f"pronouncer, {count} words at once", {
            "its own code": lambda i=ids: write(i), "fastattn": lambda i=ids: ours.write(i, 29),
            "fastattn, batched": batched,
        })  # fmt: skip


CASES = {"marian": marian, "diacritizer": diacritizer, "pronouncer": pronouncer}


def main() -> None:
    global ROUNDS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*CASES, []], default=[])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 7: to look, not to publish")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory()
        return
    import torch

    ROUNDS = 3 if options.quick else ROUNDS
    for count in options.threads:
        torch.set_num_threads(count)
        fastattn.set_num_threads(count)
        print(f"{count} threads")
        for name in options.what or CASES:
            CASES[name]()


if __name__ == "__main__":
    main()
