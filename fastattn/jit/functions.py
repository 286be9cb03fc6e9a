"""The compiled functions of each kind: what they are called with, and their text."""

from collections.abc import Mapping
from functools import lru_cache

from fastattn.jit.derivative import derive, slope
from fastattn.jit.emit import Writer, indented
from fastattn.jit.graph import Node
from fastattn.jit.row_text import row_text
from fastattn.jit.trace import Traced

__all__ = ["FUNCTIONS", "text_of"]

# The functions of each kind; one on scores may have another in place of the backward one, "sloped".
FUNCTIONS = {
    "score_mod": ("forward", "backward"),
    "mask_mod": ("forward", "blocks"),
    "pairwise_score": ("forward", "backward"),
    "row_function": ("forward", "backward"),
}
_ROW = "i8, i8, i8, i8, i8"  # n, b, h, i, j0


def _pieces(length: str, lines: list[str]) -> list[str]:
    """Return a loop over pieces of at most 64; a range with a step would have an error in it."""
    body = [f"count = min({length} - first, 64)", *lines, "first += 64"]
    return ["first = 0", f"while first < {length}:", *indented(body)]


@lru_cache(maxsize=512)
def text_of(traced: Traced, name: str, bits: int, narrow: bool) -> str:
    """Return the text of a module with one compiled function.

    Parameters
    ----------
    traced : Traced
    name : str
        One of `FUNCTIONS` of its kind, or "sloped".
    bits : int
        The width of real numbers.
    narrow : bool
        Whether all integers fit in 32 bits.
    """
    if traced.kind == "mask_mod":
        return _mask(traced, name, narrow)
    if traced.kind == "row_function":
        return row_text(traced, name, bits, narrow)
    write = {
        ("score_mod", "forward"): _score_forward,
        ("score_mod", "backward"): _score_backward,
        ("score_mod", "sloped"): _score_sloped,
        ("pairwise_score", "forward"): _pairwise_forward,
        ("pairwise_score", "backward"): _pairwise_backward,
    }[traced.kind, name]
    return write(traced, bits, narrow)


def _head(name: str, types: str, arguments: str) -> list[str]:
    return [f'@cfunc("void({types})", error_model="numpy")', f"def {name}({arguments}):"]


def _rows(writer: Writer, at: str) -> None:
    """Say where the arguments of a row's functions are; `at` is the place in the row."""
    writer.inputs.update(b="b", h="h", i="i", j=f"j0 + {at}", score=f"s[{at}]", d=f"d[{at}]")


def _score_forward(traced: Traced, bits: int, narrow: bool) -> str:
    return _scores("forward", traced, bits, narrow, {"s": traced.result})


def _score_sloped(traced: Traced, bits: int, narrow: bool) -> str:
    """Forward with slopes, which have much in common with what they are the slopes of."""
    slopes = slope(traced)
    assert slopes is not None
    return _scores("sloped", traced, bits, narrow, {"s": traced.result, "slopes": slopes})


def _scores(name: str, traced: Traced, bits: int, narrow: bool, results: Mapping[str, Node]) -> str:
    """Return the text of a function that writes some results of a score, each to an array of its own."""
    nodes = [*results.values()]
    writer = Writer(traced, bits, narrow, {"score": 1, "j": 1}, nodes)
    stages = writer.stages(nodes)
    at = "first + t" if stages else "t"
    _rows(writer, f"({at})" if stages else at)
    loops = writer.staged_loops(stages)
    stores = [f"{to}[{at}] = {writer.name(node)}" for to, node in results.items()]
    last = [*writer.lines[1], *stores]
    if stages:
        body = _pieces("n", [*loops, "for t in range(count):", *indented(last)])
    else:
        body = ["for t in range(n):", *indented(last)]
    body = [*writer.tables, *writer.buffers(stages), *writer.lines[0], *body]
    pointers, alone = f"CPointer(f{bits // 8}), " * len(results), ["apart()"] if len(results) > 1 else []
    head = _head(name, f"{pointers}{_ROW}, CPointer(i8)", f"{', '.join(results)}, n, b, h, i, j0, parameters")
    return writer.module([*head, *indented(["wide_vectors()", *alone, *body])])


def _score_backward(traced: Traced, bits: int, narrow: bool) -> str:
    derivative = derive(traced)
    given = derivative.inputs.get("score", traced.graph.constant(0.0))
    looks = derivative.looks
    wanted = [given, *(node for look, gradient in looks for node in (gradient, *look.arguments))]
    writer = Writer(traced, bits, narrow, {"score": 1, "j": 1, "d": 1}, wanted)
    _rows(writer, "(first + t)")
    stages = writer.stages(wanted)
    loops = writer.staged_loops(stages)
    gradients, rooms, ends = _gradients(writer, looks)
    loops += gradients
    if given is not traced.graph.input("d", "f"):
        zero = f"real{bits}(0.0)"
        value = f"select(d[first + t] == {zero}, {zero}, {writer.name(given)})"
        loops += ["for t in range(count):", *indented([*writer.lines[1], f"d[first + t] = {value}"])]
    pieces = _pieces("n", loops) if loops else []
    body = [*writer.tables, *writer.buffers(stages), *rooms, *writer.lines[0], *pieces, *ends] or ["pass"]
    pointer = f"CPointer(f{bits // 8})"
    head = _head(
        "backward",
        f"{pointer}, {pointer}, {_ROW}, CPointer(i8), CPointer(i8)",
        "s, d, n, b, h, i, j0, parameters, gradients",
    )
    return writer.module([*head, "    wide_vectors()", *indented(body)])


