"""Finding, loading and asking plugins.

Nothing here happens before a name is looked up that is not built in, or something is listed. One plugin that fails is
one `PluginWarning` and a row in `providers()`; the others work.

The environment decides, before anything of a plugin is imported:

- ``FASTATTN_PLUGINS``: names of plugins or of their distributions, separated by commas. Only these are loaded; empty:
  none; unset: all.
- ``FASTATTN_PLUGINS_STRICT=1``: a plugin that fails is an error in place of a warning.
"""

import contextlib
import importlib
import importlib.metadata
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fastattn.errors import PluginError, PluginWarning, describe_file, did_you_mean
from fastattn.plugin.hookspecs import GROUP
from fastattn.plugin.provider import FAMILIES, Hooks, Provider, read
from fastattn.plugin.records import Record

__all__ = ["Manager", "current", "find", "isolated", "known_names", "providers", "records", "reload"]

BUILT_IN = {f"fastattn.{family}": f"fastattn.{family}.registry" for family in FAMILIES}


class Manager:
    """All providers, loaded when they are first asked for.

    Parameters
    ----------
    plugins : mapping of str to object, optional
        Modules or objects with hooks, or functions without arguments that import and return one, in place of what is
        installed. For tests.
    """

    def __init__(self, plugins: Mapping[str, Any] | None = None) -> None:
        self._given = plugins
        self._lock = threading.RLock()
        self._providers: list[Provider] | None = None
        self._kept: list[tuple[dict[str, Any], str]] = []

    def providers(self) -> list[Provider]:
        """Return all providers, our own first, then by distribution and name."""
        with self._lock:
            if self._providers is None:
                found, problems = self._load()
                self._providers = found
                for problem in problems:
                    warnings.warn(problem, PluginWarning, stacklevel=3)
            return self._providers

    def keep(self, table: dict[str, Any], name: str, made: Any) -> None:
        """Put an object of a plugin into a table of names, where it is found at the price of our own."""
        table[name] = made
        self._kept.append((table, name))

    def forget(self) -> None:
        """Take out of tables what was put there."""
        for table, name in self._kept:
            table.pop(name, None)
        self._kept.clear()

    def _candidates(self) -> Iterator[tuple[Provider, Callable[[], Any]]]:
        for name, place in BUILT_IN.items():
            yield Provider(name, place, status="built in"), partial(importlib.import_module, place)
        if self._given is not None:
            for name, plugin in self._given.items():
                place = getattr(plugin, "__name__", type(plugin).__name__)
                hooked = any(attribute.startswith("fastattn_") for attribute in dir(plugin))
                yield Provider(name, place), plugin if callable(plugin) and not hooked else partial(_itself, plugin)
            return
        points = importlib.metadata.entry_points(group=GROUP)
        for point in sorted(points, key=lambda point: (point.dist.name if point.dist else "", point.name)):
            package = (point.dist.name, point.dist.version) if point.dist else ("", "")
            yield Provider(point.name, point.value, *package), point.load

    def _load(self) -> tuple[list[Provider], list[str]]:
        hooks, found, problems = Hooks(), [], []
        wanted = _wanted() if self._given is None else None
        strict = os.environ.get("FASTATTN_PLUGINS_STRICT", "") not in ("", "0")
        taken: set[str] = set()
        for provider, load in self._candidates():
            found.append(provider)
            if provider.status != "built in" and wanted is not None:
                if not wanted & {provider.name, provider.distribution}:
                    provider.status = "disabled"
                    continue
                taken |= {provider.name, provider.distribution}
            try:
                if hooks.has_plugin(provider.name):
                    hint = "remove one of the packages, or ask its author for another name of its entry point."
                    raise PluginError(describe_file(provider.place, "another plugin has this name", hint))
                read(hooks, provider, load())
            except (Exception, SystemExit) as error:
                said = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
                provider.status, provider.problem = "broken", said
                if strict or provider.name in BUILT_IN:
                    raise PluginError(f"plugin {provider}: {said}") from error
                problems.append(f"plugin {provider} is left out: {said}")
            else:
                if provider.problem:
                    if strict:
                        raise PluginError(f"plugin {provider}: {provider.problem}")
                    problems.append(f"plugin {provider}: {provider.problem}")
        for name in sorted((wanted or set()) - taken):
            problems.append(f"FASTATTN_PLUGINS names {name!r}, which is not installed")
        return found, problems

    def records(self, family: str) -> dict[str, Record]:
        """Return all records of a family by name; a name with two providers is there as ``provider:name``."""
        by_name: dict[str, list[tuple[Provider, Record]]] = {}
        for provider in self.providers():
            for name, record in provider.records.get(family, {}).items():
                by_name.setdefault(name, []).append((provider, record))
        found: dict[str, Record] = {}
        for name, offers in by_name.items():
            own = [record for provider, record in offers if provider.status == "built in"]
            if own or len(offers) == 1:
                found[name] = own[0] if own else offers[0][1]
            for provider, record in offers:
                if len(offers) > 1 and provider.status != "built in":
                    found[f"{provider.name}:{name}"] = record
        return found

    def find(self, family: str, name: str) -> Record | None:
        """Return the record of a name, or None.

        Parameters
        ----------
        family : {"scores", "normalizers", "variants"}
        name : str
            ``name``, or ``provider:name`` to say whose.

        Raises
        ------
        PluginError
            If two plugins provide the name.
        """
        whose, _, plain = name.rpartition(":")
        offers = [
            (provider, provider.records[family][plain])
            for provider in self.providers()
            if plain in provider.records.get(family, {}) and whose in ("", provider.name, provider.distribution)
        ]
        own = [record for provider, record in offers if provider.status == "built in"]
        if own:
            return own[0]
        if len(offers) > 1:
            who = " and ".join(str(provider) for provider, _ in offers)
            ways = " or ".join(repr(f"{provider.name}:{plain}") for provider, _ in offers)
            hint = f"say {ways}, or set FASTATTN_PLUGINS to the plugins that you want."
            raise PluginError(describe_file(name, f"is provided by {who}", hint))
        return offers[0][1] if offers else None

    def advice(self, family: str, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
        """Return a sentence that helps whoever asked for a name that there is not."""
        idle = [provider for provider in self.providers() if provider.status in ("broken", "disabled")]
        if idle:
            names = ", ".join(f"{provider.name} ({provider.status})" for provider in idle)
            otherwise = f"is it from a plugin that is not loaded: {names}? See `fastattn plugins`."
        else:
            otherwise = f"see fastattn.{family}.names(), or install the plugin that has it."
        return did_you_mean(name, known, otherwise)


def _itself(plugin: Any) -> Any:
    return plugin


def _wanted() -> set[str] | None:
    """Return what FASTATTN_PLUGINS allows; None: everything."""
    text = os.environ.get("FASTATTN_PLUGINS")
    return None if text is None else {name.strip() for name in text.split(",")} - {""}


_manager = Manager()


def current() -> Manager:
    """Return the manager in use."""
    return _manager


def reload() -> None:
    """Forget all plugins: they are looked for again when they are next needed."""
    global _manager
    _manager.forget()
    _manager = Manager()


@contextlib.contextmanager
def isolated(plugins: Mapping[str, Any] | None = None) -> Iterator[Manager]:
    """Use these plugins alone, not those that are installed, inside a ``with`` block. For tests.

    Parameters
    ----------
    plugins : mapping of str to object, optional
        By name: a module or object with hooks, or a function without arguments that imports and returns one.

    Examples
    --------
    >>> from fastattn.plugin import VariantRecord, isolated, providers
    >>> import fastattn
    >>> class Plugin:
    ...     def fastattn_variants(self):
    ...         return [VariantRecord("mine", fastattn.variants.Variant)]
    >>> with isolated({"my_plugin": Plugin()}):
    ...     "mine" in fastattn.variants.names(), [provider.name for provider in providers()]
    (True, ['fastattn.scores', 'fastattn.normalizers', 'fastattn.variants', 'my_plugin'])
    """
    global _manager
    _manager.forget()
    before, _manager = _manager, Manager(plugins or {})
    try:
        yield _manager
    finally:
        _manager.forget()
        _manager = before


def providers() -> list[Provider]:
    """Return who provides what, broken and disabled plugins too."""
    return _manager.providers()


def records(family: str) -> dict[str, Record]:
    """Return all records of a family by name; see `Manager.records`."""
    return _manager.records(family)


def known_names(family: str) -> tuple[str, ...]:
    """Return the names of a family."""
    return tuple(sorted(records(family)))


def find(family: str, name: str) -> Record | None:
    """Return the record of a name, or None; see `Manager.find`."""
    return _manager.find(family, name)
