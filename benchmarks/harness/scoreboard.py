"""A scoreboard: what is installed, each library in its best precision, as one HTML page that needs nothing else.

A row is a case and the least precision that is asked for. Each library takes part with its fastest right result of that
precision or a finer one, ours too. Rows that we lose are told as plainly as those that we win.
"""

from collections.abc import Iterator, Sequence
from html import escape
from math import log2
from typing import Any, NamedTuple

from ..case import PRECISIONS
from ..ours import NAME as OURS
from ..timing import middle
from .report import duration, render

_HALF, _ALL = PRECISIONS[:2], PRECISIONS

# The cases, and the precisions of each; in the order in which they are measured, long ones last, so that on a slow
# machine few are cut.
PUBLIC: dict[str, tuple[str, ...]] = {
    "gemm_large_m64": _ALL,
    "gemm_large_m1024": _ALL,
    "memory_fwd": _HALF,
    "dot_sentence_fwd": _HALF,
    "dot_sentence_grad": _HALF,
    "dot_causal_fwd": _HALF,
    "lstm_fwd": _ALL,
    "train_letters": _HALF,
    "transformer_small": _ALL,
    "dot_causal_grad": _HALF,
    "gru_grad": _HALF,
    "lstm_grad": _HALF,
    "dot_long_fwd": _HALF,
    "additive_fwd": _HALF,
    "dot_long_grad": _HALF,
    "additive_grad": _HALF,
}
# `torch.compile` takes longer to compile these than the whole run may: `benchmarks.compare` without --public has it.
PEERS = ("torch_eager", "jax_jit", "onnx", "ctranslate")
SECONDS = 240.0  # what is under way when they are over is finished
_TITLES = {"torch eager": "PyTorch", "JAX jit": "JAX"}
_DIRECTIONS = {"forward": "", "forward+backward": ", with gradients", "training step": ""}


class Row(NamedTuple):
    """A case at a precision: our row, the best peer's, the ratio of their times and the ends of its interval."""

    title: str
    precision: str
    ours: dict[str, Any] | None
    peer: dict[str, Any] | None
    ratio: tuple[float, float, float] | None

    @property
    def verdict(self) -> str:
        """In a word: beyond the interval faster or slower, or even."""
        if self.ours is None or self.peer is None or self.ratio is None:
            return "no result of ours" if self.ours is None else "no peer"
        _, low, high = self.ratio
        return "faster" if low > 1 else "slower" if high < 1 else "even"


def rows(run: dict[str, Any]) -> Iterator[Row]:
    """The rows of a run, of one number of threads."""
    for result in run["results"]:
        found = result["contestants"]
        for precision in (one for one in PRECISIONS if any(row["precision"] == one for row in found)):
            fit = PRECISIONS[: PRECISIONS.index(precision) + 1]
            timed = sorted((row for row in found if "median" in row and row["precision"] in fit), key=_median)
            ours = next((row for row in timed if row["library"] == OURS), None)
            peer = next((row for row in timed if row["library"] != OURS), None)
            ratio = None
            if ours and peer:
                ratio = middle([a / b for a, b in zip(peer["samples"], ours["samples"], strict=True)])
            yield Row(result["title"] + _DIRECTIONS[result["direction"]], precision, ours, peer, ratio)


def _median(row: dict[str, Any]) -> float:
    return float(row["median"])


def failures(report: dict[str, Any]) -> list[str]:
    """What is wrong with results of ours."""
    return [
        f"{run['threads']} threads, {result['case']}, {row['name']}: {row['reason']}"
        for run in report["runs"]
        for result in run["results"]
        for row in result["contestants"]
        if row["library"] == OURS and row["status"] != "ok"
    ]


def ratio_of(row: Row) -> str:
    return "-" if row.ratio is None else "{:.2f} ({:.2f} to {:.2f})".format(*row.ratio)


