"""Lines translated by Ray: the bytes of one process though actors are killed, and what the engine costs."""

import gzip
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.scale.runs import below, train, write


def prepared(options: Namespace, folder: Path) -> tuple[Path, Path]:
    """Return a model, which is trained unless it is there, and a file of lines."""
    run = (options.model or folder / "model").resolve()
    run.mkdir(parents=True, exist_ok=True)
    train(write(folder, options), run, options.transport, 1)
    with gzip.open(options.data / "train.lc.norm.tok.en.gz", "rt", encoding="utf-8") as file:
        texts = list(file)
    count = 2000 if options.quick else options.lines
    place = folder / "lines.txt"
    place.write_text("".join(texts[row % len(texts)] for row in range(count)), encoding="utf-8")
    return run, place


def translate(options: Namespace, run: Path, place: Path, output: Path, **how: Any) -> tuple[float, str]:
    """Translate; return the seconds and the SHA-256 of what came of it."""
    from fastattn.scale import translate_files

    more = {"beam": options.beam, "threads": 1, "quiet": True, "block": 64 if options.quick else 1000}
    began = time.perf_counter()
    translate_files(run, [place], output, **{**more, **how})
    seconds = time.perf_counter() - began
    return round(seconds, 1), hashlib.sha256((output / place.name).read_bytes()).hexdigest()


def two_processes(work: Any, plan: Any, /, **how: Any) -> Iterator[Any]:
    """An engine of two processes, without anything else."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for file in range(len(plan.inputs)):
            yield from pool.imap_unordered(work, plan.blocks(file))


def lines(options: Namespace, folder: Path) -> dict[str, Any]:
    """Translate by Ray with actors killed, and by one process in blocks of several sizes."""
    run, place = prepared(options, folder)
    ended, killed = threading.Event(), list[float]()
    thread = threading.Thread(target=kill, args=(options, ended, killed))
    thread.start()
    try:
        seconds, digest = translate(options, run, place, folder / "killed", engine="ray", workers=2)
    finally:
        ended.set()
        thread.join()
    found = {"two actors, killed": digest}
    for block in (100, 1000):
        _, digest = translate(options, run, place, folder / f"one-{block}", threads=2, block=block)
        found[f"one process, blocks of {block}"] = digest
    count = sum(1 for _ in place.open("rb"))
    return {"lines": count, "kills": len(killed), "killed_after_seconds": killed, "of_seconds": seconds,
            "files": found, "same": len(set(found.values())) == 1}  # fmt: skip


def kill(options: Namespace, ended: threading.Event, killed: list[float]) -> None:
    """Kill actors, each time when there are two again and have worked a while, until there were enough."""
    rng, began = random.Random(options.seed), time.monotonic()
    while len(killed) < options.kills and not ended.wait(rng.uniform(0.5, 3)):
        actors = [child for child, words in below(os.getpid()) if words.startswith(b"ray::") and b"_Working" in words]
        if len(actors) == 2:
            os.kill(rng.choice(actors), signal.SIGKILL)
            killed.append(round(time.monotonic() - began, 1))


def overhead(options: Namespace, folder: Path) -> dict[str, Any]:
    """Translate by two actors of Ray, and by two processes without it, in turns."""
    run, place = prepared(options, folder)
    engines: dict[str, Any] = {"two processes": two_processes, "ray": "ray"}
    rounds: dict[str, list[float]] = {name: [] for name in engines}
    digests = set()
    for number in range(options.rounds):
        for name in list(engines) if number % 2 == 0 else list(engines)[::-1]:
            workers = 2 if name == "ray" else 1
            seconds, digest = translate(options, run, place, folder / "out", engine=engines[name], workers=workers)
            shutil.rmtree(folder / "out")
            rounds[name].append(seconds)
            digests.add(digest)
    ratios = [ray / two for ray, two in zip(rounds["ray"], rounds["two processes"])]
    return {"seconds": rounds, "ray over two processes": round(statistics.median(ratios), 3), "same": len(digests) == 1}
