"""The compiled functions of a row, which go over it as often as one reduction needs the result of another.

A pass computes all reductions whose arguments are known, and the last one what is asked for. What a later pass needs
and is not quickly computed again is kept in buffers. A row is taken in pieces of 64 keys: a sum has 64 of its own, one
for each place in a piece, which are added at the end by halves, so that it has one order whatever the length.
"""

from collections.abc import Iterable
from functools import lru_cache

from fastattn.jit.derivative import Derivative, derive_rows
from fastattn.jit.emit import Writer, indented
from fastattn.jit.graph import Node, ancestors
from fastattn.jit.operations import OPERATIONS
from fastattn.jit.reductions import REDUCTIONS, of_keys
from fastattn.jit.trace import Traced

__all__ = ["buffers_of", "row_text"]

_PIECE = 64
_LONG = ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "power", "div", "sqrt")
_WORTH = 8  # operations that are more than a buffer costs; one that takes long counts as so many


class _Plan:
    """What each pass computes.

    Attributes
    ----------
    passes : list of list of Node
        Of each pass what it has a value of for each key: arguments of reductions, what is kept, and last the results.
    reductions : list of list of Node
        Of each pass.
    kept : dict of Node to int
        The buffer of each node that has one.
    """

    def __init__(self, results: Iterable[Node]) -> None:
        results = list(results)
        self.each = of_keys(results)
        self.stage: dict[Node, int] = {}
        reductions = []
        for node in ancestors(results):
            before = max([self.stage[argument] for argument in node.arguments], default=0)
            self.stage[node] = before + (node.operation in REDUCTIONS)
            if node.operation in REDUCTIONS:
                reductions.append(node)
        last = max(self.stage[node] for node in results)
        self.reductions = [[n for n in reductions if self.stage[n] == k + 1] for k in range(last + 1)]
        self.passes = [[n.arguments[0] for n in self.reductions[k]] for k in range(last + 1)]
        self.passes[last] += [node for node in results if node in self.each]
        self.kept: dict[Node, int] = {}
        for k in range(last, 0, -1):
            self._keep(k)

    def _keep(self, k: int) -> None:
        """Find what pass k takes from earlier ones."""
        left, known = list(self.passes[k]), set()
        while left:
            node = left.pop()
            if node in known or node not in self.each:
                continue
            known.add(node)
            if self.stage[node] < k and node.kind == "f" and self._work(node) >= _WORTH:
                if node not in self.kept:
                    self.kept[node] = len(self.kept)
                    self.passes[self.stage[node]].append(node)
            else:
                left += node.arguments

    def _work(self, node: Node) -> int:
        left, known = [node], {node}
        while left:
            new = {one for one in left.pop().arguments if one in self.each and one.arguments} - known
            left += new
            known |= new
        return sum(_WORTH if one.operation in _LONG else 1 for one in known)


