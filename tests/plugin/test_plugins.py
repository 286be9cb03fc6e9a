"""Plugins are found late, in isolation, and never in silence."""

import dataclasses
import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from wrong_plugins import Dot

import fastattn
from fastattn import positions, scores
from fastattn.errors import ArgumentError, DTypeError, PluginError, PluginWarning
from fastattn.plugin import ModelRecord, PositionsRecord, Record, ScoreRecord, VariantRecord, isolated, providers
from fastattn.plugin.records import FAMILIES
from fastattn.positions import Positions
from fastattn.testing import check_score, check_variant
from fastattn.testing.variant_checks import VARIANT_CHECKS
from fastattn.variants.of_score import of_score


class Doubled(Dot):
    name = "doubled"

    class score_class(scores.Dot):
        def default_scale(self, width):
            return 2.0


class Negative(scores.Dot):
    name = "negative"

    def project_query(self, query):
        return -query


def module(**names):
    made = ModuleType("a_plugin")
    vars(made).update(names)
    return made


def nothing():
    return []


def plugin(**hooks):
    return module(**{f"fastattn_{name}": value for name, value in hooks.items()})


def variants_of(*records):
    return plugin(variants=lambda: list(records))


DOUBLED = VariantRecord("doubled", Doubled, "2 q . m")
GOOD = variants_of(DOUBLED)


def test_a_plugin_is_listed_and_made_by_name():
    with isolated({"good": GOOD}):
        assert "doubled" in fastattn.variants.names()
        assert fastattn.variants.records()["doubled"] is DOUBLED
        made = fastattn.create("doubled", query_width=3, memory_width=3)
        assert made.scale == 2
        row = providers()[-1]
        assert (row.name, row.status, sorted(row.records["variants"])) == ("good", "active", ["doubled"])
    assert "doubled" not in fastattn.variants.names()


def test_a_score_of_a_plugin_is_used_by_name_and_made_once():
    calls = []

    def factory():
        calls.append(1)
        return Negative()

    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    wanted = fastattn.attention(-x, x, x, score="dot")
    with isolated({"p": plugin(scores=lambda: [ScoreRecord("negative", factory)])}):
        for _ in range(3):
            assert (fastattn.attention(x, x, x, score="negative") == wanted).all()
        assert len(calls) == 1
        with isolated(), pytest.raises(ArgumentError, match="expected one of additive"):
            fastattn.attention(x, x, x, score="negative")
        assert (fastattn.attention(x, x, x, score="negative") == wanted).all()
        assert isinstance(scores.create("negative"), Negative) and "negative" in scores.names()
    with isolated(), pytest.raises(ArgumentError, match="expected one of additive"):
        fastattn.attention(x, x, x, score="negative")


def test_a_score_with_parameters_says_how_it_is_made():
    record = ScoreRecord("bent", "fastattn.scores:General")
    with isolated({"p": plugin(scores=lambda: [record])}):
        with pytest.raises(ArgumentError, match=r"scores\.create\('bent', w=\.\.\.\)"):
            fastattn.attention(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), score="bent")
        assert scores.create("bent", w=np.eye(3)).parameters["w"].shape == (3, 3)
        with pytest.raises(ArgumentError, match="did you mean 'softcap'"):
            scores.create("bent", w=np.eye(3), softcaps=2)


def raising(error):
    def hook():
        raise error

    return hook


def broken_import():
    import no_such_module_of_anybody  # noqa: F401


BROKEN = {
    "import": (broken_import, "ModuleNotFoundError: No module named 'no_such_module_of_anybody'"),
    "exit": (raising(SystemExit(3)), "SystemExit: 3"),
    "raises": (plugin(variants=raising(ValueError("ouch"))), "ValueError: ouch"),
    "no list": (plugin(variants=lambda: DOUBLED), "returned VariantRecord, not a list"),
    "nothing": (plugin(variants=lambda: 3), "returned int, not a list"),
    "other family": (plugin(scores=lambda: [DOUBLED]), "returned a VariantRecord in its list"),
    "class": (variants_of(Doubled), "returned a type in its list"),
    "name": (variants_of(VariantRecord("Two Words", Doubled)), "'Two Words' is not a valid name"),
    "factory": (variants_of(VariantRecord("mine", "nowhere")), "the factory of 'mine' is 'nowhere'"),
    "twice": (variants_of(DOUBLED, DOUBLED), "two records called 'doubled'"),
    "no hook": (module(fastattn_variant=nothing), "did you mean 'fastattn_variants'?"),
    "no function": (module(fastattn_variants=list), "fastattn_variants is a type, not a function"),
    "half": (plugin(scores=lambda: [ScoreRecord("s", Negative)], variants=raising(KeyError("x"))), "KeyError: 'x'"),
}


