"""The wheel of this Python and machine, as `tools/wheels` builds it: what it holds, and that it needs no compiler."""

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from wheels.once import made_once

import fastattn

ROOT = Path(__file__).resolve().parents[2]
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
MACHINE = platform.machine()
LEVELS = {
    "x86_64": ["amx_model", "generic", "avx2", "avx512", "avx512bf16", "amx"],
    "aarch64": ["amx_model", "generic", "neon"],
}
LINUX = sys.platform == "linux" and MACHINE in LEVELS

pytestmark = pytest.mark.skipif(not (ROOT / "tools").exists() or not LINUX, reason="built in a checkout, on Linux")


def run(*command, check=True, **options):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FASTATTN"))}
    kept.pop("LD_PRELOAD", None)  # other programs lack the sanitizers' libraries
    done = subprocess.run(
        [str(part) for part in command],
        env={**kept, **options.pop("variables", {})},
        capture_output=True,
        text=True,
        timeout=900,
        **options,
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """What `tools/wheels` writes for this Python and machine, and says of it."""

    def make(out):
        done = run(
            sys.executable, ROOT / "tools" / "wheels", "--python", VERSION, "--machine", MACHINE, "-o", out,
            check=False, variables={"PATH": os.pathsep.join([str(Path(sys.base_prefix, "bin")), os.environ["PATH"]])},
        )  # fmt: skip
        if "No matching distribution found for ziglang" in done.stdout + done.stderr:
            pytest.skip("the package ziglang cannot be installed")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return made_once(tmp_path_factory, "wheels", make)


@pytest.fixture(scope="session")
def bare(wheels, tmp_path_factory):
    """The interpreter of a new environment in which the wheel was installed with no compiler to be found."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    variables = {"PATH": str(python.parent), "CC": "absent"}
    assert not [name for name in ("cc", "gcc", "clang") if shutil.which(name, path=variables["PATH"])]
    arguments = ("--disable-pip-version-check", "install", "-q", "--only-binary=:all:")
    run(python, "-m", "pip", *arguments, next(wheels[0].glob("*.whl")), cwd=folder, variables=variables)
    return python, variables, folder


@pytest.mark.slow
@pytest.mark.packages
def test_the_wheel_is_good(wheels):
    out, said = wheels
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    abi = f"cp{VERSION.replace('.', '')}"
    assert wheel.name == f"fastattn-{fastattn.__version__}-{abi}-{abi}-manylinux_2_17_{MACHINE}.whl"
    assert archive.name == f"fastattn-{fastattn.__version__}.tar.gz"
    assert said.startswith(wheel.name) and said.endswith("good\n")
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".cdx.json")]
        bill = json.loads(file.read(name))
        record = file.read(f"fastattn-{fastattn.__version__}.dist-info/RECORD").decode()
    assert name in record
    assert bill["metadata"]["component"]["version"] == fastattn.__version__


@pytest.mark.slow
@pytest.mark.packages
def test_the_wheel_runs_without_a_compiler(bare):
    python, variables, folder = bare
    code = """
import numpy as np, fastattn
x = np.eye(2)
weights = np.exp(x / np.sqrt(2)) / np.exp(x / np.sqrt(2)).sum(axis=1, keepdims=True)
assert np.allclose(fastattn.attention(x, x, x), weights @ x, rtol=1e-14, atol=0)
print(fastattn.__file__)
"""
    assert str(folder) in run(python, "-c", code, cwd=folder, variables=variables).stdout
    done = run(python.with_name("fastattn"), "info", "--json", cwd=folder, variables=variables)
    assert json.loads(done.stdout)["levels_built"] == LEVELS[MACHINE]


@pytest.mark.slow
@pytest.mark.packages
@pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="the sanitizers' libraries are not for other programs")
def test_the_wheel_computes_the_bits_of_this_build(bare, environment):
    python, variables, folder = bare
    program = ROOT / "tests" / "wheels" / "bits.py"
    wheel = json.loads(run(python, "-P", program, cwd=folder, variables=variables).stdout)
    own = run(sys.executable, "-P", program, cwd=folder, variables={"PYTHONPATH": environment["PYTHONPATH"]})
    assert json.loads(own.stdout).items() <= wheel.items()  # this build may have fewer levels


@pytest.fixture(scope="session")
def pure(tmp_path_factory):
    """The interpreter of a new environment in which the wheel without a compiled module was installed."""
    folder = tmp_path_factory.mktemp("pure")
    path = os.pathsep.join([str(Path(sys.base_prefix, "bin")), os.environ["PATH"]])
    said = run(
        sys.executable, ROOT / "tools" / "wheels", "--pure", "--python", VERSION, "-o", folder, variables={"PATH": path}
    ).stdout  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    assert wheel.name == f"fastattn-{fastattn.__version__}-py3-none-any.whl" and said.endswith("good\n")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", f"{wheel}[seq2seq]", cwd=folder)
    return python, folder


@pytest.mark.slow
@pytest.mark.packages
def test_the_pure_wheel_attends_and_trains(pure):
    python, folder = pure
    variables = {"FASTATTN_CACHE_DIR": str(folder / "cache")}
    run(python, Path(__file__).with_name("attend_and_train.py"), cwd=folder, variables=variables)
    done = run(python.with_name("fastattn"), "info", cwd=folder, variables=variables)
    assert "backend:      numba" in done.stdout


# Small wheels that are right but for one thing.

COMPILE = ["-fstack-protector-all"]
LINK = ["-Wl,-z,relro,-z,now,-z,noexecstack"]
CODE = "#include <string.h>\nint PyInit_one(const char *s) { char a[99]; strcpy(a, s); return a[3]; }\n"
BILL = json.dumps({"components": [{"name": name} for name in ("Cython", "numpy", "ziglang")]})
WRONG = {
    "nothing": ({}, None),
    "bound late": ({"link": ["-Wl,-z,relro,-z,lazy,-z,noexecstack"]}, "bound at once"),
    "tables stay writable": ({"link": ["-Wl,-z,norelro,-z,now,-z,noexecstack"]}, "become read-only"),
    "the stack is executable": ({"link": ["-Wl,-z,relro,-z,now,-z,execstack"]}, "not executable"),
    "a folder to search": ({"link": [*LINK, "-Wl,-rpath,/somewhere"]}, "no RPATH or RUNPATH"),
    "no guards": ({"compile": ["-fno-stack-protector"]}, "guarded stack"),
    "no bill of materials": ({"bill": None}, "bill of materials"),
    "a bill without a part": ({"bill": BILL.replace("numpy", "more")}, "names numpy"),
    "too large": ({"more": os.urandom(3_100_000)}, "at most 3000000 bytes"),
    "a newer C library": (
        {"code": CODE + "int arc4random(void);\nint g(void) { return arc4random(); }\n"},
        "auditwheel",
    ),
    "another machine": ({"machine": {"x86_64": "aarch64", "aarch64": "x86_64"}.get(MACHINE)}, "expected a module for"),
    "no machine": ({"machine": "any"}, "a name that ends in"),
    "two modules": ({"modules": ("one.so", "two.so")}, "one extension module, got 2"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_wheel_is_seen(wrong, tmp_path):
    pytest.importorskip("auditwheel")
    given, expected = WRONG[wrong]
    source, module = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text(given.get("code", CODE))
    flags = ["-shared", "-fPIC", "-O1", *given.get("compile", COMPILE), *given.get("link", LINK)]
    run(os.environ.get("CC", "gcc"), *flags, source, "-o", module)
    wheel = tmp_path / f"small-1-cp311-cp311-manylinux_2_17_{given.get('machine', MACHINE)}.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in given.get("modules", ("one.so",)):
            file.write(module, f"small/{name}")
        file.writestr("small/more", given.get("more", b""))
        if bill := given.get("bill", BILL):
            file.writestr("small-1.dist-info/sboms/small.cdx.json", bill)
        file.writestr("small-1.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_{MACHINE}\n")
        file.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1\n")
        file.writestr("small-1.dist-info/RECORD", "".join(f"{name},,\n" for name in file.namelist()))
    done = run(sys.executable, ROOT / "tools" / "check_wheels", wheel, check=False)
    if expected is None:
        assert done.returncode == 0 and done.stdout.endswith("good\n"), done.stdout + done.stderr
    else:
        assert done.returncode == 1 and expected in done.stdout, done.stdout + done.stderr
        if wrong not in ("another machine", "two modules"):
            assert ";" not in done.stdout, done.stdout  # of one thing that is wrong, one is said


def test_an_interpreter_that_is_missing_is_named(tmp_path):
    done = run(sys.executable, ROOT / "tools" / "wheels", "--python", "3.99", "-o", tmp_path / "out", check=False)
    assert done.returncode == 1 and "python3.99" in done.stderr
    assert "Hint: install it, or leave it out: tools/wheels --python" in done.stderr
    assert not (tmp_path / "out").exists()