class _RowWriter(Writer):
    """A writer whose inner loop goes over the 64 keys of a piece; see `_Plan` for what it has kept."""

    def __init__(self, traced: Traced, bits: int, narrow: bool, plan: _Plan, wanted: list[Node]) -> None:
        super().__init__(traced, bits, narrow, {"s": 1, "seen": 1, "j": 1, "d": 1}, wanted)
        self.inputs.update(b="b", h="h", i="i", j="j0 + (first + t)", s="s[first + t]", d="d[first + t]")
        self.inputs["seen"] = f"s[first + t] != real{bits}(-np.inf)"
        self.plan = plan
        self.now = 0

    def level(self, node: Node) -> int:
        """Return 1 of what each key has, 0 of what the row has."""
        return int(node in self.plan.each)

    def text(self, node: Node, bits: int) -> str:
        """Return what computes a node in this width, or where it was kept."""
        if node in self.plan.kept and bits == self.bits and self.plan.stage[node] < self.now:
            return f"x[kept + {_PIECE * self.plan.kept[node]} + t]"
        if node.operation == "input" and node.kind == "b":
            return self.inputs[node.value]
        if node.operation == "div" and self.level(node) and not self.level(node.arguments[1]):
            return self._part_of_row(node, bits)
        return super().text(node, bits)

    def _part_of_row(self, node: Node, bits: int) -> str:
        """Return a number of each key by one of the row: times its inverse, which is in the range of the type."""
        x, total = (self.name(one, bits) for one in node.arguments)
        near, far, power = (-100, 100, 64) if bits == 32 else (-900, 900, 200)
        real, up, inverse = (
            f"real{bits}",
            f"up{node.arguments[1].number}_{bits}",
            f"in{node.arguments[1].number}_{bits}",
        )
        key = (node.arguments[1], -bits)  # there is no such width
        if key not in self.names[0]:
            self.names[0][key] = up
            down = f"select(abs({total}) > {real}({2.0**far!r}), {real}({2.0**-power!r}), {real}(1.0))"
            self.lines[0] += [
                f"{up} = select(abs({total}) < {real}({2.0**near!r}), {real}({2.0**power!r}), {down})",
                f"{inverse} = {real}(1.0) / ({total} * {up})",
            ]
        return f"{x} * {up} * {inverse}"

    def stages_of(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the look-ups for each key that this pass has to read."""
        left, known = list(nodes), set()
        while left:
            node = left.pop()
            if node in known or (node in self.plan.kept and self.plan.stage[node] < self.now):
                continue
            known.add(node)
            left += [one for one in node.arguments if one in self.plan.each]
        return sorted((one for one in known if one.operation == "look"), key=lambda one: one.number)

    def combined(self, reduction: Node, x: str, y: str) -> str:
        """Return the text of two parts of a reduction as one."""
        return f"{x} + {y}" if reduction.operation == "row_sum" else OPERATIONS["maximum"].text.format(x, y)


@lru_cache(maxsize=512)
def _gradients(traced: Traced) -> Derivative:
    return derive_rows(traced)


def _results(traced: Traced, name: str) -> list[Node]:
    """Return what a function computes: weights, and backward the gradients of scores and of what it looks up."""
    if name == "forward":
        return [traced.result]
    derivative = _gradients(traced)
    given = derivative.inputs.get("s", traced.graph.constant(0.0))
    of_looks = [node for look, gradient in derivative.looks for node in (gradient, *look.arguments)]
    return [traced.result, given, *of_looks]


@lru_cache(maxsize=512)
def buffers_of(traced: Traced) -> int:
    """Return how many buffers of a whole row the functions need; found anew it took 0.2 ms of every call."""
    return max(len(_Plan(_results(traced, name)).kept) for name in ("forward", "backward"))


def row_text(traced: Traced, name: str, bits: int, narrow: bool) -> str:
    """Return the text of a module with one compiled function, "forward" or "backward"."""
    results = _results(traced, name)
    plan = _Plan(results)
    writer = _RowWriter(traced, bits, narrow, plan, results)
    count = buffers_of(traced)
    rooms: dict[str, None] = {}
    body: list[str] = []
    ends: list[str] = []
    for k in range(len(plan.passes)):
        last = k == len(plan.passes) - 1
        body += _pass(writer, k, count, rooms, (lambda: _last(writer, name, results, rooms, ends)) if last else None)
    before = [*writer.tables, *rooms]
    pointer = f"CPointer(f{bits // 8})"
    places, sums = "i8, i8, i8, i8, i8", "CPointer(i8), CPointer(i8)"
    if name == "forward":
        types, arguments = f"{pointer}, {places}, CPointer(i8), {pointer}", "s, n, b, h, i, j0, parameters, x"
    else:
        types = f"{pointer}, {pointer}, {places}, {sums}, {pointer}"
        arguments = "s, d, n, b, h, i, j0, parameters, gradients, x"
    head = [f'@cfunc("void({types})", error_model="numpy")', f"def {name}({arguments}):"]
    return writer.module([*head, "    wide_vectors()", "    apart()", *indented([*before, *body, *ends])])


def _pass(writer: _RowWriter, k: int, count: int, rooms: dict[str, None], last: "object") -> list[str]:
    """Return the lines of pass k; `last` writes what the last one has to do beside."""
    plan, bits = writer.plan, writer.bits
    writer.now = k
    writer.begin(1)
    zero, least = f"real{bits}(0.0)", f"real{bits}(-np.inf)"
    stages = writer.stages_of(plan.passes[k])
    for line in writer.buffers(stages):
        rooms[line] = None
    loops = writer.staged_loops(stages)
    begin, inner, after, scatter = [], [], [], []
    for node in plan.reductions[k]:
        rooms[f"a{node.number} = buffer_real{bits}()"] = None
        begin += [f"    a{node.number}[t] = {zero if node.operation == 'row_sum' else least}"]
        value = writer.name(node.arguments[0])
        inner.append(f"a{node.number}[t] = {writer.combined(node, f'a{node.number}[t]', value)}")
        after.append(f"x{node.number} = {node.operation}(a{node.number})")
    for node, number in plan.kept.items():
        if plan.stage[node] == k:
            inner.append(f"x[kept + {_PIECE * number} + t] = {writer.name(node)}")
    if callable(last):
        more, scatter = last()
        inner += more
    loop = [
        "first = 0",
        "while first < n:",
        *indented([
            "count = min(n - first, 64)",
            f"kept = first * {count}",
            *loops,
            f"for t in range({_PIECE}):",
            *indented([*writer.lines[1], *inner]),
            *scatter,
            "first += 64",
        ]),
    ]  # fmt: skip
    begin = [f"for t in range({_PIECE}):", *begin] if begin else []
    head, writer.lines[0] = writer.lines[0], []
    for node in plan.reductions[k]:
        writer.names[0][node, bits] = f"x{node.number}"
    return [*head, *begin, *loop, *after]


def _last(
    writer: _RowWriter, name: str, results: list[Node], rooms: dict[str, None], ends: list[str]
) -> tuple[list[str], list[str]]:
    """Return what the loop of the last pass does beside, and what follows it in each piece."""
    traced, bits = writer.traced, writer.bits
    weights = writer.name(results[0])
    if name == "forward":
        return [f"s[first + t] = {weights}"], []
    given = writer.name(results[1])
    inner, scatter = [], []
    for n, (look, gradient) in enumerate(_gradients(traced).looks):
        wanted, total = f"gradients[{look.value}] != 0", f"g{look.value}"
        rooms[f"{total} = reals64(gradients[{look.value}])"] = None
        value = writer.name(gradient)
        if not writer.level(look):  # one number of the row, whose gradient was summed over the keys
            place = writer.offset(look)
            ends += [f"if {wanted}:", f"    {total}[{place}] += real64({value})"]
            continue
        rooms[f"c{n} = buffer_real{bits}()"] = rooms[f"o{n} = buffer_integer64()"] = None
        inner += [f"c{n}[t] = {value}", f"o{n}[t] = {writer.offset(look)}"]
        adds = [f"if {wanted}:", "    for t in range(count):", f"        {total}[o{n}[t]] += real64(c{n}[t])"]
        scatter += adds
    return [*inner, f"s[first + t] = {weights}", f"d[first + t] = {given}"], scatter
