"""What objects show in a cell of a notebook: HTML cards whose styles reach nothing outside of them.

A card takes its colours from the page around it, so that it can be read on light and on dark, and can be read without
its style too, where a notebook that is not trusted is shown. It has no script, and every text in it is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence

from fastattn._printing import visible

__all__ = ["Html", "card", "curves", "folded", "grid", "note", "rows", "text"]

# Rules of notebooks for their tables have the weight of one class and two elements: ours have more.
_STYLE = """<style>
div.fastattn-card { display: inline-block; max-width: 100%; box-sizing: border-box; overflow-x: auto; margin: 0.2em 0;
  padding: 0.6em 0.9em; border: 1px solid rgba(128, 128, 128, 0.5); border-radius: 0.4em; background: none;
  color: inherit; font: 0.9em/1.4 system-ui, sans-serif; text-align: left; }
div.fastattn-card > p, div.fastattn-card details { margin: 0.3em 0; color: inherit; }
div.fastattn-card > p.fastattn-title { margin-top: 0; font-weight: 600; overflow-wrap: anywhere; }
div.fastattn-card p.fastattn-note { font-size: 0.9em; opacity: 0.8; max-width: 50em; }
div.fastattn-card summary { cursor: pointer; }
div.fastattn-card.fastattn-card table { display: table; width: auto; margin: 0.3em 0; border: 0; border-spacing: 1px;
  border-collapse: separate; color: inherit; font-size: 1em; table-layout: auto; }
div.fastattn-card.fastattn-card tr:nth-child(n) { background: none; border: 0; }
div.fastattn-card.fastattn-card tr:nth-child(n) > :is(th, td) { padding: 0.1em 0.8em 0.1em 0; border: 0;
  background: none; color: inherit; text-align: left; vertical-align: top; font-weight: normal; white-space: normal;
  max-width: 40em; }
div.fastattn-card.fastattn-card thead tr:nth-child(n) > th { font-weight: 600; }
div.fastattn-card.fastattn-card tr:nth-child(n) > th[scope="row"] { opacity: 0.8; white-space: nowrap; }
div.fastattn-card.fastattn-card table.fastattn-map tr:nth-child(n) > th { padding: 0 0.5em 0 0; text-align: right;
  vertical-align: middle; font-weight: normal; opacity: 1; white-space: pre; }
div.fastattn-card.fastattn-card table.fastattn-map thead tr:nth-child(n) > th { padding: 0 0.2em; text-align: center;
  vertical-align: bottom; }
div.fastattn-card.fastattn-card table.fastattn-map thead span.fastattn-long { writing-mode: vertical-rl;
  transform: rotate(180deg); }
div.fastattn-card.fastattn-card table.fastattn-map tr:nth-child(n) > td { padding: 0; min-width: 1.1em; height: 1.1em;
  text-align: center; vertical-align: middle; font-size: 0.85em; }
div.fastattn-card.fastattn-card table.fastattn-numbers tr:nth-child(n) > td { min-width: 2.6em; height: 2em; }
div.fastattn-card span.fastattn-failed { font-weight: 700; text-decoration: underline; }
div.fastattn-card svg { display: block; max-width: 100%; color: inherit; }
</style>"""


class Html(str):
    """A text that is HTML already."""


def text(value: object) -> str:
    """Return any value as HTML: a text on one line, made visible and escaped.

    Examples
    --------
    >>> from fastattn._cards import text
    >>> text("<script>\\n")
    '&lt;script&gt;\\\\n'
    """
    import html  # loaded at first use: its tables take longer than all else here

    return value if isinstance(value, Html) else html.escape(visible(value))


def card(title: object, *parts: Html) -> str:
    """Return a whole card."""
    return f'{_STYLE}<div class="fastattn-card"><p class="fastattn-title">{text(title)}</p>{"".join(parts)}</div>'


def note(words: object) -> Html:
    """Return a line of smaller text."""
    return Html(f'<p class="fastattn-note">{text(words)}</p>')


def folded(summary: object, part: Html, *, opened: bool = False) -> Html:
    """Return a part that is opened by a click on its summary."""
    return Html(f"<details{' open' if opened else ''}><summary>{text(summary)}</summary>{part}</details>")


def rows(named: Mapping[str, object]) -> Html:
    """Return a table of names and values."""
    lines = (f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in named.items())
    return Html(f"<table><tbody>{''.join(lines)}</tbody></table>")


def grid(head: Sequence[str], lines: Iterable[Sequence[object]]) -> Html:
    """Return a table with names of columns."""
    above = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    below = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return Html(f"<table><thead><tr>{above}</tr></thead><tbody>{below}</tbody></table>")


_WIDTH, _HEIGHT, _LEFT, _BELOW = 380, 130, 42, 20  # of a drawing, in pixels
_DASHES = ("", "5 3", "1 3")


def curves(named: Mapping[str, Sequence[tuple[float, float]]]) -> Html:
    """Return a drawing of some curves, points (x, y) in the order of x, or nothing where there is none."""
    named = {name: points for name, points in named.items() if len(points) > 1}
    if not named:
        return Html()
    xs, ys = zip(*(point for points in named.values() for point in points))
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)

    def place(x: float, y: float) -> str:
        across = _LEFT + (x - left) / ((right - left) or 1) * (_WIDTH - _LEFT - 4)
        return f"{across:.1f},{4 + (high - y) / ((high - low) or 1) * (_HEIGHT - _BELOW - 8):.1f}"

    parts, words = [], []
    for dash, (name, points) in zip(_DASHES, named.items()):
        line = " ".join(place(*point) for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-dasharray="{dash}"/>')
        words.append(f"{name} ({'dotted' if dash[:1] == '1' else 'dashed' if dash else 'solid'})")
    style = 'font-size="11" fill="currentColor"'
    bottom = _HEIGHT - 5
    parts += [
        f'<text x="{_LEFT - 5}" y="13" text-anchor="end" {style}>{high:.3g}</text>',
        f'<text x="{_LEFT - 5}" y="{_HEIGHT - _BELOW}" text-anchor="end" {style}>{low:.3g}</text>',
        f'<text x="{_LEFT}" y="{bottom}" {style}>{left:g}</text>',
        f'<text x="{_WIDTH - 4}" y="{bottom}" text-anchor="end" {style}>{right:g}</text>',
    ]
    about = text(", ".join(words))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return Html(f'<svg role="img" aria-label="{about}" {size}>{"".join(parts)}</svg>{note(", ".join(words))}')
