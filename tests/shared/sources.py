"""The files of the project: what tests of the sources look at."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT_SUFFIXES = {
    ".c", ".cfg", ".css", ".def", ".h", ".html", ".inl", ".js", ".md", ".pxd", ".pxi", ".py", ".pyi", ".pyx", ".toml",
    ".txt", ".yml",
}  # fmt: skip
TOP_FILES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py"]
TOP_FOLDERS = ["fastattn", "csrc", "plugins", "benchmarks", "tests", "tools", "docs"]


def under(folder, *suffixes):
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file())


def texts():
    paths = [ROOT / name for name in TOP_FILES if (ROOT / name).exists()]
    for name in TOP_FOLDERS:
        paths += under(ROOT / name, *TEXT_SUFFIXES)
    # A build in place leaves Cython's C file beside its .pyx.
    paths = [path for path in paths if path.suffix != ".c" or not path.with_suffix(".pyx").exists()]
    programs = [path for name in (".ci", "tools") for path in (ROOT / name).glob("*") if path.is_file()]
    return [*paths, *under(ROOT / ".github", *TEXT_SUFFIXES), *programs]


def relative(path):
    return path.relative_to(ROOT).as_posix()
