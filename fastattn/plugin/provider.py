"""Who provides what: one object for each plugin, whether it works or not, and how it is read."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pluggy

from fastattn.errors import PluginError, describe_file, did_you_mean
from fastattn.plugin import hookspecs
from fastattn.plugin.names import NAME_HINT, fault_of
from fastattn.plugin.records import FAMILIES, Record

__all__ = ["Hooks", "Provider", "read"]


@dataclass
class Provider:
    """A plugin that is installed, or a part of fastattn itself.

    Attributes
    ----------
    name : str
        Of the entry point.
    place : str
        What the entry point names, ``package.module``.
    distribution, version : str
        Of the package that was installed.
    status : {"built in", "active", "disabled", "broken"}
    problem : str
        Why it is broken; or, of an active one, what in it was ignored.
    records : dict of str to dict
        By family ("scores", "normalizers", "variants", "positions", "models") and name.
    """

    name: str
    place: str
    distribution: str = ""
    version: str = ""
    status: str = "active"
    problem: str = ""
    records: dict[str, dict[str, Record]] = field(default_factory=dict)

    def __str__(self) -> str:
        package = f"{self.distribution} {self.version}".strip()
        return f"{self.name!r}" if not package else f"{self.name!r} of {package}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as text, for JSON."""
        return {
            "name": self.name, "place": self.place, "distribution": self.distribution, "version": self.version,
            "status": self.status, "problem": self.problem,
            "provides": {family: sorted(found) for family, found in self.records.items() if found},
        }  # fmt: skip


class Hooks(pluggy.PluginManager):
    """Pluggy's manager, for which every function called ``fastattn_...`` is a hook, marked or not."""

    def __init__(self) -> None:
        super().__init__(hookspecs.PROJECT)
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Return the options of a hook, or None if it is none."""
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is None and name.startswith("fastattn_") and inspect.isroutine(getattr(plugin, name, None)):
            return {}
        return marked


def read(hooks: Hooks, provider: Provider, plugin: object) -> None:
    """Call the hooks of one plugin and keep its records, all or none.

    Raises
    ------
    Exception
        Whatever a hook raises; a PluginError without a hook, or where a record is not what it should be. The plugin is
        then not registered.
    """
    hooks.register(plugin, provider.name)
    try:
        callers = hooks.get_hookcallers(plugin) or []
        unknown = sorted(caller.name for caller in callers if not caller.has_spec())
        known = [caller.name for caller in callers if caller.has_spec()]
        wrong = " ".join([*(_advice(name) for name in unknown), *_no_functions(plugin)])
        if not known:
            hint = f"define one of {', '.join(f'fastattn_{family}' for family in FAMILIES)}."
            problem = f"has no hook of fastattn ({wrong.rstrip('.')})" if wrong else "has no hook of fastattn"
            raise PluginError(describe_file(provider.place, problem, hint))
        others = [other for other in hooks.get_plugins() if other is not plugin]
        records: dict[str, dict[str, Record]] = {}
        silent: list[str] = []
        for name in known:
            family = name.removeprefix("fastattn_")
            records[family] = {}
            answers = hooks.subset_hook_caller(name, others)()
            for returned in answers:
                _keep(name, FAMILIES[family], returned, records[family])
            if not answers:  # pluggy drops None
                silent.append(f"{name} returned None and is ignored; does it forget to return its list?")
    except BaseException:
        hooks.unregister(plugin)
        raise
    provider.records, provider.problem = records, " ".join([wrong, *silent]).strip()


def _no_functions(plugin: object) -> list[str]:
    """Return what is called like a hook, can be called, and is no function: pluggy passes over it."""
    named = {name: getattr(plugin, name, None) for name in dir(plugin) if name.startswith("fastattn_")}
    return [
        f"{name} is a {type(found).__name__}, not a function, and is ignored."
        for name, found in named.items()
        if callable(found) and not inspect.isroutine(found)
    ]


def _advice(name: str) -> str:
    hooks = [f"fastattn_{family}" for family in FAMILIES]
    known = f"hooks are {', '.join(hooks)}."
    return f"{name} is not a hook and is ignored; {did_you_mean(name, hooks, known)}"


def _keep(hook: str, kind: type[Record], returned: Any, found: dict[str, Record]) -> None:
    hint = f"return a list of fastattn.plugin.{kind.__name__}."
    if isinstance(returned, (str, bytes, Record)) or not isinstance(returned, Iterable):
        raise PluginError(describe_file(hook, f"returned {type(returned).__name__}, not a list of records", hint))
    given: Any
    for given in returned:
        if not isinstance(given, kind):
            raise PluginError(describe_file(hook, f"returned a {type(given).__name__} in its list", hint))
        name: Any = given.name
        factory: Any = given.factory
        if wrong := fault_of(name):
            raise PluginError(describe_file(hook, wrong, NAME_HINT))
        if not callable(factory) and not (isinstance(factory, str) and ":" in factory):
            hint = "give a class, a function, or where it is: 'package.module:name'."
            raise PluginError(describe_file(hook, f"the factory of {name!r} is {factory!r}", hint))
        if name in found:
            raise PluginError(describe_file(hook, f"returned two records called {name!r}", "rename one."))
        found[name] = given
