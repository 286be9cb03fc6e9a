"""Attention weights as a heat map by matplotlib."""

import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastattn._arrays import Array
from fastattn._numbers import check_flag, number_in
from fastattn.errors import ArgumentError, MissingPackageError, ShapeError, describe, did_you_mean
from fastattn.viz import fonts
from fastattn.viz.inputs import check_weights, largest_colour
from fastattn.viz.palette import ink
from fastattn.viz.tokens import display_width, labels, shorten, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["heatmap"]

# Inches. Of many tokens, cells are as small as labels of 7 points allow before a picture is wider than WIDE, which fits
# the cell of a notebook; a side never exceeds SIDE, which is 6000 dots of a PNG.
LARGE_CELL, CELL, SMALL_CELL, WIDE, SIDE = 0.5, 0.3, 0.13, 12.0, 40.0
BAR = 0.15  # width of the bar of colours, and its distance
SMALLEST_FONT, LARGEST_FONT = 5.0, 11.0  # points; labels that would be smaller are thinned out
NUMBERS_UP_TO = 12  # tokens on either side


def heatmap(
    weights: Array,
    source: Sequence[str],
    target: Sequence[str],
    *,
    ax: "Axes | None" = None,
    head: int | None = None,
    title: str | None = None,
    numbers: bool | None = None,
    colorbar: bool | None = None,
    cmap: str = "cividis",
    vmax: float | None = None,
    longest: int = 24,
    normalized: bool = True,
) -> "Axes":
    """Draw attention weights: one row per target token, one column per source token.

    Parameters
    ----------
    weights : array, shape (Tq, Tk) or (H, Tq, Tk), float32 or float64
        From 0 to 1.
    source : sequence of str, length Tk
        Labels of the columns, above the map. A str counts as its characters.
    target : sequence of str, length Tq
        Labels of the rows, on the left.
    ax : matplotlib Axes, optional
        Where to draw; by default the only axes of a new figure with a size that fits the tokens. The figure is not one
        of ``pyplot``: nothing stays in memory, and ``pyplot.show`` does not show it. Axes of your own show themselves
        as your figure does.
    head : int, optional
        Which head to draw; by default the mean of all, which the title then says.
    title : str, optional
    numbers : bool, optional
        Whether to write each weight into its cell; by default up to 12 x 12.
    colorbar : bool, optional
        By default for a new figure only.
    cmap : str
        The default looks the same with and without colour blindness, and can be read in grey.
    vmax : float, optional
        Weight of the last colour; the first is always 0. By default 1, or the largest weight if that is below 0.5; the
        bar of colours says so, or without one the title.
    longest : int
        Tokens wider than this many letters lose their middle.
    normalized : bool
        Whether no row may sum to more than 1, within 1e-3; to less it may, as of local and monotonic attention.

    Returns
    -------
    matplotlib.axes.Axes
        `save` writes it to a file. A cell of a notebook that ends with it, or with its ``.figure``, shows the picture.

    Raises
    ------
    ShapeError
        If the weights do not have one row for each target token and one column for each source token, or there is none.
    ArgumentError
        If a weight is NaN or not from 0 to 1, if a row does not sum to 1, or if there is no such head.
    DTypeError
        If the weights are not float32 or float64, or a token is not a str.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Empty tokens, spaces and control characters are made visible, by escapes where need be; ``$`` is a dollar.
    For characters that the configured font lacks, another installed font is used; if there is none they are drawn as
    boxes, with one warning for each script. More than 440 tokens on one side are not all labelled.

    References
    ----------
    Bahdanau, Cho and Bengio (2015), "Neural machine translation by jointly learning to align and translate", figure 3,
    which has the source on top and the target on the left, too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn import viz
    >>> weights = np.array([[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])
    >>> axes = viz.heatmap(weights, "the house </s>".split(), ["das", "Haus"])
    >>> [label.get_text() for label in axes.get_xticklabels()]
    ['the', 'house', '</s>']
    """
    columns, rows = labels("source", source), labels("target", target)
    array = check_weights("weights", weights, len(rows), len(columns), "H", normalized)
    if not array.size:
        got = f"{len(rows)} target and {len(columns)} source tokens"
        hint = "leave empty sentences out, or keep their end-of-sentence tokens."
        raise ShapeError(describe("weights", "at least one token on either side", got, hint))
    array, note = _choose_head(array, head)
    if vmax is None:
        vmax = largest_colour(array.max())
    vmax = number_in("vmax", vmax, "pass weights.max(), say.", above=0)
    numbers = numbers if numbers is None else check_flag("numbers", numbers)
    colorbar = colorbar if colorbar is None else check_flag("colorbar", colorbar)
    require_matplotlib()
    cmap = colour_map(cmap)
    columns, rows = [shorten(label, longest) for label in columns], [shorten(label, longest) for label in rows]
    if ax is None:
        ax = _new_axes(rows, columns)
        colorbar = True if colorbar is None else colorbar
    image = ax.imshow(array, cmap=cmap, vmin=0, vmax=vmax, interpolation="nearest", aspect="equal")
    cell = _cell_inches(ax, len(rows), len(columns))
    scaled = "" if vmax == 1 else f"up to {vmax:.2g}"
    if colorbar:
        _add_bar(ax, image, " ".join(["weight", *([f"({scaled})"] if scaled else [])]), len(columns) * cell)
    elif scaled:
        note = " - ".join(filter(None, [note, f"colours {scaled}"]))
    _label(ax, columns, rows, cell)
    caption = " - ".join(part for part in (title_of(title), note) if part)
    if caption:
        text, family = fonts.drawable_title(caption, stacklevel=2)
        ax.set_title(text, fontfamily=family, parse_math=False)
    if numbers or (numbers is None and max(array.shape) <= NUMBERS_UP_TO):
        _write_numbers(ax, array, image, cell)
    return ax


