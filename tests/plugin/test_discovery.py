"""Looking for plugins survives any metadata, any exception and any order of imports and look-ups."""

import importlib.metadata
import json
import re
import signal
import sys
import threading

import pytest
from plugin_sites import CODE, METADATA, POINTS, Site
from wrong_plugins import Dot

import fastattn
from fastattn.cli import main
from fastattn.errors import ArgumentError, PluginError, PluginWarning
from fastattn.plugin import ScoreRecord, VariantRecord, isolated, providers
from fastattn.plugin.manager import current


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = Site(tmp_path / "site", monkeypatch)
    made.add("good")
    yield made
    for name in made.added:
        sys.modules.pop(name, None)


HOSTILE = {
    "no metadata": ("no name", {"metadata": None}),
    "empty metadata": ("no name", {"metadata": ""}),
    "metadata without a name": ("no name", {"metadata": "Metadata-Version: 2.1\nVersion: 1.2\n"}),
    "metadata that are no UTF-8": ("UnicodeDecodeError", {"metadata": b"Name: caf\xe9\n"}),
    "metadata that are a folder": ("no name", {"metadata": "/"}),
    "entry points that are no UTF-8": ("UnicodeDecodeError", {"points": b"[fastattn.plugins]\nbad = caf\xe9\n"}),
    "entry points that are no entry points": ("cannot be read", {"points": "[fastattn.plugins]\nbad\n"}),
    "entry points of others that are none": (
        "cannot be read",
        {"points": "[console_scripts]\nbad\n[fastattn.plugins]\nbad = os\n"},
    ),
    "a place that is none": ("left out", {"points": "[fastattn.plugins]\nbad = !!!\n"}),
    "no place": ("left out", {"points": "[fastattn.plugins]\nbad =\n"}),
    "no name": ("'' is not a valid name", {"points": "[fastattn.plugins]\n= discovered_bad\n"}),
    "a name of ours": (
        "'fastattn.scores' is not a valid name",
        {"points": "[fastattn.plugins]\nfastattn.scores = discovered_bad\n"},
    ),
    "a name with an escape sequence": (
        "is not a valid name",
        {"points": "[fastattn.plugins]\n\x1b[2J = discovered_bad\n"},
    ),
    "a name that looks like another": (
        "U+043E, CYRILLIC SMALL LETTER O",
        {"points": "[fastattn.plugins]\ng\u043e\u043ed = discovered_bad\n"},
    ),
    "a name that another has": (
        "another plugin has this name",
        {"points": "[fastattn.plugins]\ngood = discovered_bad\n"},
    ),
}


@pytest.mark.parametrize("which", HOSTILE)
def test_hostile_metadata_are_one_warning_and_a_row(site, which, capsys):
    words, files = HOSTILE[which]
    site.add("bad", **files)
    rows, warned = site.rows()
    assert [row.name for row in rows if row.status == "active"] == ["good"]
    [bad] = [row for row in rows if row.status != "active"]
    assert bad.status == "broken" and bad.problem and not bad.records
    assert len(warned) == 1 and bad.problem in warned[0] and words in warned[0] and warned[0].isprintable()
    assert {"good", "bad"} & set(fastattn.scores.names())
    with pytest.raises(ArgumentError, match="did you mean"):
        fastattn.create("dott")
    assert main(["plugins"]) == 0 and "broken" in capsys.readouterr().out
    assert main(["plugins", "--json"]) == 0 and bad.problem in {
        row["problem"] for row in json.loads(capsys.readouterr().out)
    }


def test_what_an_interrupted_installation_leaves_is_not_used(site):
    metadata, points = METADATA.format(name="good"), POINTS.format(name="good")
    site.add("old", metadata=metadata, points=points, folder="~astattn_good-1.2.dist-info")
    rows, warned = site.rows()
    assert [(row.name, row.status) for row in rows] == [("good", "active")] and not warned


@pytest.mark.parametrize("metadata", [None, "", b"\xff"])
def test_a_damaged_package_of_others_is_nobodys_business(site, metadata):
    site.add("other", metadata=metadata, points="[console_scripts]\nother = other:main\n")
    rows, warned = site.rows()
    assert [row.name for row in rows] == ["good"] and not warned


def test_a_package_twice_on_the_path_is_the_first(site, tmp_path, monkeypatch):
    (tmp_path / "second").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "second")
    second = Site(tmp_path / "second", monkeypatch)
    second.add("good", metadata="Metadata-Version: 2.1\nName: Fastattn.Good\nVersion: 3\n")
    rows, warned = site.rows()
    assert [(row.name, row.version, row.status) for row in rows] == [("good", "3", "active")] and not warned