def _named(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{_TITLES.get(row['library'], row['library'])}, {row['precision']}"


def text(report: dict[str, Any]) -> str:
    """The rows for a terminal."""
    table = [["case", "precision", "threads", "fastattn", "best peer", "", "ratio (95 %)", ""]]
    for run in report["runs"]:
        for row in rows(run):
            times = [duration(one["median"] if one else None) for one in (row.ours, row.peer)]
            table.append(
                [row.title, row.precision, str(run["threads"]), times[0], _named(row.peer), times[1], ratio_of(row),
                 row.verdict]
            )  # fmt: skip
    lines = [render(table, False), *_cut(report)]
    lines += [f"WRONG: {reason}" for reason in failures(report)]
    return "\n".join(lines)


def _cut(report: dict[str, Any]) -> list[str]:
    """A line for each number of threads at which there was no time for all cases."""
    runs = [run for run in report["runs"] if run["cut"]]
    return [f"No time was left, with {_threads(run)}, for {', '.join(run['cut'])}." for run in runs]


def _threads(run: dict[str, Any]) -> str:
    return f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"


# The page. Colours are variables, so that a reader's choice of light or dark changes them all.
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --line: #d0d7de; --band: #f6f8fa;
  --faster: #0b5fa5; --slower: #a8410c; --even: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --line: #30363d;
  --band: #161b22; --faster: #6cb6ff; --slower: #f0883e; --even: #9da7b3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
p, ul { margin: 0.5rem 0; } .soft, dt { color: var(--soft); } code { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; margin: 0.5rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: 0.85rem; } td small { color: var(--soft); white-space: nowrap; }
tbody td > small { display: block; }
tr > td:first-child { font-weight: 600; }
.faster, .slower, .even { font-weight: 700; white-space: nowrap; }
.faster { color: var(--faster); } .slower { color: var(--slower); } .even { color: var(--even); }
.bar { position: relative; height: 0.4rem; min-width: 8rem; background: var(--band); border: 1px solid var(--line);
  margin-top: 0.3rem; }
.bar i { position: absolute; top: 0; bottom: 0; background: currentColor; }
.bar b { position: absolute; top: -0.2rem; bottom: -0.2rem; left: 50%; width: 1px; background: var(--ink); }
details { margin: 0.4rem 0; } summary { cursor: pointer; padding: 0.2rem 0; }
details table { background: var(--band); font-size: 0.9rem; } .wrong { color: var(--slower); font-weight: 600; }
@media (max-width: 44rem) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.4rem; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  table, tbody, tr, td { display: block; width: 100%; } tr { border-bottom: 1px solid var(--line); padding: 0.5rem 0; }
  td { border: 0; padding: 0.1rem 0.4rem; } tbody td > small { display: inline; }
  td[data-name]::before { content: attr(data-name) ": "; color: var(--soft); }
}
"""


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    runs = [(run, list(rows(run))) for run in report["runs"]]
    every = [row.verdict for _, found in runs for row in found]
    counts = ", ".join(f"{word} in {every.count(word)}" for word in ("faster", "even", "slower"))
    wrong = "".join(f'<li class="wrong">{escape(reason)}</li>' for reason in failures(report))
    cut = "".join(f"<p>{escape(line)}</p>" for line in _cut(report))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>fastattn beside other libraries on this machine</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>fastattn beside other libraries</h1>
<p>Of {len(every)} rows fastattn is {counts}.{
        " Sizes are those of a smoke test: times mean nothing." if report["smoke"] else ""
    }</p>
{f"<p>Results of ours that are wrong:</p><ul>{wrong}</ul>" if wrong else ""}
{cut}
{_origin(report)}
{"".join(_section(run, found) for run, found in runs)}
<h2>How to read it</h2>
<ul>
<li>Ratio: the best peer's time by ours, of samples taken in turn in one process; the median of all rounds and its
interval of 95 % (of fewer than 6 rounds the smallest and the largest). Above 1 fastattn is faster. A row is
<span class="even">even</span> where the interval has 1 in it.</li>
<li>Precision: the least that is asked for. Each library takes part with its fastest right result of that precision or a
finer one. Inputs are numbers that bfloat16 has, the same for everyone.</li>
<li>Before anything is timed, each result is compared with float64: in float32 the largest error in units of rounding,
at most 4 and of gradients 8; in bfloat16 and int8 the root of the mean squared error by that of the values. A result
beyond its gate is wrong, and has no time.</li>
<li>Same bits: whether a sample's result is the same, bit by bit, alone and among the others.</li>
<li>PyTorch is not compiled here, as that takes longer than the whole run may.
<code>python -m benchmarks.compare</code> has compiled code, more peers and more cases.</li>
</ul>
</body>
</html>
"""


def _origin(report: dict[str, Any]) -> str:
    about, runs = report["machine"], report["runs"]
    config = runs[0]["fastattn"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    missing = {name: reason for run in runs for name, reason in run["missing"].items()}
    loads = ", ".join(f"{x:.1f}" for run in runs for x in run["load_average"] if x is not None)
    level = f"{config['level']} of {', '.join(config['levels_cpu'])}" if "levels_cpu" in config else config["level"]
    lines = {
        "Machine": f"{about['processor']}, {about['cpus']} CPUs, {about['system']}",
        "Level": f"{level} (fastattn {config['version']})",
        "Versions": f"{about['python']}, {versions}",
        "Load": f"{loads} (before and after each part; this run alone makes the number of its threads)",
        "Command": report["command"],
        "Date": report["date"],
    } | {f"No {_TITLES.get(name, name)}": reason for name, reason in missing.items()}
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in lines.items()) + "</dl>"