def _gradients(writer: Writer, looks: "tuple[tuple[Node, Node], ...]") -> tuple[list[str], list[str], list[str]]:
    """Return the loops that add to the gradients of parameters; the buffers that they need; and what comes last.

    A loop computes what each look-up adds, and others, one for each parameter, add it in the order of the keys. Where
    one element stays the same along the row, and is the only one, a piece of the row is summed by vectors, whatever is
    0 behind it, and added in a register.
    """
    if not looks:
        return [], [], []
    bits = writer.bits
    zero = f"real{bits}(0.0)"
    parameters = sorted({look.value for look, _ in looks})
    rooms = [f"c{n} = buffer_real{bits}()" for n in range(len(looks))]
    compute, ends, scatters = [], [], []
    adds: dict[int, list[str]] = {parameter: [] for parameter in parameters}
    wholes: dict[int, list[str]] = {}
    writer.begin(writer.inner)
    for n, (look, gradient) in enumerate(looks):
        value = f"select(d[first + t] == {zero}, {zero}, {writer.name(gradient)})"
        compute.append(f"c{n}[t] = {value}")
        own = [one for one, _ in looks if one.value == look.value]
        total = f"g{look.value}"
        if len(own) == 1 and writer.level(look) == 0:
            place = writer.offset(look)
            rooms += [f"{total} = reals64(gradients[{look.value}])", f"sum{n} = real64(0.0)"]
            writer.lines[0] += [f"if gradients[{look.value}] != 0:", f"    sum{n} = {total}[{place}]"]
            rest = ["for t in range(count, 64):", f"    c{n}[t] = {zero}"]
            wholes[look.value] = [*rest, f"sum{n} += sum_real{bits}(c{n})"]
            ends += [f"if gradients[{look.value}] != 0:", f"    {total}[{place}] = sum{n}"]
            continue
        if f"{total} = reals64(gradients[{look.value}])" not in rooms:
            rooms.append(f"{total} = reals64(gradients[{look.value}])")
        place = writer.offset(look)
        if writer.level(look) == writer.inner:
            rooms.append(f"o{n} = buffer_integer64()")
            compute.append(f"o{n}[t] = {place}")
            place = f"o{n}[t]"
        adds[look.value].append(f"{total}[{place}] += real64(c{n}[t])")
    any_wanted = " or ".join(f"gradients[{parameter}] != 0" for parameter in parameters)
    loop = ["for t in range(count):", *indented([*writer.lines[writer.inner], *compute])]
    for parameter, lines in adds.items():
        one_by_one = ["for t in range(count):", *indented(lines)]
        scatters += [f"if gradients[{parameter}] != 0:", *indented(wholes.get(parameter, one_by_one))]
    writer.begin(writer.inner)
    return [f"if {any_wanted}:", *indented([*loop, *scatters])], rooms, ends


def _mask(traced: Traced, name: str, narrow: bool) -> str:
    """What a mask computes of real numbers is float64, so that it is one mask whatever the type of the arrays."""
    writer = Writer(traced, 64, narrow, {"j": 1}, [traced.result])
    stages = writer.stages([traced.result])
    _rows(writer, "(first + t)")
    loops = writer.staged_loops(stages)
    result = writer.name(traced.result)
    last = [*writer.lines[1], f"allowed[first + t] = select({result}, byte(1), byte(0))"]
    body = _pieces("n", [*loops, "for t in range(count):", *indented(last)])
    body = [*writer.tables, *writer.buffers(stages), *writer.lines[0], *body]
    row = [
        '@njit(error_model="numpy")',
        "def row(allowed, n, b, h, i, j0, parameters):",
        "    wide_vectors()",
        *indented(body),
        "",
        "",
    ]
    if name == "forward":
        head = _head("forward", f"CPointer(u1), {_ROW}, CPointer(i8)", "allowed, n, b, h, i, j0, parameters")
        return writer.module([*row, *head, "    row(allowed, n, b, h, i, j0, parameters)"])
    # Blocks of 64 queries and 64 keys whose state is 2 become 0 or 1 where they hide or show everything.
    blocks = [
        "allowed = buffer_byte()",
        "across = (keys + 63) // 64",
        "for u in range((queries + 63) // 64):",
        "    for v in range(across):",
        "        if states[u * across + v] == 2:",
        "            n, rows, seen = min(keys - 64 * v, 64), min(queries - 64 * u, 64), 0",
        "            for r in range(rows):",
        "                row(allowed, n, b, h, 64 * u + r, 64 * v, parameters)",
        "                for t in range(n):",
        "                    seen += allowed[t]",
        "            if seen == 0:",
        "                states[u * across + v] = byte(0)",
        "            elif seen == n * rows:",
        "                states[u * across + v] = byte(1)",
    ]
    head = _head("blocks", "CPointer(u1), i8, i8, i8, i8, CPointer(i8)", "states, queries, keys, b, h, parameters")
    return writer.module([*row, *head, *indented(blocks)])