def test_a_package_that_is_hidden_by_one_without_plugins_is_not_used(site, tmp_path, monkeypatch):
    (tmp_path / "second").mkdir()
    Site(tmp_path / "second", monkeypatch).add("good", points=None)
    rows, warned = site.rows()
    assert not rows and not warned


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), GeneratorExit()])
def test_a_finder_that_raises_is_one_warning_and_a_row(site, error, monkeypatch):
    class Finder:
        @staticmethod
        def find_distributions(context=None):
            raise error

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    rows, warned = site.rows()
    assert len(warned) == 1 and type(error).__name__ in warned[0]
    assert sorted(row.status for row in rows) == ["active", "broken"]


class Own(BaseException):
    pass


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


RAISED = [SystemExit(3), KeyboardInterrupt("mine"), GeneratorExit("x"), Own("own"), Mute(), RecursionError("deep")]


def raising(error):
    raise error


def listing(error):
    yield VariantRecord("fine", Dot)
    raise error


def outcome(call):
    """Return what a call raises; a KeyboardInterrupt would end the tests."""
    try:
        return call()
    except BaseException as error:
        return error


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_plugin_raises_breaks_that_plugin_alone(error):
    class Hook:
        def fastattn_variants(self):
            raise error

    class Generator:
        def fastattn_variants(self):
            return listing(error)

    class Attribute:
        def __getattr__(self, name):
            raise error

    plugins = {
        "imports": lambda: raising(error), "hook": Hook(), "generator": Generator(), "attribute": lambda: Attribute(),
        "good": GOOD,
    }  # fmt: skip
    before = signal.getsignal(signal.SIGINT)
    with isolated(plugins):
        with pytest.warns(PluginWarning) as caught:
            assert "doubled" in outcome(fastattn.variants.names)
        assert len(caught) == 4
        rows = {row.name: row for row in providers()}
        assert {rows[name].status for name in plugins if name != "good"} == {"broken"}
        assert rows["good"].status == "active" and rows["imports"].problem.startswith(type(error).__name__)
    assert signal.getsignal(signal.SIGINT) is before


class Good:
    def fastattn_variants(self):
        return [VariantRecord("doubled", Dot)]


GOOD = Good()


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_the_module_of_a_factory_raises_is_an_error_of_that_name(error, tmp_path, monkeypatch):
    (tmp_path / "raising_factory.py").write_text("from test_plugin_discovery_shared import error\nraise error\n")
    shared = type(sys)("test_plugin_discovery_shared")
    shared.error = error
    monkeypatch.setitem(sys.modules, shared.__name__, shared)
    monkeypatch.syspath_prepend(tmp_path)

    class Plugin:
        def fastattn_scores(self):
            return [ScoreRecord("late", "raising_factory:Late")]

    with isolated({"late": Plugin()}):
        assert "late" in fastattn.scores.names()
        caught = outcome(lambda: fastattn.scores.create("late"))
        assert type(caught) is PluginError and f"cannot be imported: {type(error).__name__}" in str(caught)


def test_ctrl_c_while_a_plugin_is_imported_is_not_the_plugins():
    pressed = []

    def slow():
        if not pressed:
            pressed.append(1)
            signal.raise_signal(signal.SIGINT)
        return GOOD

    before = signal.getsignal(signal.SIGINT)
    with isolated({"slow": slow}):
        with pytest.raises(KeyboardInterrupt):
            fastattn.variants.names()
        assert signal.getsignal(signal.SIGINT) is before
        assert "doubled" in fastattn.variants.names()  # nothing is left half done


def test_a_handler_that_a_plugin_installs_stays(monkeypatch):
    before = signal.getsignal(signal.SIGINT)

    def installs():
        signal.signal(signal.SIGINT, mine)
        return GOOD

    def mine(number, frame):
        pass

    try:
        with isolated({"installs": installs}):
            assert "doubled" in fastattn.variants.names()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_no_interrupt_comes_from_outside():
    found = []
    with isolated({"bad": lambda: raising(KeyboardInterrupt()), "good": GOOD}), pytest.warns(PluginWarning):
        thread = threading.Thread(target=lambda: found.append(fastattn.variants.names()))
        thread.start()
        thread.join(60)
    assert "doubled" in found[0]


# A thread looks a name up while another one imports the plugin, whose import looks a name up.
CROSSED = """
import sys, threading, time, types
sys.path.insert(0, sys.argv[1])
import fastattn
from fastattn.plugin import providers

shared = types.ModuleType("crossed_shared")
shared.begun, shared.looking = threading.Event(), threading.Event()
sys.modules["crossed_shared"] = shared
found = {}

def imports():
    import discovered_slow
    found["seen while imported"] = discovered_slow.seen

def looks():
    shared.begun.wait(10)
    threading.Timer(0.3, shared.looking.set).start()   # by then it waits for the import
    found["names"] = fastattn.scores.names()

threads = [threading.Thread(target=one, daemon=True) for one in (imports, looks)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(10)
assert not any(thread.is_alive() for thread in threads), "both wait for ever"
assert "slow" in found["names"] and "good" in found["names"], found
assert "good" in found["seen while imported"], found
rows = {row.name: row.status for row in providers()}
assert rows["slow"] == rows["good"] == "active", rows
"""

