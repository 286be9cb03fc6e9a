"""What the numbers were measured on."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "numpy",
    "torch",
    "jax",
    "jaxlib",
    "keras",
    "transformers",
    "onnxruntime",
    "ctranslate2",
    "ml_dtypes",
    "fastattn",
)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    name = named.get("model name", platform.machine())
    if "cpu family" in named:
        name += f" (family {named['cpu family']}, model {named.get('model', '?')})"
    return name


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def load_average() -> float | None:
    """Processes that wanted a CPU during the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe() -> dict[str, Any]:
    """Processor, CPUs, memory, system, Python."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Installed versions of everything that takes part."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def fastattn_config() -> dict[str, Any]:
    """`fastattn.show_config(as_dict=True)`: version, instruction set level, threads."""
    from fastattn import show_config

    return show_config(as_dict=True)