@pytest.mark.parametrize("which", BROKEN)
def test_a_broken_plugin_is_one_warning_and_a_row(which):
    bad, words = BROKEN[which]
    with isolated({"bad": bad, "good": GOOD}):
        with pytest.warns(PluginWarning) as caught:
            assert "doubled" in fastattn.variants.names()
        assert len(caught) == 1 and words in str(caught[0].message) and "'bad'" in str(caught[0].message)
        rows = {row.name: row for row in providers()}
        assert rows["bad"].status == "broken" and words in rows["bad"].problem and not rows["bad"].records
        assert rows["good"].status == "active"
        fastattn.create("doubled", query_width=3, memory_width=3)
        with pytest.raises(ArgumentError, match=r"bad \(broken\).*fastattn plugins"):
            fastattn.create("something_else")


def test_strictness_makes_it_an_error(monkeypatch):
    monkeypatch.setenv("FASTATTN_PLUGINS_STRICT", "1")
    with isolated({"bad": plugin(variants=raising(ValueError("ouch")))}), pytest.raises(PluginError, match="ouch"):
        fastattn.variants.names()
    misspelt = module(fastattn_variant=nothing, fastattn_variants=lambda: [DOUBLED])
    with isolated({"bad": misspelt}), pytest.raises(PluginError, match="did you mean 'fastattn_variants'"):
        fastattn.variants.names()


def test_a_misspelt_hook_beside_a_good_one_is_found():
    both = module(fastattn_variants=lambda: [DOUBLED], fastattn_score=nothing)
    with isolated({"both": both}):
        with pytest.warns(PluginWarning, match="fastattn_score is not a hook .*; did you mean 'fastattn_sc"):
            fastattn.create("doubled", query_width=3, memory_width=3)
        assert providers()[-1].status == "active" and "fastattn_score" in providers()[-1].problem


def test_two_providers_of_a_name_are_both_named():
    other = VariantRecord("doubled", "wrong_plugins:Dot")
    with isolated({"one": GOOD, "two": variants_of(other)}):
        with pytest.raises(PluginError, match="is provided by 'one' and 'two'") as caught:
            fastattn.create("doubled", query_width=3, memory_width=3)
        assert "'one:doubled' or 'two:doubled'" in str(caught.value)
        assert fastattn.create("one:doubled", query_width=3, memory_width=3).scale == 2
        assert fastattn.create("two:doubled", query_width=3, memory_width=3).scale == 1
        assert {"one:doubled", "two:doubled"} < set(fastattn.variants.names())
        assert "doubled" not in fastattn.variants.names()


def test_what_is_built_in_stays_unless_the_user_asks():
    with isolated({"mine": variants_of(VariantRecord("dot", Doubled))}):
        assert fastattn.create("dot", query_width=3, memory_width=3).scale == 1
        assert fastattn.create("mine:dot", query_width=3, memory_width=3).scale == 2
        assert "mine:dot" in fastattn.variants.names() and "dot" in fastattn.variants.names()
    with isolated({"mine": plugin(scores=lambda: [ScoreRecord("dot", Negative)])}):
        assert type(scores.create("dot")) is scores.Dot
        assert type(scores.create("mine:dot")) is Negative


def test_a_factory_that_makes_something_else_is_named():
    with isolated({"odd": variants_of(VariantRecord("odd", lambda: 3))}), pytest.raises(PluginError, match="got int"):
        fastattn.create("odd")
    with isolated({"odd": variants_of(VariantRecord("odd", "no.such:thing"))}):
        assert "odd" in fastattn.variants.names()  # a listing imports no factory
        with pytest.raises(PluginError, match=r"no\.such:thing cannot be imported"):
            fastattn.create("odd")


