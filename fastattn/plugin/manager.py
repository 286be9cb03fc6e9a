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
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fastattn._printing import one_line, visible
from fastattn.errors import PluginError, PluginWarning, describe_file
from fastattn.plugin.foreign import contained, said
from fastattn.plugin.installed import Candidate, installed
from fastattn.plugin.names import NAME_HINT, fault_of
from fastattn.plugin.provider import Hooks, Provider, read
from fastattn.plugin.records import FAMILIES

__all__ = ["Manager", "built_in", "current", "isolated", "providers", "reload"]


class Manager:
    """All plugins, loaded when they are first asked for.

    Parameters
    ----------
    plugins : mapping of str to object, optional
        Modules or objects with hooks, or functions without arguments that import and return one, in place of what is
        installed. For tests.
    """

    def __init__(self, plugins: Mapping[str, Any] | None = None) -> None:
        self._given = plugins
        self._lock = threading.Lock()
        self._asking = threading.local()
        self._plugins: list[Provider] | None = None
        self._kept: list[tuple[dict[str, Any], str]] = []

    def providers(self) -> list[Provider]:
        """Return all providers, our own first, then the plugins."""
        return built_in() + self.plugins()

    def plugins(self) -> list[Provider]:
        """Return all plugins by distribution and name.

        Notes
        -----
        No lock is held while plugins are imported: a thread that imports one, which looks a name up, would wait for a
        thread that loads all, and that one for the import. Of several threads that load at the same time, the first
        one's result counts. A plugin that looks a name up while it is itself imported or asked gets the others, and
        that is not kept.
        """
        kept = self._plugins
        if kept is not None:
            return kept
        found, problems, settled = self._load()
        if not settled:
            return found
        with self._lock:
            kept = self._plugins = self._plugins or found
        if kept is found:
            for problem in problems:
                warnings.warn(visible(problem), PluginWarning, stacklevel=3)
        return kept

    def keep(self, table: dict[str, Any], name: str, made: Any) -> None:
        """Put an object of a plugin into a table of names, where it is found at the price of our own."""
        table[name] = made
        self._kept.append((table, name))

    def forget(self) -> None:
        """Take out of tables what was put there."""
        for table, name in self._kept:
            table.pop(name, None)
        self._kept.clear()

    def _candidates(self) -> Iterator[Candidate]:
        if self._given is not None:
            for name, plugin in self._given.items():
                place = getattr(plugin, "__name__", type(plugin).__name__)
                hooked = any(attribute.startswith("fastattn_") for attribute in dir(plugin))
                yield Provider(name, place), plugin if callable(plugin) and not hooked else partial(_itself, plugin)
            return
        yield from installed()

    def _load(self) -> tuple[list[Provider], list[str], bool]:
        """Return all plugins, what is wrong, and whether no plugin was passed over because it is busy."""
        hooks, found, problems, settled = Hooks(), [], [], True
        wanted = _wanted() if self._given is None else None
        strict = os.environ.get("FASTATTN_PLUGINS_STRICT", "") not in ("", "0")
        taken: set[str] = set()
        for provider, load in self._candidates():
            if wanted is not None:
                if not wanted & {provider.name, provider.distribution}:
                    provider.status = "disabled"
                    found.append(provider)
                    continue
                taken |= {provider.name, provider.distribution}
            with self._asked(provider) as already:
                error = None if already else _ask(hooks, provider, load)
            if already or _half_imported(provider):
                settled = False
                continue
            found.append(provider)
            if error is not None:
                provider.status, provider.problem = "broken", said(error)
            if provider.problem and strict:
                raise PluginError(one_line(f"plugin {provider}: {provider.problem}")) from error
            if provider.problem:
                problems.append(f"plugin {provider}{' is left out' if error else ''}: {provider.problem}")
        for name in sorted((wanted or set()) - taken):
            problems.append(f"FASTATTN_PLUGINS names {name!r}, which is not installed")
        return found, problems, settled

    @contextlib.contextmanager
    def _asked(self, provider: Provider) -> Iterator[bool]:
        """Note that this thread imports and asks the plugin; tell whether it did already."""
        names: set[str] = vars(self._asking).setdefault("names", set())
        already = provider.name in names
        names.add(provider.name)
        try:
            yield already
        finally:
            if not already:
                names.remove(provider.name)


def built_in() -> list[Provider]:
    """Return what fastattn itself provides, a provider for each family; this imports all registries."""
    found = []
    for family, kind in FAMILIES.items():
        own = importlib.import_module(kind.home).REGISTRY.built_in
        found.append(Provider(f"fastattn.{family}", kind.home, status="built in", records={family: dict(own)}))
    return found


def _itself(plugin: Any) -> Any:
    return plugin


def _ask(hooks: Hooks, provider: Provider, load: Callable[[], Any]) -> Exception | None:
    """Import a plugin and read what its hooks return; return what goes wrong."""
    if provider.status == "broken":  # it could not even be read
        return PluginError(provider.problem)
    try:
        if wrong := fault_of(provider.name):
            raise PluginError(describe_file(provider.place, wrong, NAME_HINT))
        if hooks.has_plugin(provider.name):
            hint = "remove one of the packages, or ask its author for another name of its entry point."
            raise PluginError(describe_file(provider.place, "another plugin has this name", hint))
        contained(lambda: read(hooks, provider, load()))
    except Exception as error:
        return error
    return None


def _half_imported(provider: Provider) -> bool:
    """Whether the import of the plugin's module has begun and not ended: it may not have its hooks yet."""
    module = sys.modules.get(provider.place.partition(":")[0])
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


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
    (True, ['fastattn.scores', 'fastattn.normalizers', 'fastattn.variants', ..., 'my_plugin'])
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