def require_matplotlib(name: str = "viz.heatmap") -> None:
    """Raise a MissingPackageError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        hint = "run pip install 'fastattn[viz]'; viz.page() needs no other package."
        problem = describe(name, "matplotlib to be installed", "no such package", hint)
        raise MissingPackageError(problem, name="matplotlib") from None


def colour_map(cmap: object) -> Any:
    """Return the argument `cmap`, the name of a map of colours or one, or raise."""
    from matplotlib import colormaps
    from matplotlib.colors import Colormap

    if isinstance(cmap, Colormap) or (isinstance(cmap, str) and cmap in colormaps):
        return cmap
    hint = did_you_mean(cmap, colormaps, "leave it out, or pass one of list(matplotlib.colormaps).")
    raise ArgumentError(describe("cmap", "the name of a map of colours", reprlib.repr(cmap), hint))


def _choose_head(array: Array, head: int | None) -> tuple[Array, str]:
    """Return weights (Tq, Tk), and what the title has to say of them."""
    heads = array.shape[0] if array.ndim == 3 else 0
    if head is not None:
        given: Any = head
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or not -heads <= head < heads:
            expected = f"a head from 0 to {heads - 1}" if heads else "None for weights without heads"
            raise ArgumentError(describe("head", expected, head, "pass one of those, or leave it out."))
        return array[head], ""
    return (array.mean(axis=0), f"mean of {heads} heads") if heads > 1 else (array.reshape(array.shape[-2:]), "")


def _new_axes(rows: list[str], columns: list[str]) -> "Axes":
    from fastattn.viz.shown import ShownAxes, ShownFigure

    most = max(len(rows), len(columns))
    cell = LARGE_CELL if most <= NUMBERS_UP_TO else min(CELL, max(SMALL_CELL, WIDE / most), SIDE / most)
    # Besides the cells there are labels, title and bar; the file is cropped to what is there.
    beside, above = (max(map(display_width, labels)) * 0.6 * LARGEST_FONT / 72 for labels in (rows, columns))
    size = len(columns) * cell + beside + 1.2, len(rows) * cell + above + 0.6
    return ShownFigure(figsize=size, layout="constrained").add_subplot(axes_class=ShownAxes)


def _add_bar(ax: "Axes", image: Any, label: str, width: float) -> None:
    """Draw a bar of colours beside the map, as high as that; `width` is the map's, in inches."""
    figure: Any = ax.get_figure(root=True)
    beside = ax.inset_axes((1 + BAR / width, 0, BAR / width, 1))
    bar = figure.colorbar(image, cax=beside, label=label)
    bar.outline.set_visible(False)


def _cell_inches(ax: "Axes", rows: int, columns: int) -> float:
    """Return the side of a cell, which the layout will only make smaller by what labels take."""
    box = ax.get_window_extent()
    dpi = ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    return min(box.width / columns, box.height / rows) / dpi


def _label(ax: "Axes", columns: list[str], rows: list[str], cell: float) -> None:
    written, family = fonts.drawable([*columns, *rows], stacklevel=3)
    columns, rows = written[: len(columns)], written[len(columns) :]
    size = min(LARGEST_FONT, max(SMALLEST_FONT, 0.75 * 72 * cell))
    step = max(1, round(SMALLEST_FONT / (0.75 * 72 * cell)))
    # A letter is about half as wide as high.
    fits = max(map(display_width, columns)) * 0.6 * size <= 72 * cell * step
    ax.tick_params(which="both", top=False, bottom=False, left=False, labeltop=True, labelbottom=False)
    style: dict[str, Any] = {"fontsize": size, "fontfamily": family, "parse_math": False}
    ax.set_xticks(range(0, len(columns), step), columns[::step], rotation=0 if fits else 90, **style)
    ax.set_yticks(range(0, len(rows), step), rows[::step], **style)
    for side in ax.spines.values():
        side.set_visible(False)
    # Thin lines between cells, where there is room for them.
    if cell >= 0.1:
        ax.set_xticks(np.arange(0.5, len(columns) - 1), minor=True)
        ax.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
        ax.grid(which="minor", color=ax.get_facecolor(), linewidth=0.5)


def _write_numbers(ax: "Axes", array: Array, image: Any, cell: float) -> None:
    colours = image.cmap(image.norm(array), bytes=True)[..., :3]
    size, digits = min(9.0, 0.33 * 72 * cell), 2 if image.norm.vmax > 0.1 else 3
    for (row, column), weight in np.ndenumerate(array):
        red, green, blue = map(int, colours[row, column])
        text = f"{weight:.{digits}f}".lstrip("0") if weight < 0.995 else "1"
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=ink((red, green, blue)))
