"""Build of the one compiled module, ``fastattn._kernels.core``; all metadata is in pyproject.toml.

Environment:
    FASTATTN_SANITIZE=1          address and undefined-behaviour sanitizers, -O1 -g1
    FASTATTN_PURE=1              no compiled module: kernels are compiled by Numba where the package runs
    FASTATTN_BUILD_LEVELS=a,b    build only generic and these instruction-set levels (default: all that the compiler
                                 takes)
"""

import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "csrc/levels/level.c"
TILES = "csrc/levels/tiles.c"
SOURCES = sorted(map(str, Path("csrc/run").glob("*.c")))


class Level(NamedTuple):
    """A line of csrc/levels.def, which says what the fields are."""

    name: str
    vectors: str
    tiles: str
    machine: str
    needs: str
    probe: str

    def probe_source(self):
        """A file that compiles when the compiler can make the level: one that ignores the pragma is refused too."""
        check = "" if self.machine == "any" else f"#ifndef __{self.machine}__\n#error another machine\n#endif\n"
        header = {"x86_64": "#include <immintrin.h>\n", "aarch64": "#include <arm_neon.h>\n"}.get(self.machine, "")
        if not self.needs:
            return f"{check}{header}{self.probe}\n"
        return f"""\
{check}#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("{self.needs}"))), apply_to = function)
#else
#pragma GCC target("{self.needs}")
#endif
{header}{self.probe}
#if defined(__clang__)
#pragma clang attribute pop
#endif
"""

    def units(self):
        """Folder, source and macros of each object of the level's own."""
        macros = [("FA_LEVEL", self.name), ("FA_VEC_FILE", f'"{self.vectors}.h"')]
        macros += [("FA_NEEDS", f'"{self.needs}"')] if self.needs else []
        if self.vectors == self.name:
            yield from ((f"{self.name}_f{bits}", KERNELS, [*macros, ("FA_BITS", str(bits))]) for bits in (32, 64))
        if self.tiles != "none":
            yield f"{self.name}_tiles", TILES, [*macros, ("FA_TILE_FILE", f'"../tile/{self.tiles}.h"')]


LEVEL_LINE = re.compile(r'LEVEL\((\w+), (\w+), (\w+), (\w+),\s*"([^"]*)",\s*"([^"]*)"\)')
LEVELS = {found[0]: Level(*found) for found in LEVEL_LINE.findall(Path("csrc/levels.def").read_text())}

SANITIZE = os.environ.get("FASTATTN_SANITIZE", "") not in ("", "0")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

COMPILE_ARGS = [
    "-std=c11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",  # a fused multiply-add is written where it is meant, or results would differ by compiler
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-pthread",
]
LINK_ARGS = ["-pthread"]
if not SANITIZE:
    COMPILE_ARGS += ["-g0"]  # Python's own flags hold -g, which makes the module eight times as large
if SANITIZE:
    # A report names functions and lines; to note where variables are, too, takes the compiler twice as long.
    COMPILE_ARGS += [*SANITIZERS, "-fno-omit-frame-pointer", "-O1", "-g1"]
    LINK_ARGS += SANITIZERS

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "freethreading_compatible": True,
    "embedsignature": True,
}


class BuildExt(build_ext):
    """Chooses the levels by asking the compiler, then compiles the C files side by side, only those out of date."""

    def build_extensions(self):
        if self.compiler.compiler_type != "unix":
            raise SystemExit("fastattn needs GCC or Clang: its kernels use the GNU vector extensions")
        Path(self.build_temp).mkdir(parents=True, exist_ok=True)
        levels = self.choose_levels()
        print("fastattn: levels built:", ", ".join(levels), flush=True)
        (extension,) = self.extensions
        self.units = [unit for level in levels for unit in LEVELS[level].units()]

        # Objects of another configuration are not reused, so a sanitizer build and a plain one may share build/.
        stamp = Path(self.build_temp, "configuration.txt")
        configuration = repr((self.compiler.compiler_so, COMPILE_ARGS, extension.define_macros, DIRECTIVES, LEVELS))
        if not stamp.exists() or stamp.read_text() != configuration:
            stamp.unlink(missing_ok=True)
            self.force = True
        self.compile_one = self.compiler.compile
        self.compiler.compile = self.compile_all
        super().build_extensions()
        stamp.write_text(configuration)

    def choose_levels(self):
        listed = os.environ.get("FASTATTN_BUILD_LEVELS", "").replace(",", " ").split()
        unknown = set(listed) - set(LEVELS)
        if unknown:
            raise SystemExit(
                f"FASTATTN_BUILD_LEVELS: expected some of {', '.join(LEVELS)}, got {', '.join(sorted(unknown))}"
            )
        wanted = {"generic", *listed, *(LEVELS[level].vectors for level in listed)} if listed else LEVELS
        levels = [level for level in LEVELS if level in wanted and self.compiler_takes(level)]
        if "generic" not in levels:
            raise SystemExit(f"fastattn needs GCC or Clang: {self.compiler.compiler_so[0]!r} cannot compile C")
        missing = [level for level in listed if level not in levels]
        if missing:
            raise SystemExit(f"FASTATTN_BUILD_LEVELS: the compiler cannot make {', '.join(missing)} for this machine")
        return levels

    def compiler_takes(self, level):
        source = Path(self.build_temp, f"probe_{level}.c")
        source.write_text(LEVELS[level].probe_source())
        command = [*self.compiler.compiler_so, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError as error:
            raise SystemExit(f"fastattn needs GCC or Clang: {command[0]!r} does not run: {error.strerror}") from None

    def compile_all(self, sources, output_dir=None, macros=(), **options):
        """Stand-in for ``compiler.compile``: the kernels of each level beside the sources, each file by a worker of its
        own; objects that are current are kept."""
        jobs = [(source, str(Path(output_dir, folder)), [*macros, *own]) for folder, source, own in self.units]
        jobs += [(source, output_dir, list(macros)) for source in sources]  # last: most of them take a second
        names = [self.compiler.object_filenames([source], output_dir=folder)[0] for source, folder, _ in jobs]

        def compile_one(job, name):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            if self.force or out_of_date(Path(name)):
                source, folder, defined = job
                self.compile_one([source], output_dir=folder, macros=defined, **options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, jobs, names))
        return names


