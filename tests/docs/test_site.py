"""The built site: links, names, pictures; and, in Chromium where there is one, how it looks."""

import importlib
import re
import time
from html.parser import HTMLParser
from inspect import ismodule
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser
import pytest
import sources

SITE = sources.ROOT / "build" / "site"
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)  # its templates are no pages

pytestmark = pytest.mark.skipif(not PAGES, reason="no site in build/site: tools/site makes it")


class Page(HTMLParser):
    """What a page links to, loads, and can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.names, self.silent = [], [], set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(given["href"])
        elif tag in ("img", "script", "iframe", "source", "video") and given.get("src"):
            self.loads.append(given["src"])
        # A thumbnail of the gallery stands above its own title.
        if tag == "img" and not (given.get("alt") or "").strip() and not given["src"].endswith("_thumb.png"):
            self.silent.append(given.get("src"))


def dead(paths):
    """Return (page, target) of each link inside the site, and of each file loaded, that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in paths}
    found = []
    for path, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "mailto") and target in page.links:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = parts.scheme not in ("", "data") or (not parts.scheme and not there.is_file())
            if missing or (there in pages and parts.fragment and unquote(parts.fragment) not in pages[there].names):
                found.append((path.name, target))
    return found


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere():
    assert not dead(PAGES)


def test_pictures_say_what_they_show():
    assert not {path.name: silent for path in PAGES if (silent := Page(path).silent)}


def test_dead_links_and_silent_pictures_are_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<h1 id="top"></h1><a href="#top"><a href="page.html#top"><a href="https://a.example">'
        '<img src="data:," alt="x">'
        '<a href="#none"><a href="none.html"><img src="https://a.example/b.png"><script src="none.js"></script>'
    )
    assert [target for _, target in dead([page])] == ["#none", "none.html", "https://a.example/b.png", "none.js"]
    assert Page(page).silent == ["https://a.example/b.png"]


MODULES = re.findall(r"^   (fastattn[\w.]*)$", (sources.ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_page(module):
    has = importlib.import_module(module)
    for name in getattr(has, "__all__", []):
        whole = f"{module}.{name}"
        if name[0] != "_" and not ismodule(getattr(has, name)):
            own, of_module = (SITE / "generated" / "api" / f"{page}.html" for page in (whole, module))
            assert f'id="{whole}"' in (own if own.exists() else of_module).read_text(), whole


def test_every_page_of_the_documentation_is_there():
    for path in (sources.ROOT / "docs").rglob("*.md"):
        assert (SITE / path.relative_to(sources.ROOT / "docs").with_suffix(".html")).exists(), path


@pytest.fixture(scope="module")
def opened():
    """Chromium, driven by a program."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location, driver = browser.program(), browser.program("chromedriver")
    for argument in [*browser.ARGUMENTS, "--hide-scrollbars"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


def resize(opened, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def logged(opened):
    """What the browser complained of so far. It comes late, but in order: all is there when a word of ours is."""
    opened.execute_script("console.warn('the last one')")
    messages, end = [], time.monotonic() + 30
    while not any("the last one" in message for message in messages):
        assert time.monotonic() < end, messages
        messages += [entry["message"] for entry in opened.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    return [message for message in messages if "the last one" not in message]


@pytest.fixture
def chromium(opened):
    """A function that opens a page at a width and in a theme, and lists what is wrong with it."""

    def look(page, width, theme):
        resize(opened, width)
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        opened.get(page)
        found = opened.execute_script(LOOK)
        return logged(opened) + found

    return look


@pytest.fixture
def keyboard(opened):
    """A function that goes through a page at a width by the Tab key, and lists what is wrong on the way."""
    from selenium.webdriver import ActionChains, Keys

    def walk(page, width):
        resize(opened, width)
        opened.get(page)
        wanted, wrong, seen = opened.execute_script(STOPS), [], set()
        for _ in range(2 * len(wanted) + 2):
            ActionChains(opened, duration=0).send_keys(Keys.TAB).perform()
            here = opened.execute_script(STOP)
            if here is None or here[0] in seen:
                break
            number, named, marked = here
            seen.add(number)
            text = wanted[int(number)] if number.isdigit() else number[:100]
            wrong += [f"without a name: {text}"] * (not named) + [f"not marked: {text}"] * (not marked)
        return wrong + [f"not reached: {text}" for i, text in enumerate(wanted) if str(i) not in seen]

    return walk


LOOK, STOPS, STOP = (Path(__file__).with_name(name).read_text() for name in ("look.js", "stops.js", "stop.js"))
MAIN = [
    "index", "start", "guides", "reference", "background", "concepts", "semantics", "variants", "training", "api",
    "words", "faq", "results", "decisions/README", "generated/tutorials/index", "generated/api/fastattn.scores",
    "generated/api/fastattn.attention", "generated/api/fastattn.seq2seq.Translator",
    "generated/api/fastattn.viz.heatmap", "generated/api/fastattn.seq2seq",
    *[f"generated/tutorials/{path.stem}" for path in SITE.glob("generated/tutorials/plot_*.html")],
]  # fmt: skip


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_can_be_read(chromium, width, theme):
    wrong = {page: chromium((SITE / f"{page}.html").as_uri(), width, theme) for page in MAIN}
    assert not {page: what for page, what in wrong.items() if what}


def test_what_cannot_be_read_is_seen(chromium, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width">'
        '<p style="width: 500px">wide<p style="color: #999">faint<script>undefined()</script>'
    )
    error, wide, faint = chromium(page.as_uri(), 390, "light")
    assert "TypeError" in error and "wider" in wide and faint == "contrast 2.85: faint"
    assert len(chromium(page.as_uri(), 1280, "light")) == 2


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_can_be_used_by_the_keyboard(keyboard, width):
    pages = "index", "start", "generated/api/fastattn.attention", "generated/tutorials/plot_pooling"
    wrong = {page: keyboard((SITE / f"{page}.html").as_uri(), width) for page in pages}
    assert not {page: what for page, what in wrong.items() if what}


def test_the_first_stop_of_the_keyboard_leads_past_the_navigation(opened):
    from selenium.webdriver import ActionChains, Keys

    opened.get((SITE / "start.html").as_uri())
    for key in (Keys.TAB, Keys.ENTER, Keys.TAB):  # each when the page has answered the one before
        ActionChains(opened, duration=0).send_keys(key).perform()
    assert opened.execute_script("return document.querySelector('main').contains(document.activeElement)")


def test_what_the_keyboard_cannot_use_is_seen(keyboard, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="#">good</a><a href="#" style="outline: none">unmarked</a><button></button>'
        "<a href='#' onkeydown='event.preventDefault()'>trap</a><a href='#'>behind</a>"
    )
    unmarked, unnamed, behind = keyboard(page.as_uri(), 1280)
    assert "not marked" in unmarked and "without a name" in unnamed and "not reached" in behind
