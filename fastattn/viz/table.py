"""A map of weights as an HTML table without a script, for the cards of notebooks."""

from collections.abc import Sequence

from fastattn._arrays import Array
from fastattn._cards import Html, note, text
from fastattn.viz.inputs import check_weights, largest_colour
from fastattn.viz.palette import STEPS, colour, ink
from fastattn.viz.tokens import display_width, labels, shorten

__all__ = ["table"]

MOST = 2500  # cells; of more, a page of 1 MB would be made
NUMBERS_UP_TO = 12  # tokens on either side
LONGEST = 24


def table(weights: Array, source: Sequence[str], target: Sequence[str]) -> Html:
    """Return weights (Tq, Tk) as a table with the source on top, or what says how to see them if they are too many.

    Colours end at 1, or at the largest weight if that is below 0.5, which is then said below.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.viz.table import table
    >>> table(np.eye(2), ["a", "<b>"], ["A", "B"]).count("&lt;b&gt;")
    3
    """
    columns, rows = labels("source", source), labels("target", target)
    array = check_weights("weights", weights, len(rows), len(columns), "", False)
    if not 0 < array.size <= MOST:
        return note(f"{len(rows)} x {len(columns)} weights" + "; fastattn.viz.heatmap draws them." * (array.size > 0))
    top = largest_colour(array.max())
    numbers, digits = max(array.shape) <= NUMBERS_UP_TO, 2 if top > 0.1 else 3
    kind = ' class="fastattn-long"' if max(map(display_width, columns)) > (4 if numbers else 1) else ""
    head = "".join(f'<th scope="col"><span{kind}>{text(shorten(one, LONGEST))}</span></th>' for one in columns)
    body = []
    for name, line in zip(rows, array.tolist()):
        cells = []
        for other, weight in zip(columns, line):
            rgb = colour(round(min(max(weight / top, 0), 1) * STEPS))
            shown = f"{weight:.{digits}f}".lstrip("0") if weight < 0.995 else "1"
            style = f"background:#{bytes(rgb).hex()};color:{ink(rgb)}"
            about = f"{text(name)}, {text(other)}: {weight:.4g}"
            cells.append(f'<td style="{style}" title="{about}">{shown if numbers else ""}</td>')
        body.append(f'<tr><th scope="row">{text(shorten(name, LONGEST))}</th>{"".join(cells)}</tr>')
    classes = "fastattn-map fastattn-numbers" if numbers else "fastattn-map"
    below = "" if top == 1 else note(f"The brightest colour is {top:.3g}, the largest weight.")
    return Html(
        f'<table class="{classes}"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>{below}'
    )