def registry(family):
    return importlib.import_module(FAMILIES[family].home).REGISTRY


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_are_records_of_the_same_types(family):
    with isolated():
        row = {row.name: row for row in providers()}[f"fastattn.{family}"]
        assert row.status == "built in" and row.records[family].keys() == set(registry(family).names())
        assert all(type(record) is FAMILIES[family] for record in row.records[family].values())
        for record in row.records[family].values():
            assert callable(record.load()) and record.summary


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_looked_up_in_one_way(family):
    kind, known = FAMILIES[family], registry(family)
    own = next(iter(known.built_in))
    mine, theirs = kind("mine", "nowhere:at_all"), kind("mine", "nowhere:else")
    hook = f"fastattn_{family}"
    with isolated({"one": module(**{hook: lambda: [mine, kind(own, "nowhere:mine")]})}):
        assert known.record("mine") is mine and known.record("one:mine") is mine
        assert known.record(own) is known.record(f"fastattn.{family}:{own}") is known.built_in[own]
        assert known.record(f"one:{own}").factory == "nowhere:mine"
        assert {"mine", own, f"one:{own}"} <= set(known.names()) and known.records()["mine"] is mine
        with pytest.raises(ArgumentError, match=f"^{kind.argument}: expected one of .*, got 'mime'.*\n.*mean 'mine'"):
            known.record("mime")
        with pytest.raises(DTypeError, match=f"the name of a {kind.noun}, got int"):
            known.record(3)
    with isolated({"one": module(**{hook: lambda: [mine]}), "two": module(**{hook: lambda: [theirs]})}):
        with pytest.raises(PluginError, match="is provided by 'one' and 'two'"):
            known.record("mine")
        assert known.record("two:mine") is theirs and {"one:mine", "two:mine"} <= set(known.names())
    with isolated(), pytest.raises(ArgumentError):
        known.record("mine")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_program_adds_and_replaces_records(family, monkeypatch):
    kind, known = FAMILIES[family], registry(family)
    own = next(iter(known.built_in))
    monkeypatch.setattr(known, "_own", dict(known.built_in))
    known.register(kind("mine", "a:b"))
    assert known.record("mine").factory == "a:b" and "mine" not in known.built_in
    with pytest.raises(ArgumentError, match="a new name"):
        known.register(kind(own, "a:b"))
    known.register(kind(own, "a:b"), replace=True)
    assert known.record(own).factory == "a:b"
    with pytest.raises(ArgumentError, match="'Mine' is not a valid name"):
        known.register(kind("Mine", "a:b"))
    with pytest.raises(DTypeError, match=f"a {kind.__name__}"):
        known.register("mine")


def test_a_cell_of_a_notebook_may_register_its_class_again(monkeypatch):
    known = registry("scores")
    monkeypatch.setattr(known, "_own", dict(known.built_in))
    cell = "class Mine(Negative): pass\nclass Other(Negative): pass"
    first, second = ({"Negative": Negative, "__name__": "notebook"} for _ in range(2))
    for names in (first, second):
        exec(cell, names)
        known.register(ScoreRecord("mine", names["Mine"]))
    assert known.record("mine").factory is second["Mine"] is not first["Mine"]
    elsewhere = type("Mine", (Negative,), {"__module__": "elsewhere"})
    for other in (second["Other"], elsewhere, lambda: second["Mine"](), "notebook:Mine"):
        with pytest.raises(ArgumentError, match="a new name"):
            known.register(ScoreRecord("mine", other))


def test_what_replaces_ours_is_used_by_name(monkeypatch):
    known = registry("scores")
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    wanted = fastattn.attention(-x, x, x, score="dot")
    monkeypatch.setattr(known, "_own", dict(known.built_in))
    monkeypatch.setattr(known, "_made", {"dot": known.create("dot")})
    known.register(ScoreRecord("dot", Negative), replace=True)
    assert (fastattn.attention(x, x, x, score="dot") == wanted).all()


def test_positions_of_a_plugin_are_made_with_the_sizes_that_they_take():
    class Places(Positions):
        def __init__(self, head_width, *, rng, depth=1):
            self.made = head_width, depth

    sizes = {"width": 8, "heads": 2, "head_width": 4, "rng": np.random.default_rng(0), "dtype": np.float32}
    with isolated({"p": plugin(positions=lambda: [PositionsRecord("places", Places)])}):
        assert positions.create("places", **sizes).made == (4, 1)
        assert positions.create({"name": "places", "depth": 3}, **sizes).made == (4, 3)
        with pytest.raises(ArgumentError, match=r"positions\.head_width: expected an option of 'places': depth"):
            positions.create({"name": "places", "head_width": 3}, **sizes)
        variant = fastattn.create("multihead", query_width=8, memory_width=8, heads=2, positions="places",
                                  rng=np.random.default_rng(0))  # fmt: skip
        assert variant.positions.made == (4, 1)


DISTRIBUTION = {
    "alpha": "def fastattn_scores():\n    from fastattn.plugin import ScoreRecord\n"
    "    return [ScoreRecord('negative', 'fastattn.scores:Dot')]\n",
    "beta": "raise RuntimeError('not today')\n",
    "gamma": "import sys\nsys.modules['gamma_was_imported'] = sys\ndef fastattn_variants():\n    return []\n",
}


