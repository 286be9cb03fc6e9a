#!/usr/bin/env python3
"""A compiler of C that compiles the same text once: `.ci/run` builds fastattn in many new environments.

python tests/tools/compile_once.py FOLDER gcc ARGUMENT...

Keeps each object in the folder under a hash of all that decides it: the preprocessed text, which holds every header and
macro, the options, and the compiler's version. The list of headers (-MMD) is written anew each time. What is not one
file to one object, has lines for a debugger, or makes the compiler say something is compiled every time.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PLACES = ("-I", "-D", "-U")  # what these do is in the preprocessed text


def parts(arguments):
    """The source, the object and the options of a call that makes one from the other, or None."""
    sources, objects, options = [], [], []
    rest = iter(arguments)
    for one in rest:
        if one == "-o":
            objects.append(next(rest, ""))
        elif one.endswith(".c") and not one.startswith("-"):
            sources.append(one)
        elif one.startswith(PLACES):
            if len(one) == 2:
                next(rest, "")
        else:
            options.append(one)
    debugger = [one for one in options if one.startswith("-g")]
    whole = "-c" in options and len(sources) == len(objects) == 1 and (not debugger or debugger[-1] == "-g0")
    return (sources[0], objects[0], options) if whole and all(one.startswith("-") for one in options) else None


def preprocessed(compiler, arguments, target):
    """The text that is compiled, or None where something is wrong; the list of headers is written if asked for."""
    without = [one for one in arguments if one not in ("-c", "-MMD")]
    place = without.index("-o")
    del without[place : place + 2]
    if "-MMD" in arguments:
        without += ["-MMD", "-MF", str(Path(target).with_suffix(".d")), "-MQ", target]
    done = subprocess.run([compiler, *without, "-E", "-P"], capture_output=True)
    return None if done.returncode or done.stderr else done.stdout


def main(folder, compiler, *arguments):
    found = parts(arguments)
    text = None if found is None else preprocessed(compiler, arguments, found[1])
    if text is None:
        os.execvp(compiler, [compiler, *arguments])
    _, target, options = found
    version = subprocess.run([compiler, "-v"], capture_output=True).stderr
    key = hashlib.sha256(repr((version, options)).encode() + text).hexdigest()
    kept = Path(folder, f"{key}.o")
    if kept.exists():
        shutil.copyfile(kept, target)
        return 0
    done = subprocess.run([compiler, *arguments], capture_output=True)
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    if done.returncode == 0 and not done.stdout + done.stderr:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(Path(target).read_bytes())
        os.replace(file.name, kept)  # whole or not at all: others build at the same time
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
