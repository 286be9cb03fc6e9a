"""Pictures: what they refuse, what they hold, and what a real browser makes of the page."""

import base64
import html
import io
import json
import os
import re
import struct
import subprocess
import zlib

import browser
import numpy as np
import pytest
import variant_cases

from fastattn import viz
from fastattn.errors import ArgumentError, DTypeError, ShapeError
from fastattn.viz.overlay import upsample
from fastattn.viz.palette import STEPS, colour, contrast, ink

EVIL = ["</script><img src=x onerror=document.title='broken'>", "</title><b>", "{{data}}", ""]


def softmax(*shape, seed=0):
    x = np.exp(2 * np.random.default_rng(seed).normal(size=shape))
    return x / x.sum(axis=-1, keepdims=True)


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1))


@pytest.mark.parametrize("draw", [viz.heatmap, viz.page])
@pytest.mark.parametrize(
    "case", {case.record.name: case for case in variant_cases.CASES}.values(), ids=variant_cases.label
)
def test_weights_of_every_mechanism_are_weights(draw, case):
    problem = variant_cases.make(case, np.float32, keys=7, steps=4)
    weights = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True).weights
    draw(weights[0], "ABCDEFG", "abcd")


@pytest.mark.parametrize("draw", [viz.heatmap, viz.page])
@pytest.mark.parametrize(
    "weights, source, target, error, hint",
    [
        (softmax(2, 3), "ab", "AB", ShapeError, "Hint"),
        (softmax(3, 2), "abc", "AB", ShapeError, "swapaxes"),
        (softmax(4, 5), "abc", "AB", ShapeError, "cut padding off"),
        (np.full((2, 3), np.nan), "abc", "AB", ArgumentError, "numbers from 0 to 1"),
        (np.full((2, 3), 0.5), "abc", "AB", ArgumentError, "normalized=False"),
        (softmax(2, 3) - 0.5, "abc", "AB", ArgumentError, "after the softmax"),
        (np.ones((2, 3), int), "abc", "AB", DTypeError, "float32"),
        (softmax(2, 3), [1, 2, 3], "AB", DTypeError, "decode token ids"),
        (np.empty((0, 3)), "abc", "", ShapeError, "empty sentences"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, weights, source, target, error, hint):
    if draw is viz.heatmap:
        pytest.importorskip("matplotlib")
    with pytest.raises(error, match=hint):
        draw(weights, source, target)


def test_rows_of_zeros_are_drawn():
    assert data_of(viz.page(np.zeros((1, 2)), "ab", "A"))["examples"][0]["weights"] == [0, 0]


def test_a_page_holds_weights_to_four_digits():
    weights = softmax(2, 3, 4, 5)
    data = data_of(viz.page(weights, "abcde", "ABCD", layers=["low", "high"], heads=["x", "y", "z"]))
    found = np.reshape(data["examples"][0]["weights"], weights.shape) / 10000
    assert np.abs(found - weights).max() <= 0.5e-4 + 1e-12
    assert (data["layers"], data["heads"]) == (["low", "high"], ["x", "y", "z"])


def test_names_must_be_as_many_as_heads():
    with pytest.raises(ShapeError, match="3 names"):
        viz.page(softmax(3, 2, 2), "ab", "AB", heads=["one"])


def test_examples_of_a_page_have_the_same_heads():
    with pytest.raises(ShapeError, match="a page for each"):
        viz.gallery([(softmax(2, 2, 2), "ab", "AB"), (softmax(2, 2), "ab", "AB")])


def test_no_token_ends_the_script_or_is_filled_in():
    text = viz.page(softmax(4, 4), EVIL, EVIL, title=EVIL[0])
    assert "<img" not in text and "<b>" not in text
    assert data_of(text)["examples"][0]["source"] == [*EVIL[:3], "(empty)"]
    assert text.count("<script") == 2 == text.count("</script>")


def test_a_page_names_nothing_outside_itself():
    text = viz.page(softmax(2, 2), "ab", "AB")
    assert not re.search(r"https?:|src=|href=|@import|url\(", text)


def test_numbers_can_be_read_on_their_colours():
    for step in range(STEPS + 1):
        other = (0, 0, 0) if ink(colour(step)) == "#000" else (255, 255, 255)
        assert contrast(colour(step), other) >= 4.5  # WCAG 2.2, level AA


@pytest.mark.parametrize("name", ["map.png", "map.svg"])
def test_a_heat_map_becomes_a_file(name, tmp_path):
    pytest.importorskip("matplotlib")
    tokens = ["$x$", "a_b", "", " space", "long" * 20]
    axes = viz.heatmap(softmax(3, 5, 5), tokens, tokens, title="three $ heads")
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["$x$", "a_b", "(empty)"]
    assert "mean of 3 heads" in axes.get_title()
    assert viz.save(axes, tmp_path / name).stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_page_is_not_saved_as_a_picture(tmp_path):
    with pytest.raises(ArgumentError, match=r"\.html"):
        viz.save(viz.page(softmax(2, 2), "ab", "AB"), tmp_path / "map.png")


GREY = np.linspace(0, 1, 20 * 30).reshape(20, 30)


def maps_of(*shape, seed=0):
    return softmax(shape[0], shape[1] * shape[2], seed=seed).reshape(shape)


@pytest.mark.parametrize(
    "picture, maps, tokens, error, hint",
    [
        (GREY[0], maps_of(2, 3, 4), "ab", ShapeError, "picture: .*transparency"),
        (np.ones((4, 5, 4)), maps_of(2, 3, 4), "ab", ShapeError, "picture: .*last axis"),
        (GREY * 255, maps_of(2, 3, 4), "ab", ArgumentError, "picture: .*as uint8"),
        (np.full((4, 5), np.nan), maps_of(2, 3, 4), "ab", ArgumentError, "picture: .*from 0 to 1"),
        (np.ones((4, 5), int), maps_of(2, 3, 4), "ab", DTypeError, "picture: .*uint8"),
        (GREY, maps_of(2, 3, 4), "abc", ShapeError, "maps: .*each token"),
        (GREY, maps_of(2, 3, 4)[None], "ab", ShapeError, "maps: .*one picture"),
        (GREY, np.empty((0, 3, 4)), "", ShapeError, "maps: .*at least one token"),
        (GREY, maps_of(2, 3, 4) * np.nan, "ab", ArgumentError, "maps: .*numbers from 0 to 1"),
        (GREY, np.full((2, 3, 4), 0.5), "ab", ArgumentError, "maps: .*normalized=False"),
        (GREY, maps_of(2, 3, 4), [1, 2], DTypeError, "tokens"),
    ],
)
@pytest.mark.parametrize("draw", [viz.overlay, viz.picture_page])
def test_what_cannot_be_drawn_over_a_picture_is_refused(draw, picture, maps, tokens, error, hint):
    if draw is viz.overlay:
        pytest.importorskip("matplotlib")
    with pytest.raises(error, match=f"(?s){hint}"):
        draw(picture, maps, tokens)


@pytest.mark.parametrize(
    "height, width, rows, columns", [(256, 512, 4, 8), (300, 300, 1, 5), (7, 5, 7, 5), (3, 9, 6, 1)]
)
def test_maps_are_exact_in_the_middle_of_cells_and_between_their_neighbours_elsewhere(height, width, rows, columns):
    cells = np.random.default_rng(0).random((rows, columns))
    fine = upsample(cells, height, width)
    assert fine.shape[0] / fine.shape[1] == pytest.approx(height / width, rel=0.01) and max(fine.shape) >= 256
    assert fine.min() >= cells.min() and fine.max() <= cells.max()
    for (i, j), weight in np.ndenumerate(cells):
        middle = (i + 0.5) * fine.shape[0] / rows - 0.5, (j + 0.5) * fine.shape[1] / columns - 0.5
        assert fine[round(middle[0]), round(middle[1])] == pytest.approx(weight, abs=1e-2)
    steps = np.abs(np.diff(fine, axis=0)).max(initial=0), np.abs(np.diff(fine, axis=1)).max(initial=0)
    assert steps[0] <= 1.6 * rows / fine.shape[0] and steps[1] <= 1.6 * columns / fine.shape[1]  # slope at most 3 / 2


def test_maps_are_drawn_in_a_figure_of_the_callers():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    mine = Figure(figsize=(7, 2))
    assert viz.overlay(GREY, maps_of(2, 3, 4), "ab", figure=mine) is mine
    assert len(mine.axes) == 4 and tuple(mine.get_size_inches()) == (7, 2)


@pytest.mark.parametrize("picture", [GREY, np.dstack([GREY] * 3), (255 * GREY).astype(np.uint8)])
def test_a_figure_has_a_panel_for_the_picture_and_for_each_token(picture, tmp_path):
    pytest.importorskip("matplotlib")
    maps, tokens = maps_of(7, 3, 4).astype(np.float32), ["$x$", "", "a", "b", "c", "d", "long" * 20]
    figure = viz.overlay(picture, maps, tokens, title="a $ picture", smooth=False)
    panels = figure.axes[:8]
    assert [axes.get_title() for axes in panels[:4]] == ["", "$x$", "(empty)", "a"]
    assert [len(axes.images) for axes in panels] == [1, *[2] * 7]
    for axes, weights in zip(panels[1:], maps):
        under, over = axes.images
        np.testing.assert_array_equal(over.get_array(), weights)
        assert under.get_extent() == over.get_extent() == [-0.5, 29.5, 19.5, -0.5]
        assert over.get_clim() == (0, maps.max()) and over.get_alpha() == 0.6 and under.get_array().ndim == 2
    path = viz.save(figure, tmp_path / "maps.png")
    assert path.stat().st_size > 5000
    columns = {round(axes.get_subplotspec().get_position(figure).x0, 6) for axes in panels}
    assert len(columns) == 4
    assert (
        len({axes.get_subplotspec().colspan.start for axes in viz.overlay(picture, maps, tokens, columns=3).axes[:8]})
        == 3
    )


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_the_picture_of_a_page_is_a_png_of_its_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = data_of(viz.picture_page(pixels, maps_of(1, 3, 4), "a"))
    file = base64.b64decode(data["picture"].removeprefix("data:image/png;base64,"))
    assert file.startswith(b"\x89PNG\r\n\x1a\n") and file[12:16] == b"IHDR"
    assert struct.unpack(">IIBB", file[16:26]) == (7, 5, 8, 2 if len(shape) == 3 else 0)
    size = struct.unpack(">I", file[33:37])[0]
    rows = np.frombuffer(zlib.decompress(file[41 : 41 + size]), np.uint8).reshape(5, -1)
    assert (rows[:, 0] == 0).all() and (rows[:, 1:].reshape(shape) == pixels).all()
    image = pytest.importorskip("matplotlib.image")
    np.testing.assert_allclose(image.imread(io.BytesIO(file)).reshape(*shape[:2], -1)[..., -1] * 255,
                               pixels.reshape(*shape[:2], -1)[..., -1], atol=1e-3)  # fmt: skip


def test_a_page_over_a_picture_holds_maps_and_nothing_outside_itself():
    maps = maps_of(4, 3, 5)
    text = viz.picture_page(GREY, maps, EVIL, title=EVIL[0])
    data = data_of(text)
    assert np.abs(np.reshape(data["maps"], maps.shape) / data["whole"] - maps).max() <= 0.5e-6 + 1e-12
    assert data["tokens"] == [*EVIL[:3], "(empty)"] and (data["rows"], data["columns"]) == (3, 5)
    assert text.count("<script") == 2 == text.count("</script>") and "<img src" not in text and "<b>" not in text
    plain = viz.picture_page(GREY, maps, "abcd")
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in plain  # else the picture is not loaded
    assert not re.search(r"https?:|src=|href=|@import|url\(", plain)


@pytest.fixture
def browse(tmp_path):
    """Open a page in headless Chromium, run a piece of script in it, and return the document afterwards."""
    program = browser.program()

    def run(text, script=""):
        if script:  # the page's own policy would stop it
            text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
            text = text.replace("</body>", f"<script>{script}</script></body>")
        path = tmp_path / "page.html"
        path.write_text(text)
        command = [
            program, *browser.ARGUMENTS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000",
            "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        # Without a sanitizer that is preloaded for our own module.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
        return done.stdout

    return run


def cells(document):
    return [html.unescape(label) for label in re.findall(r'<td[^>]*role="gridcell"[^>]*aria-label="([^"]*)"', document)]


def reading(document):
    return html.unescape(re.search(r'<p id="reading"[^>]*>([^<]*)', document).group(1))


def test_the_browser_draws_every_weight_under_the_pages_own_policy(browse):
    document = browse(viz.page(np.array([[0.9, 0.1, 0.0], [0.0, 0.25, 0.75]]), "abc", "AB", title="two"))
    first, second = ["A, a, 0.900", "A, b, 0.100", "A, c, 0.0000"], ["B, a, 0.0000", "B, b, 0.250", "B, c, 0.750"]
    assert cells(document) == [*first, *second]
    assert reading(document) == "A attends to a: 0.900"
    assert document.count('tabindex="0"') == 1


def test_no_token_runs_in_the_browser(browse):
    document = browse(viz.page(softmax(4, 4), EVIL, EVIL, title="safe"))
    assert "<title>safe</title>" in document and "<img" not in document
    assert len(cells(document)) == 16


def test_the_keyboard_walks_the_cells(browse):
    keys = "for (const key of ['ArrowRight', 'ArrowDown', 'End', 'ArrowRight', 'ArrowUp', 'ArrowLeft'])"
    press = "map.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));"
    document = browse(viz.page(softmax(3, 4), "abcd", "ABC"), f"{keys} {press}")
    assert reading(document).startswith("A attends to c:")
    assert re.search(r'aria-label="A, c, [^"]*" tabindex="0"', document)


def test_the_mouse_reads_a_cell(browse):
    script = "cells[5].dispatchEvent(new MouseEvent('mouseover', { bubbles: true }));"
    assert reading(browse(viz.page(softmax(3, 4), "abcd", "ABC"), script)).startswith("B attends to b:")


def test_the_pickers_choose_sentence_layer_and_head(browse):
    first, second = softmax(2, 3, 1, 2, seed=1), softmax(2, 3, 1, 2, seed=2)
    text = viz.gallery([(first, "ab", "A"), (second, "cd", "B")])
    choose = "".join(
        f"{{ const s = document.querySelectorAll('select')[{n}]; s.value = {value}; "
        "s.dispatchEvent(new Event('change')); }"
        for n, value in enumerate((1, 1, 3))
    )
    value = second[1, 2, 0, 0]
    assert cells(browse(text, choose))[0] == f"B, c, {np.rint(value * 1e4) / 1e4:.{4 if value < 0.01 else 3}f}"
    mean = first[0, :, 0, 0].mean()
    assert abs(float(cells(browse(text))[0].split()[-1]) - mean) <= 1e-3


MAPS = np.array([[[0.1, 0.2, 0.0], [0.0, 0.7, 0.0]], [[0.0, 0.0, 0.0078], [0.9922, 0.0, 0.0]]])


def test_the_browser_shows_picture_and_maps_under_the_pages_own_policy(browse):
    document = browse(viz.picture_page(GREY, MAPS, ["sun", "moon"], title="two"))
    assert reading(document) == "sun: most in row 2 of 2, column 2 of 3: 0.700"
    assert re.search(r'<canvas id="map"[^>]* width="3" height="2"', document)
    assert re.search(r'<img id="picture"[^>]* src="data:image/png', document)
    assert re.findall(r'<button[^>]*aria-pressed="(\w+)"', document) == ["true", "false"]


def test_the_keyboard_and_the_mouse_choose_tokens_and_cells_of_a_picture(browse):
    text = viz.picture_page(np.ones((20, 30)), MAPS, ["sun", "moon"])
    press = "byId('tokens').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }));"
    assert reading(browse(text, press)) == "moon: most in row 2 of 2, column 1 of 3: 0.992"
    drawn = "document.title = map.getContext('2d').getImageData(0, 0, 3, 2).data.join(' ');"
    title = re.search(r"<title>([^<]*)", browse(text, press + drawn)).group(1)
    colours = np.array(title.split(), int).reshape(6, 4)
    assert (colours[3] == [0xFC, 0xFF, 0xA4, 255]).all() and (colours[[0, 1, 4, 5]] == [0, 0, 4, 255]).all()
    move = """const box = map.getBoundingClientRect();
        map.dispatchEvent(new MouseEvent('mousemove', { clientX: box.left + 0.2 * box.width,
          clientY: box.top + 0.8 * box.height }));"""
    wait = f"byId('picture').decode().then(() => {{ {press} {move} }});"
    assert reading(browse(text, wait)) == "moon: row 2 of 2, column 1 of 3: 0.992"


def pixels(png):
    image = pytest.importorskip("matplotlib.image")
    return image.imread(io.BytesIO(png))


def test_what_is_drawn_shows_itself_in_a_notebook(tmp_path):
    pytest.importorskip("matplotlib")
    makers = (
        lambda: viz.heatmap(softmax(3, 4), "abcd", "ABC", title="shown"),
        lambda: viz.heatmap(softmax(3, 4), "abcd", "ABC", title="shown").figure,
        lambda: viz.overlay(GREY, maps_of(2, 3, 4), "ab"),
    )
    for make in makers:
        saved = viz.save(make(), tmp_path / "map.png", dpi=100).read_bytes()
        np.testing.assert_array_equal(pixels(make()._repr_png_()), pixels(saved))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_titles_and_tokens_that_steer_a_terminal_are_escaped_in_pictures(suffix, tmp_path):
    """A control character in an SVG is not even XML."""
    xml = pytest.importorskip("xml.etree.ElementTree")
    pytest.importorskip("matplotlib")
    evil = "\x1b[31m\x00\u202e\x85"
    axes = viz.heatmap(softmax(2, 2), [evil, "a"], ["b", evil], title=f"{evil}\nsecond line")
    assert axes.get_title() == "\\x1b[31m\\x00\\u202e\\x85\nsecond line"
    figure = viz.overlay(GREY, maps_of(1, 3, 4), [evil], title=evil)
    for number, picture in enumerate((axes, figure)):
        path = viz.save(picture, tmp_path / f"{number}.{suffix}")
        if suffix == "svg":
            xml.fromstring(path.read_text())


@pytest.fixture
def untold(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("fastattn.viz.fonts._told", set())


def test_a_title_in_another_script_has_the_fonts_of_labels(untold):
    with pytest.warns(UserWarning, match=r"no installed font has 1 of the characters.*boxes: egyptian") as caught:
        axes = viz.heatmap(softmax(2, 2), "ab", "AB", title="\U00013000")
        axes._repr_png_()
    assert len(caught) == 1 and axes.get_title() == "\u25a1" and caught[0].filename == __file__


def test_there_is_one_notice_for_a_script_however_many_pictures_lack_it(untold):
    with pytest.warns(UserWarning, match="cuneiform, egyptian") as caught:
        for number in range(3):
            labels = [chr(0x13000 + number) + "x", chr(0x12000 + number)]
            axes = viz.heatmap(softmax(2, 2), labels, "AB", title=labels[1])
            axes._repr_png_()
    assert len(caught) == 1
    assert [label.get_text() for label in axes.get_xticklabels()] == ["\u25a1x", "\u25a1"]


def test_maps_of_small_weights_have_colours_up_to_the_largest_and_say_so():
    matplotlib = pytest.importorskip("matplotlib.figure")
    even = np.full((3, 20), 1 / 20)
    axes = viz.heatmap(even, "abcdefghijklmnopqrst", "ABC")
    assert axes.images[0].get_clim() == (0, 0.05)
    assert [bar.get_ylabel() for bar in axes.child_axes] == ["weight (up to 0.05)"] and not axes.get_title()
    axes = viz.heatmap(even, "abcdefghijklmnopqrst", "ABC", ax=matplotlib.Figure().add_subplot(), title="mine")
    assert axes.get_title() == "mine - colours up to 0.05" and not axes.child_axes
    for axes in (viz.heatmap(softmax(2, 2), "ab", "AB"), viz.heatmap(np.zeros((1, 2)), "ab", "A")):
        assert axes.images[0].get_clim() == (0, 1) and axes.child_axes[0].get_ylabel() == "weight"
    assert viz.heatmap(even, "abcdefghijklmnopqrst", "ABC", vmax=1).images[0].get_clim() == (0, 1)
    data = data_of(viz.page(even, "abcdefghijklmnopqrst", "ABC"))
    assert (data["digits"], data["top"], data["examples"][0]["weights"][0]) == (6, 50000, 50000)
    data = data_of(viz.page(np.stack([even, np.eye(3, 20)]), "abcdefghijklmnopqrst", "ABC"))
    assert (data["digits"], data["top"], data["examples"][0]["weights"][0]) == (4, 10000, 500)


@pytest.mark.parametrize(
    "shape, widest, highest", [((1, 1), 250, 200), ((3, 4), 450, 300), ((60, 80), 1600, 1200), ((2, 80), 1600, 250)]
)
def test_pictures_are_as_large_as_their_tokens_need(shape, widest, highest):
    pytest.importorskip("matplotlib")
    rows, columns = shape
    axes = viz.heatmap(softmax(*shape), [f"word{i}" for i in range(columns)], [f"word{i}" for i in range(rows)])
    height, width = pixels(axes._repr_png_()).shape[:2]
    assert width <= widest and height <= highest
    assert len(axes.get_xticklabels()) == columns and all(label.get_fontsize() >= 7 for label in axes.get_xticklabels())
    cell = axes.get_window_extent().width / columns
    assert cell >= 0.9 * axes.get_yticklabels()[0].get_window_extent().height