@pytest.fixture
def installed(tmp_path):
    """A folder that looks like an installation of three plugins, the last two with one name."""
    folder = tmp_path / "site"
    for name, text in DISTRIBUTION.items():
        info = folder / f"fastattn_{name}-1.2.dist-info"
        info.mkdir(parents=True)
        (folder / f"fastattn_{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fastattn-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[fastattn.plugins]\n{name} = fastattn_{name}\n")
    return folder


REPORT = """
import json, sys, warnings
sys.path.insert(0, sys.argv[1])
import fastattn
assert "pluggy" not in sys.modules
fastattn.create("dot", query_width=2, memory_width=2)
fastattn.attention(*[__import__("numpy").ones((2, 2))] * 3)
assert "pluggy" not in sys.modules, "a name that is built in needs no plugin"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from fastattn.plugin import providers
    rows = [row.to_dict() for row in providers()]
print(json.dumps([rows, [str(one.message) for one in caught], "gamma_was_imported" in sys.modules]))
"""


def report(run_python, folder, **variables):
    rows, warned, imported = json.loads(run_python("-c", REPORT, str(folder), **variables).stdout)
    return {row["name"]: row for row in rows if row["status"] != "built in"}, warned, imported


def test_plugins_are_found_by_their_entry_points(run_python, installed):
    rows, warned, imported = report(run_python, installed, FASTATTN_PLUGINS=None)
    assert {name: row["status"] for name, row in rows.items()} == {
        "alpha": "active", "beta": "broken", "gamma": "active"}  # fmt: skip
    assert rows["alpha"]["distribution"] == "fastattn-alpha" and rows["alpha"]["version"] == "1.2"
    assert rows["alpha"]["provides"] == {"scores": ["negative"]}
    assert len(warned) == 1 and "'beta' of fastattn-beta 1.2" in warned[0] and "not today" in warned[0] and imported


@pytest.mark.parametrize(("allowed", "active"), [("", set()), ("alpha", {"alpha"}), ("fastattn-alpha", {"alpha"})])
def test_the_environment_allows_before_anything_is_imported(run_python, installed, allowed, active):
    rows, warned, imported = report(run_python, installed, FASTATTN_PLUGINS=allowed)
    assert {name for name, row in rows.items() if row["status"] == "active"} == active
    assert {row["status"] for name, row in rows.items() if name not in active} == {"disabled"}
    assert not warned and not imported


def test_an_allowed_name_that_is_not_there_is_said(run_python, installed):
    _, warned, _ = report(run_python, installed, FASTATTN_PLUGINS="alpha, delta")
    assert warned == ["FASTATTN_PLUGINS names 'delta', which is not installed"]


def test_two_entry_points_of_one_name_are_not_one(run_python, installed):
    (installed / "fastattn_gamma-1.2.dist-info" / "entry_points.txt").write_text(
        "[fastattn.plugins]\nalpha = fastattn_gamma\n"
    )
    done = run_python("-W", "ignore", "-c", REPORT, str(installed))
    rows = [row for row in json.loads(done.stdout)[0] if row["name"] == "alpha"]
    assert [row["status"] for row in rows] == ["active", "broken"]
    assert "another plugin has this name" in rows[1]["problem"]


def test_hooks_have_docstrings_with_examples_and_there_are_few():
    from fastattn.plugin import hookspecs

    hooks = [name for name in dir(hookspecs) if name.startswith("fastattn_")]
    assert sorted(hooks) == sorted(f"fastattn_{family}" for family in FAMILIES) and len(hooks) <= 5
    for name in hooks:
        text = getattr(hookspecs, name).__doc__
        assert "since" in text and f"def {name}():" in text
    assert {kind.family: kind for kind in Record.__subclasses__()} == FAMILIES


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


@pytest.mark.skipif(not GUIDE.exists(), reason="the guide is in the checkout only")
def test_the_guide_has_every_hook_check_and_variable():
    text = GUIDE.read_text()
    for family in FAMILIES:
        assert f"`fastattn_{family}()`" in text
    for check in VARIANT_CHECKS:
        assert f"`{check.__name__}`" in text
    for name in ("FASTATTN_PLUGINS=a,b", "FASTATTN_PLUGINS=`", "FASTATTN_PLUGINS_STRICT=1"):
        assert f"`{name}" in text
    for field in dataclasses.fields(ModelRecord):
        assert f"`{field.name}`" in text


@pytest.mark.skipif(not GUIDE.exists(), reason="the guide is in the checkout only")
def test_the_thirty_lines_of_the_guide_conform():
    [code] = [
        block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "Diagonal" in block
    ]
    names = {}
    exec(code, names)
    assert len([line for line in code.splitlines() if line.strip()]) <= 32
    [record] = names["fastattn_scores"]()
    assert check_score(record).passed
    assert check_variant(of_score(record)).passed
