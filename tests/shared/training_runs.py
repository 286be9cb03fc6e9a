"""A run that takes a second, and what is needed to kill it: for tests, and a loop to run on its own.

    python tests/shared/training_runs.py [KILLS]

kills runs at random moments, resumes them with another number of threads each time, and compares the last checkpoint
with that of a run that was left alone.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 40


def pairs(count, seed=0):
    """Words, and the same words backwards."""
    rng = random.Random(seed)
    words = ("".join(rng.choice("abcdefgh") for _ in range(rng.randint(1, 9))) for _ in range(count))
    return [(word, word[::-1]) for word in words]


DATA = pairs(330), pairs(30, seed=1)


def make_config(**training):
    """All on that could go wrong: dropout, sampling, accumulation; a rate so high that the plateau schedule acts."""
    from fastattn import seq2seq

    settings = {
        "epochs": 0, "max_steps": STEPS, "tokens_per_batch": 120, "max_length": 20, "rate": 0.1, "accumulate": 2,
        "sampling": 0.3, "sampling_warmup": 10, "schedule": "plateau", "validate_every": 3, "checkpoint_every": 4,
        "log_every": 4, "decay": 0.01, "average": 0.9,
    }  # fmt: skip
    return seq2seq.Config(
        seq2seq.DataConfig(train="pairs", validation="others"),
        seq2seq.BahdanauConfig(
            embedding=12, hidden=16, attention=16, readout_width=8, dropout=0.2, label_smoothing=0.1
        ),
        seq2seq.VocabularyConfig(source="char", target="char"),
        seq2seq.TrainingConfig(**{**settings, **training}),
    )


CHILD = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import training_runs
from fastattn import seq2seq
config = training_runs.make_config(**eval(sys.argv[2]))
print("begins", flush=True)
pairs, validation = training_runs.DATA
seq2seq.train(config, sys.argv[1], pairs=pairs, validation=validation, resume=True, quiet=True)
print("done", flush=True)
"""


def start(folder, threads=1, **training):
    """Start a run in a process of its own; return it when it begins to train."""
    import fastattn

    above = str(Path(fastattn.__file__).resolve().parents[1])
    environment = {**os.environ, "FASTATTN_NUM_THREADS": str(threads), "PYTHONPATH": above}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), repr(training)],
        cwd=Path(folder).parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begins\n", process.stderr.read()
    return process


def finish(process):
    """Wait for a run; return whether it came to its end."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL or out == "done\n", err
    return process.returncode == 0


def result(folder):
    """The last checkpoint's manifest, which has the hashes of all its files; the best one's name; the log."""
    from fastattn.seq2seq.runs.runlog import read_log

    folder = Path(folder)
    log = [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in read_log(folder / "log.jsonl")]
    last, best = ((folder / name).read_text() for name in ("latest", "best"))
    return (folder / last.strip() / "manifest.json").read_text(), best, log


def alone(folder, **training):
    """Train without interruption; return the result."""
    from fastattn import seq2seq

    seq2seq.train(make_config(**training), folder, pairs=DATA[0], validation=DATA[1], quiet=True)
    return result(folder)


def killed(folder, rng, longest, kills=None, **training):
    """Train, killed after random times of at most `longest` seconds; return the result and the number of kills."""
    done = 0
    while True:
        process = start(folder, threads=rng.choice([1, 2, 3, 4]), **training)
        if kills is None or done < kills:
            time.sleep(rng.uniform(0, longest))
            process.kill()
        if finish(process):
            return result(folder), done
        done += 1


def main(kills):
    rng = random.Random()
    with tempfile.TemporaryDirectory() as parent:
        settings = {"checkpoint_every": 1}
        begin = time.perf_counter()
        expected = alone(Path(parent, "alone"), **settings)
        longest = (time.perf_counter() - begin) / 4
        done, runs = 0, 0
        while done < kills:
            found, more = killed(Path(parent, str(runs)), rng, longest, **settings)
            assert found == expected, f"run {runs} differs"
            done, runs = done + more, runs + 1
            print(f"{done} kills, {runs} runs, every one with the same bits", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
