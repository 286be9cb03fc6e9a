"""The doors of the conformance kit: for scripts, for pytest, and for whole plugins."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypedDict, Unpack

from fastattn.errors import PluginError, describe_file, problem_of
from fastattn.normalizers.base import Normalizer
from fastattn.plugin.manager import current, isolated
from fastattn.plugin.records import NormalizerRecord, Record, ScoreRecord, VariantRecord
from fastattn.scores.base import Score
from fastattn.testing.arrays import as_record
from fastattn.testing.certificate import Certificate, run
from fastattn.testing.function_checks import FunctionSubject, as_function, function_checks
from fastattn.testing.normalizer_checks import NORMALIZER_CHECKS, NormalizerSubject
from fastattn.testing.score_checks import SCORE_CHECKS, ScoreSubject
from fastattn.testing.variant_checks import VARIANT_CHECKS
from fastattn.testing.variant_subject import VariantSubject
from fastattn.variants.protocol.variant import Variant

__all__ = ["check_normalizer", "check_plugin", "check_score", "check_variant", "parametrize", "records_of"]


class Asked(TypedDict, total=False):
    """What a check may be asked for besides its subject."""

    options: Mapping[str, Any] | None
    reference: Callable[..., Any] | None
    expected_failures: Mapping[str, str] | None


def check_variant(subject: Any, **asked: Unpack[Asked]) -> Certificate:
    """Check an attention mechanism against everything that fastattn promises.

    Parameters
    ----------
    subject : VariantRecord, or a class or function
        What makes the variant, called with ``query_width``, ``memory_width``, ``rng``, ``dtype`` and the options.
    options : mapping, optional
        By default the first of the record's examples.
    reference : callable, optional
        ``reference(parameters, queries, memory, values, allowed, **options) -> (contexts, weights)``, the formula in
        float64; by default the record's. One that names ``lengths`` gets these too.
    expected_failures : mapping of str to str, optional
        Reasons, by the names of checks that are known to fail; one that passes nevertheless is a failure.

    Returns
    -------
    Certificate
        ``print(certificate)``, ``certificate.passed``, ``certificate.to_dict()``, ``certificate.require()``.

    Examples
    --------
    >>> from fastattn.testing import check_variant
    >>> certificate = check_variant(fastattn.variants.record("dot"))
    >>> certificate.passed, certificate["masks"].status
    (True, 'passed')
    """
    return check(VariantRecord, subject, **asked)


def check(kind: type[Record], subject: Any, **asked: Unpack[Asked]) -> Certificate:
    """Check what a record of this kind makes, or a class or function that makes such a thing."""
    made = _subject(subject, kind, asked.get("options"), asked.get("reference"))
    return run(str(made), _named(made), dict(asked.get("expected_failures") or {}))


def check_score(subject: Any, **asked: Unpack[Asked]) -> Certificate:
    """Check a score function against everything that fastattn promises.

    Parameters
    ----------
    subject : ScoreRecord, or a class or function
        Or a function that `fastattn.score_mod` or `fastattn.pairwise_score` takes, decorated or not; options are then
        its parameters. A plain one is known by how many arguments it has, five or two, as in `attention`.
    **asked
        As of `check_variant`. An option that is a function is called with ``(rng, query_width, key_width, dtype)`` and
        draws a parameter; the formula is ``reference(parameters, query, key, scale) -> scores`` (B, Tq, Tk).

    Returns
    -------
    Certificate

    Examples
    --------
    >>> from fastattn.testing import check_score
    >>> check_score(fastattn.scores.Dot, reference=lambda p, q, k, scale: q @ k.swapaxes(1, 2)).failed
    ()
    >>> check_score(lambda score, b, h, i, j: score - abs(i - j)).failed
    ()
    """
    function = as_function(subject, False, asked.get("options"))
    return check(ScoreRecord, subject, **asked) if function is None else _check_function(function, **asked)


def check_normalizer(subject: Any, **asked: Unpack[Asked]) -> Certificate:
    """Check a normalizer against everything that fastattn promises.

    Parameters
    ----------
    subject : NormalizerRecord, or a class or function
        Or a function that `fastattn.row_function` takes, decorated or not; options are then its parameters, and its
        weights need neither sum to one nor be positive.
    **asked
        As of `check_score`; the formula is ``reference(scores, **options) -> weights`` of rows, where a masked score
        is -inf.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> from fastattn.testing import check_normalizer
    >>> check_normalizer(fastattn.normalizers.Sparsemax).failed
    ()
    >>> check_normalizer(lambda s, b, h, i, j: 1 / (1 + np.exp(-s))).failed
    ()
    """
    function = as_function(subject, True, asked.get("options"))
    return check(NormalizerRecord, subject, **asked) if function is None else _check_function(function, **asked)


def _check_function(function: Any, **asked: Unpack[Asked]) -> Certificate:
    made = FunctionSubject(function, asked.get("options") or {}, asked.get("reference"))
    return run(str(made), function_checks(made), dict(asked.get("expected_failures") or {}))


# What the kit knows of a family: the class of its objects, the subject of checks, and the checks.
_FAMILIES: dict[type[Record], tuple[type, Callable[..., Any], tuple[Callable[[Any], object], ...]]] = {
    VariantRecord: (Variant, VariantSubject, VARIANT_CHECKS),
    ScoreRecord: (Score, ScoreSubject, SCORE_CHECKS),
    NormalizerRecord: (Normalizer, NormalizerSubject, NORMALIZER_CHECKS),
}


def _checked(records: list[Record]) -> list[Record]:
    return [record for record in records if type(record) in _FAMILIES]


def _subject(subject: Any, kind: type[Record], options: Any, reference: Any = None) -> Any:
    base, make, _ = _FAMILIES[kind]
    record = as_record(subject, kind, base)
    given = options if options is not None else (record.examples or ({},))[0]
    return make(record, given, reference)


def _named(subject: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    for check in _FAMILIES[type(subject.record)][2]:
        yield check.__name__, partial(check, subject)


def records_of(plugin: Any) -> list[Record]:
    """Return the records of a plugin: its name, or a module or object with hooks; nothing else is loaded.

    Raises
    ------
    PluginError
        If there is no such plugin, or it is broken or disabled.
    """
    if not isinstance(plugin, str):
        with isolated({"plugin": plugin}) as manager:
            return _usable(manager.providers()[-1])
    for provider in current().providers():
        if plugin in (provider.name, provider.distribution):
            return _usable(provider)
    known = ", ".join(provider.name for provider in current().providers())
    raise PluginError(describe_file(plugin, f"there is no such plugin among {known}", "install its package."))


def _usable(provider: Any) -> list[Record]:
    if provider.status in ("broken", "disabled"):
        broken = provider.status == "broken"
        hint = "see `fastattn plugins`, and repair it." if broken else "name it in FASTATTN_PLUGINS, or unset that."
        problem = problem_of(provider.problem) or "not loaded"
        raise PluginError(describe_file(provider.name, f"is {provider.status}: {problem}", hint))
    return [record for found in provider.records.values() for record in found.values()]


def check_plugin(plugin: Any, *, expected_failures: Mapping[str, str] | None = None) -> list[Certificate]:
    """Check that a plugin loads and hands over usable records, and then each of them with each of its examples.

    Of mechanisms of positions and of models it is checked that they can be imported.

    Parameters
    ----------
    plugin : str or object
        The name of an installed plugin or distribution, or a module or object with hooks.
    expected_failures : mapping of str to str, optional
        Reasons, by ``name.check``.

    Returns
    -------
    list of Certificate
        First that of the plugin itself: ``loads`` and ``hooks``.
    """
    found: list[Record] = []
    reasons = dict(expected_failures or {})
    name = plugin if isinstance(plugin, str) else getattr(plugin, "__name__", type(plugin).__name__)
    problems: list[str] = []

    def loads() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.extend(records_of(plugin))
            if isinstance(plugin, str):
                problems.extend(p.problem for p in current().providers() if plugin in (p.name, p.distribution))
            else:
                with isolated({"plugin": plugin}) as manager:
                    problems.append(manager.providers()[-1].problem)
        return f"{len(found)} records"

    def hooks() -> None:
        assert not any(problems), " ".join(problems)

    def factories() -> None:
        for record in found:
            record.load()

    certificates = [run(f"plugin {name!r}", [("loads", loads), ("hooks", hooks), ("factories", factories)])]
    for record in _checked(found) if certificates[0].passed else []:
        own = {key.removeprefix(f"{record.name}."): why for key, why in reasons.items() if
               key.startswith(f"{record.name}.")}  # fmt: skip
        for example in record.examples or ({},):
            made = _subject(record, type(record), example)
            certificates.append(run(str(made), _named(made), own))
    return certificates


def parametrize(*subjects: Any, expected_failures: Mapping[str, str] | None = None) -> Any:
    """Return a decorator that makes a pytest test of each check of each subject; the test calls ``check()``.

    Parameters
    ----------
    *subjects : VariantRecord, ScoreRecord, NormalizerRecord, or a module or object with hooks
        Records are checked with all their examples.
    expected_failures : mapping of str to str, optional
        Reasons, by ``check`` or ``name.check``: those tests must fail.

    Examples
    --------
    ::

        import my_plugin
        from fastattn.testing import parametrize

        @parametrize(my_plugin, expected_failures={"my_variant.forked_child": "it opens a file"})
        def test_conformance(check):
            check()
    """
    import pytest

    cases, reasons, used = [], dict(expected_failures or {}), set()
    for subject in subjects:
        for record in [subject] if isinstance(subject, Record) else _checked(records_of(subject)):
            for number, example in enumerate(record.examples or ({},)):
                made = _subject(record, type(record), example)
                kind = type(record).__name__.removesuffix("Record").lower()
                for name, check in _named(made):
                    keys = {name, f"{record.name}.{name}"} & reasons.keys()
                    used |= keys
                    why = reasons[min(keys)] if keys else ""
                    marks = [pytest.mark.xfail(reason=why, strict=True)] if keys else []
                    place = "-".join([kind, record.name, *([str(number)] if number else []), name])
                    cases.append(pytest.param(partial(_or_skip, check), id=place, marks=marks))
    if reasons.keys() - used:
        raise ValueError(f"expected_failures names unknown checks: {sorted(reasons.keys() - used)}")
    return pytest.mark.parametrize("check", cases)


def _or_skip(check: Callable[[], object]) -> None:
    import pytest

    from fastattn.errors import UnsupportedError
    from fastattn.testing.certificate import Skipped

    try:
        check()
    except (UnsupportedError, Skipped) as why:
        pytest.skip(str(why))