STATEMENT = re.compile(  # a struct, an enumeration, a type of functions, a function
    r"typedef struct \w* ?\{(?P<fields>[^}]*)\} (?P<struct>\w+);|enum \w+ \{(?P<values>[^}]*)\};"
    r"|typedef (?P<type>\w+ \(\*\w+\)[^;]*);|^(?P<function>\w[\w *]*\bfa_\w+\([^;]*\));",
    re.MULTILINE,
)


def declared(header):
    """Cython's declaration of all that a C header has, with the table of kernels.def where it is included."""
    text = Path("csrc", header).read_text().replace('#include "kernels.def"', Path("csrc/kernels.def").read_text())
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"KERNEL\((\w+), (\w+), (\([^)]*\))\)", r"\1 (*\2)\3;", text).replace("(void)", "()")
    text = re.sub(r"\b(element|real)(?= \*)", "void", text)  # as where no kernel is compiled
    yield f'cdef extern from "{header}" nogil:'
    for found in STATEMENT.finditer(text):
        if found["struct"]:
            yield f"    ctypedef struct {found['struct']}:"
            for field in found["fields"].split(";")[:-1]:
                first, *others = " ".join(field.split()).split(", *")
                yield f"        {first}{' noexcept nogil' if '(*' in first else ''}"
                yield from (f"        {first[: first.rindex('*')]}*{other}" for other in others)
        elif found["values"]:
            yield f"    enum:\n        {re.sub(r' = [0-9]+', '', found['values']).strip()}"
        elif found["type"]:
            yield f"    ctypedef {' '.join(found['type'].split())} noexcept nogil"
        else:
            yield f"    {' '.join(found['function'].split())}"


def write_declarations():
    """Make what core.pyx includes of the C headers, so that a field or an argument is written once."""
    file = Path("build/cython/declarations.pxi")
    lines = ["from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t"]
    lines += [line for header in ("kernels.h", "run/run.h") for line in declared(header)]
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text().splitlines() != lines:
        file.write_text("\n".join(lines) + "\n")
    return str(file.parent)


def out_of_date(obj):
    """Whether a file that went into the object is newer than it; the compiler's -MMD wrote which files those are."""
    listing = obj.with_suffix(".d")
    if not obj.exists() or not listing.exists():
        return True
    made = obj.stat().st_mtime_ns
    _, _, names = listing.read_text().replace("\\\n", " ").partition(": ")
    inputs = [Path(name) for name in shlex.split(names)]
    return not inputs or any(not path.exists() or path.stat().st_mtime_ns >= made for path in inputs)


core = Extension(
    "fastattn._kernels.core",
    sources=["fastattn/_kernels/core.pyx", *SOURCES],
    depends=["setup.py", *sorted(str(path) for path in [*Path("csrc").rglob("*.*"), *Path("fastattn").rglob("*.pxi")])],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[(name, "NPY_2_0_API_VERSION") for name in ("NPY_NO_DEPRECATED_API", "NPY_TARGET_VERSION")],
    extra_compile_args=[*COMPILE_ARGS, "-MMD"],
    extra_link_args=LINK_ARGS,
    language="c",
)

if os.environ.get("FASTATTN_PURE", "") not in ("", "0"):
    setup()
else:
    setup(
        ext_modules=cythonize([core], compiler_directives=DIRECTIVES, include_path=[write_declarations()]),
        cmdclass={"build_ext": BuildExt},
    )
