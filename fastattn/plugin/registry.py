"""The registry: everything of one family that has a name, our own first, then what plugins provide.

Our own are found without a look at plugins: these are looked for when a name is not ours, or names are listed.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastattn import _known_as
from fastattn.errors import ArgumentError, DTypeError, PluginError, describe, describe_file, did_you_mean
from fastattn.plugin import making
from fastattn.plugin.names import NAME_HINT, fault_of
from fastattn.plugin.records import Record

if TYPE_CHECKING:
    from fastattn.plugin.provider import Provider

__all__ = ["Registry"]

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Registry(Generic[R, T]):
    """A family of things by name: `fastattn.scores`, `normalizers`, `variants`, `positions`, the models of seq2seq.

    Parameters
    ----------
    record_type : type of Record
        It has the words of the family.
    kind : type
        What factories return.
    own : iterable of records
        Those of fastattn itself.
    of_others : callable, optional
        Makes one of the family of an object that is none, or returns None.

    Examples
    --------
    >>> import fastattn
    >>> fastattn.scores.names()[:3]
    ('additive', 'concat', 'cosine')
    >>> fastattn.scores.record("general").summary
    'q w k'
    """

    def __init__(
        self,
        record_type: type[R],
        kind: type[T],
        own: Iterable[R],
        of_others: Callable[[object], T | None] = lambda given: None,
    ) -> None:
        self.record_type, self.kind, self._of_others = record_type, kind, of_others
        self.built_in = {record.name: record for record in own}
        self._place = record_type.home.removesuffix(".registry")
        self._first = next(iter(self.built_in))
        self._own = dict(self.built_in)
        self._made: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """Return all names, those of plugins too."""
        return tuple(sorted(self.records()))

    def records(self) -> Mapping[str, R]:
        """Return all records by name, those of plugins too; no factory is imported.

        One that two plugins provide is there as ``plugin:name``, as is one of a plugin that has the name of ours.
        """
        offers: dict[str, list[tuple[Provider, R]]] = {}
        for provider, record in self.offers():
            offers.setdefault(record.name, []).append((provider, record))
        found = dict(self.registered())
        for name, given in offers.items():
            alone = len(given) == 1 and name not in found
            found |= {name if alone else f"{provider.name}:{name}": record for provider, record in given}
        return MappingProxyType(found)

    def record(self, name: Any) -> R:
        """Return the record of a name; ``plugin:name`` says of which plugin.

        Raises
        ------
        ArgumentError
            If there is none; it names what is closest.
        PluginError
            If two plugins provide it.
        """
        if not isinstance(name, str):
            expected = f"the name of a {self.record_type.noun}"
            raise DTypeError(describe("name", expected, type(name).__name__, f"pass {self._first!r}, say."))
        own = self.registered().get(name.removeprefix(f"fastattn.{self.record_type.family}:"))
        if own is not None:
            return own
        whose, _, plain = name.rpartition(":")
        offers = [
            (provider, record)
            for provider, record in self.offers()
            if record.name == plain and whose in ("", provider.name, provider.distribution)
        ]
        if len(offers) > 1:
            who = " and ".join(str(provider) for provider, _ in offers)
            ways = " or ".join(repr(f"{provider.name}:{plain}") for provider, _ in offers)
            hint = f"say {ways}, or set FASTATTN_PLUGINS to the plugins that you want."
            raise PluginError(describe_file(name, f"is provided by {who}", hint))
        if not offers:
            names = self.names()
            expected = f"one of {', '.join(names)}"
            raise ArgumentError(describe(self.record_type.argument, expected, repr(name), self._advice(name, names)))
        return offers[0][1]

    def registered(self) -> Mapping[str, R]:
        """Return our own and what the program has registered, by name."""
        return self._own

    def register(self, new: R, *, replace: bool = False) -> None:
        """Add a record, for this program.

        Parameters
        ----------
        new : Record
            Of the family's type.
        replace : bool
            Whether one of the same name may be replaced. One of a class that is defined anew, as by running a cell of a
            notebook again, always is.

        Raises
        ------
        ArgumentError
            If there is one of that name and of another class, or the name is not a valid name.
        """
        kind = self.record_type.__name__
        if not isinstance(new, self.record_type):
            raise DTypeError(describe("new", f"a {kind}", type(new).__name__, f"pass {kind}('mine', Mine)."))
        if wrong := fault_of(new.name):
            raise ArgumentError(describe_file("name", wrong, NAME_HINT))
        if new.name in self._own and not replace and not _same_class(new.factory, self._own[new.name].factory):
            hint = "choose another name, or pass replace=True."
            raise ArgumentError(describe("name", "a new name", repr(new.name), hint))
        self._own[new.name] = new
        self._made.pop(new.name, None)

    def options(self, name: str) -> Mapping[str, inspect.Parameter]:
        """Return the options with which something is made, with their defaults."""
        return making.options(self.record(name))

    def create(self, name: str, **given: Any) -> T:
        """Make what a name stands for.

        Parameters
        ----------
        name : str
            ``plugin:name`` says of which plugin, where there are several.
        **given
            Its parameters and options, as its class takes them.

        Raises
        ------
        ArgumentError
            If there is no such name, or it has no such option, or lacks one that it needs.
        PluginError
            If two plugins provide the name, or what provides it cannot be imported.

        Examples
        --------
        >>> import numpy as np, fastattn
        >>> fastattn.scores.create("general", w=np.ones((3, 5)))
        General(w: (3, 5), float64)
        >>> fastattn.normalizers.create("sparsemax")
        Sparsemax()
        """
        made: T = making.make(self.record(name), given, self.kind)
        return made

    def read(self, given: object, **decided: Any) -> T:
        """Make what a table names: ``{"name": "entmax", "alpha": 1.3}``; a name alone and an object will do too.

        Parameters
        ----------
        given : str, mapping or object of the family
        **decided
            Options that are the caller's to decide, for those that take them.

        Raises
        ------
        ArgumentError, DTypeError, PluginError
            As `create` does.

        Examples
        --------
        >>> import fastattn
        >>> print(fastattn.normalizers.read({"name": "entmax", "alpha": 1.3}).alpha)
        1.3
        """
        if isinstance(given, self.kind):
            return given
        other = None if isinstance(given, (str, Mapping)) else self._of_others(given)
        if other is not None:
            return other
        argument = self.record_type.argument
        table: Any = {"name": given} if isinstance(given, str) else given
        if not isinstance(table, Mapping) or "name" not in table:
            expected = f"a name, a mapping of a name and settings, or an object of {self._place}"
            got = f"{table!r} without a name" if isinstance(table, Mapping) else type(given).__name__
            hint = f"pass {self._first!r}, or {{'name': {self._first!r}}} and its settings."
            raise (ArgumentError if isinstance(table, Mapping) else DTypeError)(describe(argument, expected, got, hint))
        settings = {option: value for option, value in table.items() if option != "name"}
        made: T = making.make(self.record(table["name"]), settings, self.kind, decided, f"{argument}.")
        return made

    def resolve(self, given: object) -> T:
        """Return an object as it is, or what a name stands for where no option is needed, which is made once.

        Raises
        ------
        ArgumentError
            If there is no such name, or what it stands for needs options.
        DTypeError
            If it is neither a name nor an object of the family.

        Examples
        --------
        >>> import fastattn
        >>> fastattn.normalizers.resolve("sparsemax")
        Sparsemax()
        """
        if isinstance(given, str):
            made = self._made.get(given)
            return made if made is not None else self._default(given)
        if isinstance(given, self.kind):
            return given
        other = self._of_others(given)
        if other is not None:
            return other
        expected = f"a name or an object of {self._place}"
        raise DTypeError(
            describe(self.record_type.argument, expected, type(given).__name__, f"pass {self._first!r}, say.")
        )

    def _default(self, name: str) -> T:
        record = self.record(name)
        if missing := making.needed(record):
            options = ", ".join(f"{option}=..." for option in missing)
            hint = f"this one has parameters: pass {self._place}.create({name!r}, {options})."
            expected = f"a {self.record_type.noun} without parameters, or an object"
            raise ArgumentError(describe(self.record_type.argument, expected, repr(name), hint))
        made = self.create(name)
        if self._own.get(name) is record:
            self._made[name] = made
        else:
            _plugins().keep(self._made, name, made)
        return made

    def offers(self) -> "Iterable[tuple[Provider, R]]":
        """Return the plugins' records of the family."""
        found: Any = (
            (provider, record)
            for provider in _plugins().plugins()
            for record in provider.records.get(self.record_type.family, {}).values()
        )
        return found

    def _advice(self, name: str, known: Iterable[str]) -> str:
        """Return a sentence that helps whoever asked for an unknown name."""
        if hint := _known_as.advice(name, _known_as.FAMILIES.get(self.record_type.family, {})):
            return hint
        idle = [provider for provider in _plugins().plugins() if provider.status in ("broken", "disabled")]
        if idle:
            names = ", ".join(f"{provider.name} ({provider.status})" for provider in idle)
            otherwise = f"is it from a plugin that is not loaded: {names}? See `fastattn plugins`."
        else:
            otherwise = "use one of these names, or install the plugin that has it."
        return did_you_mean(name, known, otherwise)


def _same_class(new: object, old: object) -> bool:
    """Whether both are classes of one name in one module, so that the new one was defined in the old one's place."""
    if not isinstance(new, type) or not isinstance(old, type):
        return False
    return (new.__module__, new.__qualname__) == (old.__module__, old.__qualname__)


def _plugins() -> Any:
    from fastattn.plugin import manager  # it loads pluggy

    return manager.current()
