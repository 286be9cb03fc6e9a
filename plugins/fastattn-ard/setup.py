"""The compiled part; all metadata is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastattn

loops = Extension(
    "fastattn_ard.loops",
    ["fastattn_ard/loops.pyx"],
    include_dirs=[fastattn.get_include()],
    extra_compile_args=["-O3", "-ffp-contract=off"],
)

setup(ext_modules=cythonize([loops], compiler_directives={"language_level": 3}))
