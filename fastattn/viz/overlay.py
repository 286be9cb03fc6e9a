"""Attention over a picture: one panel for each token, its map drawn smoothly over the picture."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastattn._arrays import Array, as_array, float_array
from fastattn._numbers import check_flag, check_size, number_in
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.viz import fonts
from fastattn.viz.heatmap import SIDE, colour_map, require_matplotlib
from fastattn.viz.inputs import check_weights
from fastattn.viz.tokens import labels, shorten, title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_maps", "check_picture", "overlay", "upsample"]

PANEL = 1.8  # inches, the longer side of a panel
ACROSS = 6  # panels in a row, unless there are many
PIXELS = 256  # least number along the longer side of a map that was made smooth


def overlay(
    picture: Array,
    maps: Array,
    tokens: Sequence[str],
    *,
    figure: "Figure | None" = None,
    columns: int | None = None,
    title: str | None = None,
    cmap: str = "inferno",
    vmax: float | None = None,
    opacity: float = 0.6,
    smooth: bool = True,
    longest: int = 24,
    normalized: bool = True,
) -> "Figure":
    """Draw attention over a picture: the picture, and one panel for each token (Xu et al. 2015, figures 2 to 5).

    Parameters
    ----------
    picture : array, shape (H, W) or (H, W, 3)
        Grey or red, green and blue: uint8, or floats from 0 to 1. Under the maps it is grey, so that colours are
        weights.
    maps : array, shape (T, R, C), float32 or float64
        Weights of the R x C cells of the picture, from 0 to 1: of one picture, without padding, as
        ``grid.maps(weights)[b, :, :rows, :columns]`` of a `fastattn.grid.Grid`.
    tokens : sequence of str, length T
        Titles of the panels. A str counts as its characters.
    figure : matplotlib Figure, optional
        Where to draw, one of ``pyplot`` say; by default a new one with a size that fits the panels.
    columns : int, optional
        Panels in a row.
    title : str, optional
    cmap : str
        The default grows evenly in lightness, so that it can be read with any colour blindness and in grey, and has no
        grey of its own, unlike cividis, which would be lost on a picture. Where nothing is attended to it is black.
    vmax : float, optional
        Weight of the last colour; the first is always 0. By default the largest of all maps, so that panels can be
        compared.
    opacity : float
        Of the maps, above 0 and up to 1.
    smooth : bool
        Whether colours change smoothly from the middle of a cell, where they are exact, to that of the next; else cells
        are rectangles.
    longest : int
        Tokens wider than this many letters lose their middle.
    normalized : bool
        Whether no map may sum to more than 1, within 1e-3; to less it may, as of local and monotonic attention.

    Returns
    -------
    matplotlib.figure.Figure
        `save` writes it to a file. A new one is not of ``pyplot``, and is shown where a cell of a notebook ends with
        it.

    Raises
    ------
    ShapeError
        If there is no picture, or not one map for each token.
    ArgumentError
        If a weight or colour is NaN or not from 0 to 1, or a map does not sum to 1.
    DTypeError
        If an array has another type, or a token is not a str.
    ImportError
        If matplotlib is not installed.

    References
    ----------
    Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention", ICML 2015,
    arXiv:1502.03044.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn import viz
    >>> picture = np.linspace(0, 1, 32 * 48).reshape(32, 48)
    >>> maps = np.zeros((2, 4, 6))
    >>> maps[0, 1, 2] = maps[1, 3, 5] = 1
    >>> figure = viz.overlay(picture, maps, ["a", "bird"])
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['', 'a', 'bird']
    """
    shown = check_picture(picture)
    names = labels("tokens", tokens)
    array = check_maps(maps, len(names), normalized)
    if vmax is None:
        vmax = float(array.max()) or 1.0
    vmax = number_in("vmax", vmax, "leave it out for the largest weight.", above=0)
    opacity = number_in("opacity", opacity, "0.6 shows both.", above=0, most=1)
    panels = len(names) + 1
    across = -(-panels // -(-panels // max(ACROSS, math.isqrt(panels)))) if columns is None else columns
    across = check_size("columns", across, hint="leave it out for a choice.")
    smooth = check_flag("smooth", smooth)
    require_matplotlib("viz.overlay")
    cmap = colour_map(cmap)
    from fastattn.viz.shown import ShownFigure

    down, across = -(-panels // across), min(across, panels)
    height, width = shown.shape[:2]
    scale = min(PANEL, SIDE / across, SIDE / down) / max(height, width)
    # What titles and the bar need besides the panels; the file is cropped to what is there.
    size = max(across * width * scale + 1.2, 2.5), down * (height * scale + 0.35) + 0.6
    if figure is None:
        figure = ShownFigure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    grey = shown if shown.ndim == 2 else 0.299 * shown[..., 0] + 0.587 * shown[..., 1] + 0.114 * shown[..., 2]
    written, family = fonts.drawable([shorten(name, longest) for name in names], stacklevel=3)
    image: Any = None
    for number, axes in enumerate(grid):
        axes.set_axis_off()
        if number == 0:
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
        elif number < panels:
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
            fine = upsample(array[number - 1], height, width) if smooth else array[number - 1]
            image = axes.imshow(
                fine, cmap=cmap, vmin=0, vmax=vmax, alpha=opacity, extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="nearest",
            )  # fmt: skip
            axes.set_title(written[number - 1], fontsize=10, fontfamily=family, parse_math=False, pad=3)
    bar = figure.colorbar(image, ax=grid.tolist(), label="weight", fraction=0.03, pad=0.02)
    bar.outline.set_visible(False)
    title = title_of(title)
    if title:
        text, family = fonts.drawable_title(title, stacklevel=2)
        figure.suptitle(text, fontfamily=family, parse_math=False)
    return figure


def check_picture(picture: object) -> Array:
    """Return a picture as floats from 0 to 1, (H, W) or (H, W, 3), or raise."""
    array = as_array("picture", picture)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        hint = "uint8 is 0 to 255; floats are 0 to 1."
        raise DTypeError(describe("picture", "uint8 or floats", array.dtype, hint))
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        hint = "colours are the last axis; leave transparency out."
        raise ShapeError(describe("picture", "shape (H, W) or (H, W, 3)", f"shape {array.shape}", hint))
    if array.dtype == np.uint8:
        return array / 255
    if not ((array >= 0) & (array <= 1)).all():  # NaN is neither
        got = f"{array.min()} to {array.max()}"
        raise ArgumentError(describe("picture", "floats from 0 to 1", got, "scale it, or pass it as uint8."))
    return array.astype(np.float64)


def check_maps(maps: object, tokens: int, normalized: bool) -> Array:
    """Return maps (T, R, C) as an array, or raise."""
    array = float_array("maps", maps)
    if array.ndim != 3 or array.shape[0] != tokens or not array.size:
        expected = f"shape ({tokens}, R, C): one map for each token" if tokens else "at least one token"
        hint = "pass the maps of one picture and one head, maps[b, :, :rows, :columns]."
        raise ShapeError(describe("maps", expected, f"shape {array.shape}", hint))
    flat = array.reshape(tokens, -1)
    check_weights("maps", flat, tokens, flat.shape[1], "", normalized)
    return array


def upsample(cells: Array, height: int, width: int) -> Array:
    """Return a map (R, C) at about the resolution of a picture: exact in the middle of cells, smooth between them.

    Between two middles it runs along ``t^2 (3 - 2 t)``, so that it never leaves the range of the weights.
    """
    factor = max(1.0, PIXELS / max(height, width))
    found = cells.astype(np.float64)
    for axis, pixels in enumerate((height, width)):
        count = cells.shape[axis]
        number = max(round(pixels * factor), 1)
        places = np.clip((np.arange(number) + 0.5) * count / number - 0.5, 0, count - 1)
        low = places.astype(int)
        t = (places - low) ** 2 * (3 - 2 * (places - low))
        t = t[:, None] if axis == 0 else t
        found = found.take(low, axis) * (1 - t) + found.take(np.minimum(low + 1, count - 1), axis) * t
    return found
