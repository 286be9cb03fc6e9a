"""Which fastattn is measured: the one built in this checkout, else the installed one."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def is_built() -> bool:
    """Whether an extension module was built in place."""
    folder = ROOT / "fastattn" / "_kernels"
    return any(folder.glob("*.so")) or any(folder.glob("*.pyd"))


def choose() -> None:
    """Put the checkout on the import path when it is built, take it off when it is not: sources alone cannot run."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    sys.path[:] = [str(ROOT), *others] if is_built() else others
