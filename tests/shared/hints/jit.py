"""Hints of user-written scores."""

import os
import pickle

import compiled_scores as examples
import numpy as np

import fastattn
from fastattn import jit
from fastattn._kernels import kept
from fastattn.testing.function_checks import as_function
from hints import advice, ones, write

SIZES = {"dtype": np.float32, "batch": 1, "heads": 1, "queries": 9, "keys": 9}


def looked_up(index, size=5):
    """Compile a look-up in a table."""
    made = fastattn.score_mod(lambda s, b, h, i, j, table: s + table[index(i, j)])
    return made(table=ones(size)).compiled(**SIZES)


def divided(index):
    return jit.as_score_mod(lambda s, b, h, i, j: s * index(i, j)).compiled(**SIZES)


advice(lambda function=3: fastattn.score_mod(function), "write it as def f", function=lambda s, b, h, i, j: s)
advice(
    lambda function=lambda s: s: fastattn.score_mod(function),
    "and parameters after these",
    function=lambda s, b, h, i, j, cap: s,
)
advice(
    lambda function=lambda s, b, h, i, j: s if s > 0 else 0: jit.as_score_mod(function),
    "write np.where(condition, this, that)",
    function=lambda s, b, h, i, j: np.where(s > 0, s, 0),
)
advice(
    lambda reduce=lambda s: s.max(): fastattn.score_mod(lambda s, b, h, i, j: reduce(s))(),
    "a function of a row is a normalizer: decorate it with fastattn.row_function",
    lambda: fastattn.row_function(lambda s, b, h, i, j: s - s.max())(),
)
advice(lambda cap=1j: examples.softcap(cap=cap), "bind numbers", cap=1.0)
advice(
    lambda cap=1e39: examples.softcap(cap=cap).compiled(**SIZES),
    "use np.inf or -np.inf where that is meant",
    cap=np.inf,
)
advice(
    lambda: examples.softcap(cap=1e39).compiled(**SIZES),
    "or query, key and value of float64",
    lambda: examples.softcap(cap=1e39).compiled(**{**SIZES, "dtype": np.float64}),
)
advice(lambda *cap: examples.softcap(*(cap or (3.0,))), "write softcap(cap=...)", lambda: examples.softcap(cap=3.0))
advice(lambda: examples.softcap(cup=3.0), "did you mean 'cap'?", lambda: examples.softcap(cap=3.0))
advice(lambda: examples.softcap(), "bind it, as softcap(cap=...)", lambda: examples.softcap(cap=3.0))
advice(lambda value=3: jit.as_score_mod(value), "decorate a function with fastattn.score_mod", value=examples.plain)
advice(lambda size=5: looked_up(lambda i, j: j, size), "make table larger", size=9)
advice(
    lambda index=lambda i, j: j: looked_up(index),
    "or keep the index inside by np.clip, of the integer, not of what it is made of",
    index=lambda i, j: np.clip(j, 0, 4),
)
advice(
    lambda index=lambda i, j: i // j: divided(index),
    "keep it away from 0 by np.maximum",
    index=lambda i, j: i // np.maximum(j, 1),
)
advice(lambda index=lambda i, j: i // j: divided(index), "divide real numbers by /", index=lambda i, j: i / j)
advice(
    lambda index=lambda i, j: j * 2**62: divided(index),
    "use real numbers, as i * 1.0",
    index=lambda i, j: j * 1.0 * 2.0**62,
)
advice(
    lambda w=ones(3): examples.l1(w=w).compiled(np.float32, 4),
    "a number, or has one for each feature",
    w=ones(4),
)

advice(
    lambda array=ones(3): examples.softcap(cap=np.ones(())).replaced("cap", array),
    "bind the function to a parameter of another kind anew",
    lambda: examples.softcap(cap=2.0),
)
advice(
    lambda array=np.array(1): examples.softcap(cap=np.ones(())).replaced("cap", array),
    "bind the function to a parameter of another kind anew",
    array=np.array(2.0),
)


def of_derivative(derivative):
    return fastattn.score_mod(lambda s, b, h, i, j: s * s, derivative=derivative, check=True)().compiled(**SIZES)


advice(
    lambda derivative=lambda s, b, h, i, j: s: of_derivative(derivative),
    "give the derivative of what the function returns",
    derivative=lambda s, b, h, i, j: 2 * s,
)
advice(
    lambda derivative=lambda s, b, h, i, j: s: of_derivative(derivative),
    "or leave derivative= out",
    derivative=None,
)
advice(
    lambda function=None: pickle.dumps(function or jit.as_score_mod(lambda s, b, h, i, j: s)),
    "define it with a name at the top of a module that the other process can import",
    function=examples.plain(),
)


def keep(folder):
    """Keep a compiled function in a folder."""
    before = os.environ.get("FASTATTN_CACHE_DIR")
    os.environ["FASTATTN_CACHE_DIR"] = str(folder)
    kept._warned.clear()
    try:
        kept.write("key", b"code")
    finally:
        os.environ.pop("FASTATTN_CACHE_DIR")
        if before is not None:
            os.environ["FASTATTN_CACHE_DIR"] = before


advice(
    lambda folder=None: keep(folder or write("file", "text")),
    "set FASTATTN_CACHE_DIR to a folder of yours; until then functions are compiled anew in each process",
    folder="mine",
)


def added(what):
    return fastattn.score_mod(lambda s, b, h, i, j, table: s + what(table, h, i))(table=ones(3))


advice(
    lambda what=lambda table, h, i: np.ones(3): added(what),
    "make it a parameter of the function, bound by keyword, and look up elements as table[h, i]",
    what=lambda table, h, i: table[h],
)
advice(
    lambda what=lambda table, h, i: len(table): added(what),
    "write table.shape[0]",
    what=lambda table, h, i: table.shape[0],
)
advice(
    lambda what=lambda table, h, i: i.prod(): added(what),
    "use operators and NumPy's functions on them, and bind arrays",
    what=lambda table, h, i: i + 1,
)


def slopes(derivative):
    return fastattn.pairwise_score(lambda q, k: q * k, derivative=derivative)()


advice(
    lambda derivative=lambda q, k: q: slopes(derivative),
    "return the derivative with respect to q and that to k",
    derivative=lambda q, k: (k, q),
)

MASK = fastattn.mask_mod(lambda b, h, i, j: i >= j)
for hint in (
    "make a mask of a function by fastattn.mask_mod, and of an array by a look-up",
    "as mask_mod(lambda b, h, i, j, seen: seen[b, j])(seen=array)",
):
    advice(lambda other=3: MASK & other, hint, other=MASK)
advice(lambda: MASK ^ ~MASK, "write (a | b) & ~(a & b)", lambda: (MASK | ~MASK) & ~(MASK & ~MASK))
for word, sign in ((lambda a, b: a and b, "a & b"), (lambda a, b: a or b, "a | b"), (lambda a, b: not a, "~a")):
    advice(lambda word=word: word(MASK, MASK), f"{sign} for `", lambda sign=sign: eval(sign, {"a": MASK, "b": MASK}))


def attend(**options):
    return fastattn.attention(ones(4, 3), ones(4, 3), ones(4, 3), **options)


TABLES = {"table": ones(3)}
TABLE, LIST = ones(3), [1.0, 2.0, 3.0]
advice(
    lambda function=lambda s, b, h, i, j: None: attend(score_mod=function),
    "end it with `return` and one number",
    function=lambda s, b, h, i, j: s,
)
advice(
    lambda function=lambda s, b, h, i, j: s + TABLES["table"][h]: attend(score_mod=function),
    "or capture it directly, by a name of its own",
    function=lambda s, b, h, i, j: s + TABLE[h],
)
advice(
    lambda function=lambda s, b, h, i, j: s + TABLES["table"][h]: attend(score_mod=function),
    "bind the array as a parameter",
    lambda: attend(score_mod=fastattn.score_mod(lambda s, b, h, i, j, table: s + table[h])(table=TABLE)),
)
advice(
    lambda: added(lambda table, h, i: LIST[h]), "bind a list as an array", lambda: added(lambda table, h, i: table[h])
)
advice(
    lambda: added(lambda table, h, i: sum(range(i))),
    "a loop has a known number of turns",
    lambda: added(lambda table, h, i: sum(range(3))),
)
advice(
    lambda: added(lambda table, h, i: int(i / 2)),
    "write x.astype(int)",
    lambda: added(lambda table, h, i: (i / 2).astype(int)),
)
advice(lambda: attend(score=examples.plain), "pass it as score_mod=", lambda: attend(score_mod=examples.plain))


def product(q, k):
    return q * k


def tempered(score, b, h, i, j, c):
    return score * c


advice(lambda: attend(score_mod=product), "pass a function of (q, k) as score=", lambda: attend(score=product))
advice(
    lambda: attend(score_mod=tempered),
    "decorate it first, and bind it, as fastattn.score_mod(tempered)(c=...)",
    lambda: attend(score_mod=fastattn.score_mod(tempered)(c=2.0)),
)


def subject(function, of_rows=False, **options):
    return as_function(function, of_rows, options)


ROW = fastattn.row_function(lambda s, b, h, i, j: s)
advice(lambda: subject(ROW), "use fastattn.testing.check_normalizer", lambda: subject(ROW, True))
advice(lambda: subject(product, True), "use fastattn.testing.check_score", lambda: subject(product))
advice(lambda: subject(examples.l2, True), "use fastattn.testing.check_score", lambda: subject(examples.l2))
advice(lambda: subject(examples.plain, True), "use fastattn.testing.check_score", lambda: subject(examples.plain))
advice(lambda: subject(MASK), "hold mask.evaluate(b, h, i, j) against", lambda: MASK().evaluate(0, 0, 1, 1))
advice(
    lambda: subject(examples.softcap(cap=2.0)),
    "pass the function itself, and its parameters as options=",
    lambda: subject(examples.softcap, cap=2.0),
)
