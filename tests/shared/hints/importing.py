"""Hints of the import of fastattn."""

import os
import runpy
import subprocess
import sys
from unittest import mock

from hints import PACKAGE, Said, advice


def importing(**environment):
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
    command = [sys.executable, "-c", "import fastattn"]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)
    if done.returncode:
        raise Said(done.stderr)


advice(
    lambda environment={"FASTATTN_ISA": "mmx"}: importing(**environment), "unset FASTATTN_ISA to use", environment={}
)
for right in ({}, {"FASTATTN_NUM_THREADS": "1"}):
    advice(
        lambda environment={"FASTATTN_NUM_THREADS": "all"}: importing(**environment),
        "unset it, or set it to 1",
        environment=right,
    )


def not_built(backend="c"):
    try:
        missing = mock.patch.dict("sys.modules", {"fastattn._kernels.core": None})
        with missing, mock.patch.dict("os.environ", {"FASTATTN_BACKEND": backend}):
            runpy.run_path(str(PACKAGE / "_kernels" / "__init__.py"))
    except ImportError as error:
        raise Said(str(error)) from None


advice(not_built, "start Python elsewhere, or build here: python setup.py build_ext --inplace", importing)
advice(lambda: not_built("fortran"), "unset it to use the compiled module", importing)
