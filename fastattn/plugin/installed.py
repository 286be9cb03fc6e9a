"""Which plugins are installed, whatever the metadata of any package are like."""

import importlib.metadata
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from fastattn.errors import PluginError, describe_file
from fastattn.plugin.foreign import contained, said
from fastattn.plugin.hookspecs import GROUP
from fastattn.plugin.provider import Provider

__all__ = ["Candidate", "installed"]

Candidate = tuple[Provider, Callable[[], Any]]


def installed() -> list[Candidate]:
    """Return all entry points of our group, by distribution and name, each with the function that imports it.

    A distribution that cannot be read is there too, as one that is broken: nobody knows whether it has a plugin.
    """
    found: list[Candidate] = []
    seen: set[str] = set()
    distributions = iter(importlib.metadata.distributions())
    while True:
        try:
            distribution = contained(lambda: next(distributions, None))
        except Exception as error:  # a finder of somebody's, after which there is no going on
            found.append(_unreadable("sys.meta_path", "", error))
            break
        if distribution is None:
            break
        try:
            found += contained(partial(_points, distribution, seen))
        except Exception as error:
            path = str(getattr(distribution, "_path", "") or distribution.locate_file(""))
            found.append(_unreadable(re.split(r"[/\\]", path.rstrip("/\\"))[-1], path, error))
    return sorted(found, key=lambda one: (one[0].distribution, one[0].name))


def _points(distribution: importlib.metadata.Distribution, seen: set[str]) -> list[Candidate]:
    text = distribution.read_text("entry_points.txt") or ""
    if GROUP not in text:
        return []
    points = [point for point in distribution.entry_points if point.group == GROUP]
    name = _field(distribution, "Name")
    if points and not name:
        raise PluginError("its metadata have no name")
    plain = re.sub(r"[-_.]+", "-", name).lower()
    if plain in seen or _first(name, text) != text:
        return []  # another one of this name comes before it on the path, and hides it
    seen.add(plain)
    version = _field(distribution, "Version")
    return [(Provider(point.name, point.value, name, version), point.load) for point in points]


def _field(distribution: importlib.metadata.Distribution, field: str) -> str:
    return str(distribution.metadata[field]) if field in distribution.metadata else ""


def _first(name: str, text: str) -> str:
    """Return the entry points of the distribution that Python takes for one of this name."""
    try:
        return importlib.metadata.distribution(name).read_text("entry_points.txt") or ""
    except importlib.metadata.PackageNotFoundError:  # it is installed under another name than its own
        return text


def _unreadable(name: str, path: str, error: Exception) -> Candidate:
    problem = describe_file(path or name, f"cannot be read: {said(error)}", "install it anew, or remove it.")
    return Provider(name, path, status="broken", problem=problem), lambda: None