def _section(run: dict[str, Any], found: Sequence[Row]) -> str:
    heads = ("Case", "Precision", "fastattn", "Best peer", "Ratio (95 %)", "fastattn is")
    body = "".join(f"<tr>{''.join(_cells(row))}</tr>\n" for row in found)
    details = "".join(_details(run, result) for result in run["results"])
    return f"""<h2>{_threads(run)}</h2>
<table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead>
<tbody>
{body}</tbody></table>
<h3>All contestants</h3>
{details}"""


def _cells(row: Row) -> Iterator[str]:
    def time(name: str, one: dict[str, Any] | None, title: str) -> str:
        if one is None:
            return f'<td data-name="{name}">-</td>'
        said = f"{title}, {one['precision']}" if title else one["precision"]
        return f'<td data-name="{name}">{duration(one["median"])} <small>{escape(said)}</small></td>'

    yield f"<td>{escape(row.title)}</td>"
    yield f'<td data-name="precision">{row.precision}</td>'
    yield time("fastattn", row.ours, "")
    yield time("best peer", row.peer, _TITLES.get(row.peer["library"], row.peer["library"]) if row.peer else "")
    word = row.verdict if row.verdict in ("faster", "slower") else "even"
    yield f'<td data-name="ratio">{escape(ratio_of(row))}{_bar(row, word)}</td>'
    yield f'<td data-name="fastattn is"><span class="{word}">{row.verdict}</span></td>'


def _bar(row: Row, word: str) -> str:
    """From the middle to the right where we are faster, to the left where we are slower; ends are 8 times."""
    if row.ratio is None:
        return ""
    reach = max(-50.0, min(50.0, log2(row.ratio[0]) / 3 * 50))
    left, width = 50 + min(reach, 0), abs(reach)
    return f'<div class="bar {word}"><i style="left:{left:.1f}%;width:{width:.1f}%"></i><b></b></div>'


def _details(run: dict[str, Any], result: dict[str, Any]) -> str:
    lines = [_contestant(row) for row in result["contestants"]]
    seen = {row["library"] for row in result["contestants"]}
    for name in (name for name in (*run["versions"], *run["missing"]) if name not in seen):
        reason = run["missing"].get(name, "has no such operation")
        lines.append([escape(_TITLES.get(name, name)), "-", "-", "-", "-", escape(reason)])
    heads = ("Contestant", "Precision", "Error of allowed", "Same bits", "Time (95 %)", "")
    body = "".join(
        "<tr>" + "".join(
            f"<td>{cell}</td>" if number in (0, 5) else f'<td data-name="{heads[number].lower()}">{cell}</td>'
            for number, cell in enumerate(line) if cell or number < 5
        ) + "</tr>"
        for line in lines
    )  # fmt: skip
    title = escape(result["title"] + _DIRECTIONS[result["direction"]])
    head = "".join(f"<th>{head}</th>" for head in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<details><summary>{title}</summary>{table}</details>\n"


def _contestant(row: dict[str, Any]) -> list[str]:
    title = _TITLES.get(row["library"], row["library"])
    took, note = "-", ""
    if "once" in row:
        note = f"without a chance: one call, {duration(row['once'])}"
    if "median" in row:
        _, low, high = middle(row["samples"])
        took, note = f"{duration(row['median'])} ({duration(low)} to {duration(high)})", ""
    if row["status"] != "ok":
        what = "wrong" if row["errors"] else "failed"  # it has no result then
        note = f'<span class="wrong">{what}: {escape(row["reason"])}</span>'
    alone = {True: "yes", False: "no", None: "-"}[row.get("alone")]
    name = f"{title}: {row['spelling']}" if row["spelling"] else title
    return [escape(name), row["precision"], worst(row), alone, took, note]


def worst(row: dict[str, Any]) -> str:
    """The error that comes nearest to what it may be, and that."""
    errors, gates = row["errors"], row["gates"]
    if not errors:
        return "-"
    name = max(errors, key=lambda name: errors[name] / gates[name])
    if row["precision"] == PRECISIONS[0]:
        return f"{errors[name]:.2g} of {gates[name]:g} units"
    return f"{errors[name]:.2%} of {gates[name]:.2%}"