SLOW = """
import crossed_shared
import fastattn
crossed_shared.begun.set()
crossed_shared.looking.wait(10)
seen = fastattn.scores.names()
""" + CODE  # fmt: skip


def test_a_look_up_and_an_import_that_looks_up_do_not_wait_for_each_other(site, run_python):
    site.add("slow", code=SLOW)
    run_python("-W", "error", "-c", CROSSED, str(site.folder), FASTATTN_PLUGINS=None)


LOOKS_UP = "import fastattn\nseen = fastattn.scores.names()\n"


def test_a_plugin_may_look_up_a_name_while_it_is_imported(site):
    site.add("nosy", code=LOOKS_UP + CODE)
    rows, warned = site.rows()
    assert {row.name: row.status for row in rows} == {"good": "active", "nosy": "active"} and not warned
    assert "good" in sys.modules["discovered_nosy"].seen


def test_a_plugin_that_is_imported_by_hand_may_look_up_a_name(site):
    site.add("nosy", code=LOOKS_UP + CODE)
    nosy = __import__("discovered_nosy")
    assert "good" in nosy.seen and "nosy" not in nosy.seen
    rows, warned = site.rows()
    assert {row.name: row.status for row in rows} == {"good": "active", "nosy": "active"} and not warned


def test_two_plugins_that_look_up_names_while_they_are_imported(site):
    site.add("nosy", code=LOOKS_UP + CODE)
    site.add("prying", code=LOOKS_UP + CODE)
    rows, warned = site.rows()
    assert {row.status for row in rows} == {"active"} and len(rows) == 3 and not warned


def test_a_hook_may_look_up_a_name():
    class Hook:
        def fastattn_scores(self):
            self.seen = fastattn.scores.names()
            return [ScoreRecord("mine", "fastattn.scores:Dot")]

    hook = Hook()
    with isolated({"hook": hook, "other": GOOD}):
        assert "mine" in fastattn.scores.names() and "dot" in hook.seen
        assert {row.status for row in providers()} == {"built in", "active"}


def test_threads_that_load_at_the_same_time_agree_and_warn_once():
    barrier = threading.Barrier(4)
    found = []

    class Bad:
        def fastattn_scores(self):
            return 3

    def look():
        barrier.wait(30)
        found.append(current().plugins())

    with isolated({"good": GOOD, "bad": Bad()}), pytest.warns(PluginWarning) as caught:
        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(found) == 4 and all(one is found[0] for one in found) and len(caught) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("d\u043et", r"'\\u043e' is U\+043E, CYRILLIC SMALL LETTER O"),
        ("do\u200bt", r"U\+200B, ZERO WIDTH SPACE"),
        ("\uff44ot", r"U\+FF44, FULLWIDTH LATIN SMALL LETTER D"),
        ("e\u0301l", r"U\+0301, COMBINING ACUTE ACCENT"),
        ("d\x1bot", "is not a valid name"),
        ("", "is not a valid name"),
        ("2d", "is not a valid name"),
        ("Dot", "is not a valid name"),
        (None, "None is not a valid name"),
    ],
)
def test_a_name_is_an_identifier_of_ascii(name, words):
    class Plugin:
        def fastattn_scores(self):
            return [ScoreRecord(name, "fastattn.scores:Dot")]

    with isolated({"p": Plugin()}), pytest.warns(PluginWarning) as caught:
        fastattn.scores.names()
    text = str(caught[0].message)
    assert text.isprintable()
    assert re.search(words.replace(r"\\u043e", "\u043e"), text), text
    if isinstance(name, str):
        with pytest.raises(ArgumentError, match="is not a valid name"):
            fastattn.variants.register(VariantRecord(name, Dot))


def test_a_look_up_of_a_name_that_looks_like_another_says_which_letter_it_is():
    with isolated(), pytest.raises(ArgumentError, match=r"did you mean 'dot' of ASCII, where .* is U\+043E, CYRILLIC"):
        fastattn.create("d\u043et")


def test_a_hook_that_forgets_to_return_is_named():
    class Forgets:
        def fastattn_scores(self):
            [ScoreRecord("lost", "fastattn.scores:Dot")]

        def fastattn_variants(self):
            return [VariantRecord("doubled", Dot)]

        def fastattn_normalizers(self):
            return []

    with isolated({"forgets": Forgets()}):
        with pytest.warns(PluginWarning, match="'forgets': fastattn_scores returned None and is ignored") as caught:
            assert "doubled" in fastattn.variants.names()
        assert len(caught) == 1 and "normalizers" not in str(caught[0].message)
        assert providers()[-1].status == "active"


def test_the_walk_over_distributions_sees_what_python_sees():
    """Every entry point of our group that the standard library finds is a candidate."""
    from fastattn.plugin.installed import installed

    wanted = {(point.name, point.value) for point in importlib.metadata.entry_points(group="fastattn.plugins")}
    assert {(provider.name, provider.place) for provider, _ in installed()} >= wanted
