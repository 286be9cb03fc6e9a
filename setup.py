"""Build of the one compiled module, ``fastattn._kernels.core``; all metadata is in pyproject.toml.

Environment:
    FASTATTN_SANITIZE=1          address and undefined-behaviour sanitizers, -O1 -g
    FASTATTN_BUILD_LEVELS=a,b    build only generic and these instruction-set levels (default: all that the compiler
                                 takes)
"""

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = [
    "csrc/threads/pool.c",
    "csrc/dispatch/capi.c",
    "csrc/dispatch/dispatch.c",
    "csrc/dispatch/run.c",
    "csrc/dispatch/gradient.c",
    "csrc/dispatch/recurrent.c",
    "csrc/dispatch/query_gradient.c",
    "csrc/dispatch/steps.c",
    "csrc/dispatch/noise.c",
    "csrc/dispatch/training.c",
    "csrc/dispatch/sparse.c",
]


SHARED = {"avx512bf16": "avx512"}  # levels whose kernels are those of another, in its file


def x86_probe(target, function):
    return f"""\
#ifndef __x86_64__
#error another machine
#elif defined(__clang__)
#pragma clang attribute push(__attribute__((target("{target}"))), apply_to = function)
#else
#pragma GCC target("{target}")
#endif
#include <immintrin.h>
{function}
#if defined(__clang__)
#pragma clang attribute pop
#endif
"""


# Level -> a file that compiles when the compiler can make that level. The level units carry the same pragma, so no
# file needs flags of its own. An intrinsic is called because a compiler that ignores the pragma must be refused too.
AVX2 = "avx2,fma,f16c"
AVX512 = f"avx512f,avx512bw,avx512dq,avx512vl,{AVX2}"
LEVELS = {
    "generic": "int probe;\n",
    "avx2": x86_probe(AVX2, "__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }"),
    "avx512": x86_probe(AVX512, "__m512 f(__m512 a) { return _mm512_fmadd_ps(a, a, a); }"),
    "avx512bf16": x86_probe(f"{AVX512},avx512bf16", "__m512bh f(__m512 a) { return _mm512_cvtne2ps_pbh(a, a); }"),
    "neon": "#ifndef __aarch64__\n#error another machine\n#endif\n"
    "#include <arm_neon.h>\nfloat32x4_t f(float32x4_t a) { return vfmaq_f32(a, a, a); }\n",
}

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
    COMPILE_ARGS += [*SANITIZERS, "-fno-omit-frame-pointer", "-O1", "-g"]
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
        extension.sources += [f"csrc/levels/{level}.c" for level in levels if level not in SHARED]
        extension.define_macros += [(f"FA_HAVE_{level.upper()}", "1") for level in levels]

        # Objects of another configuration are not reused, so a sanitizer build and a plain one may share build/.
        stamp = Path(self.build_temp, "configuration.txt")
        configuration = repr((self.compiler.compiler_so, COMPILE_ARGS, extension.define_macros, DIRECTIVES))
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
        wanted = {"generic", *listed, *(SHARED[level] for level in listed if level in SHARED)} if listed else LEVELS
        levels = [level for level in LEVELS if level in wanted and self.compiler_takes(level)]
        if "generic" not in levels:
            raise SystemExit(f"fastattn needs GCC or Clang: {self.compiler.compiler_so[0]!r} cannot compile C")
        missing = [level for level in listed if level not in levels]
        if missing:
            raise SystemExit(f"FASTATTN_BUILD_LEVELS: the compiler cannot make {', '.join(missing)} for this machine")
        return levels

    def compiler_takes(self, level):
        source = Path(self.build_temp, f"probe_{level}.c")
        source.write_text(LEVELS[level])
        command = [*self.compiler.compiler_so, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError as error:
            raise SystemExit(f"fastattn needs GCC or Clang: {command[0]!r} does not run: {error.strerror}") from None

    def compile_all(self, sources, output_dir=None, **options):
        """Stand-in for ``compiler.compile`` that gives each file its own worker and skips objects that are current."""
        objects = self.compiler.object_filenames(sources, output_dir=output_dir)
        for name in objects:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        pending = [source for source, name in zip(sources, objects) if self.force or out_of_date(Path(name))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda source: self.compile_one([source], output_dir=output_dir, **options), pending))
        return objects


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
    depends=["setup.py", *sorted(map(str, [*Path("csrc").rglob("*.[ch]"), *Path("fastattn").rglob("*.pxi")]))],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=[*COMPILE_ARGS, "-MMD"],
    extra_link_args=LINK_ARGS,
    language="c",
)

setup(
    ext_modules=cythonize([core], compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": BuildExt},
)