def _pairwise_forward(traced: Traced, bits: int, narrow: bool) -> str:
    """Sums over features in ascending order, of as many keys at once as there are vectors for."""
    writer = Writer(traced, bits, narrow, {"feature": 1, "q": 1, "k": 2}, [traced.result])
    writer.inputs.update(feature="feature", q="q[r * ldq + feature]", k="panel[feature * PW + first + t]")
    result = writer.name(traced.result)
    zero = f"real{bits}(0.0)"
    tile = []
    for width in (2048 // bits, 1):  # the kernels' panels, and others
        tile += [
            f"while first + {width} <= PW and first < n:",
            f"    for t in range({width}):",
            f"        sums[t] = {zero}",
            "    for feature in range(D):",
            *indented(writer.lines[1], 2),
            f"        for t in range({width}):",
            *indented([*writer.lines[2], f"sums[t] = sums[t] + {result}"], 3),
            f"    for t in range(min(n - first, {width})):",
            "        s[r * lds + first + t] = sums[t]",
            f"    first += {width}",
        ]
    body = [*writer.tables, f"sums = buffer_real{bits}()", *writer.lines[0]]
    body += ["for r in range(rows):", *indented(["first = 0", *tile])]
    pointer = f"CPointer(f{bits // 8})"
    head = _head(
        "forward",
        f"{pointer}, i8, i8, {pointer}, i8, i8, i8, {pointer}, i8, CPointer(i8)",
        "q, ldq, rows, panel, PW, n, D, s, lds, parameters",
    )
    return writer.module([*head, "    wide_vectors()", *indented(body)])


def _pairwise_backward(traced: Traced, bits: int, narrow: bool) -> str:
    """A pair at a time, 64 features at once: nothing is summed over features but gradients of single numbers."""
    derivative = derive(traced)
    wanted = [*derivative.inputs.values(), *(gradient for _, gradient in derivative.looks)]
    writer = Writer(traced, bits, narrow, {"feature": 2, "q": 2, "k": 2, "d": 1}, wanted)
    feature = "(first + t)"
    writer.inputs.update(feature=feature, q=f"q[r * ld + {feature}]", k=f"k[c * ld + {feature}]", d="g[r * ldg + c]")
    stages = writer.stages(wanted)
    loops = writer.staged_loops(stages)
    parts = [("dq", "q", "r"), ("dk", "k", "c")]
    lines = [
        f"{array}[{row} * ld + {feature}] += {writer.name(derivative.inputs[name])}"
        for array, name, row in parts
        if name in derivative.inputs
    ]
    plain = writer.lines[2]
    if lines:
        loops += ["for t in range(count):", *indented([*plain, *lines])]
    rooms, ends = [], []
    for n, (look, gradient) in enumerate(derivative.looks):
        writer.begin(2)
        value = writer.name(gradient)
        total = f"g{look.value}"
        rooms += [f"c{n} = buffer_real{bits}()", f"{total} = reals64(gradients[{look.value}])"]
        scatter = ["for t in range(count):", *indented([*writer.lines[2], f"c{n}[t] = {value}"])]
        if look.arguments:
            scatter += ["for t in range(count):", f"    {total}[first + t] += real64(c{n}[t])"]
        else:
            rooms.append(f"sum{n} = real64(0.0)")
            writer.lines[0] += [f"if gradients[{look.value}] != 0:", f"    sum{n} = {total}[0]"]
            scatter += ["for t in range(count):", f"    sum{n} += real64(c{n}[t])"]
            ends += [f"if gradients[{look.value}] != 0:", f"    {total}[0] = sum{n}"]
        loops += [f"if gradients[{look.value}] != 0:", *indented(scatter)]
    pieces = _pieces("D", loops) if loops else []
    pair = [f"if g[r * ldg + c] != real{bits}(0.0):", *indented([*writer.lines[1], *pieces] or ["pass"])]
    body = [*writer.tables, *writer.buffers(stages), *rooms, *writer.lines[0]]
    body += ["for r in range(rows):", "    for c in range(keys):", *indented(pair, 2), *ends]
    pointer = f"CPointer(f{bits // 8})"
    head = _head(
        "backward",
        f"{pointer}, i8, {pointer}, {pointer}, i8, i8, i8, i8, {pointer}, {pointer}, CPointer(i8), CPointer(i8)",
        "g, ldg, q, k, ld, rows, keys, D, dq, dk, parameters, gradients",
    )
    return writer.module([*head, "    wide_vectors()", *indented(body)])
