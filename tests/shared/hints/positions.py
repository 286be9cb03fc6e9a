"""Hints of positions, grids and `set_num_threads`."""

import numpy as np

from fastattn import config, positions
from fastattn.grid import Grid
from fastattn.positions import Learned, Learned2D, RelativeVectors, Rotary, Sinusoidal2D
from hints import advice, ones

RNG = np.random.default_rng(0)


def create(given, **sizes):
    return positions.create(given, width=8, heads=2, head_width=4, rng=RNG, dtype=np.float32, **sizes)


advice(lambda dtype=int: positions.Alibi(2, dtype=dtype), "pass {dtype}.", dtype="np.float32")
advice(lambda buckets=3: positions.relative_buckets([1], buckets), "the paper has {buckets} and 128", buckets="32")
advice(lambda apart=[1.5]: positions.relative_buckets(apart), "pass {apart}", apart="np.asarray(apart, np.int64)")
advice(lambda x=ones(5, 4): positions.Sinusoidal(4).add(x), "add, merge or project axes", x=ones(1, 5, 4))
advice(
    lambda d=ones(2, 2): positions.RelativeBias(ones(4)).gradient(d), "pass the gradient of array(Tq, Tk)", d=ones(2, 3)
)
advice(lambda clip=0: RelativeVectors(4, clip=clip, rng=RNG), "the paper has {clip}.", clip="16")
advice(lambda part=3: Rotary(4, part=part), "features are turned in pairs", part=2)
advice(lambda layout="other": Rotary(4, layout=layout), "{layout} is that of Llama", layout='"half"')
advice(lambda base=0: Rotary(4, base=base), "the paper has {base}.", base="10000")
advice(
    lambda width=4, dtype=np.float32: Rotary(width, dtype=dtype).turn(ones(1, 2, 3, 6, dtype="f8")),
    "make Rotary with the width and dtype of heads",
    width=6,
    dtype=np.float64,
)
advice(
    lambda longest=3: Learned(4, longest=longest, rng=RNG).add(ones(1, 5, 4)),
    "make it with a larger longest=; what was not learnt is not known",
    longest=5,
)
advice(lambda given=3: create(given), "pass {given}, or", given="'alibi'")
advice(lambda given={"clip": 2}: create(given), "or {given} and its settings", given="{'name': 'alibi'}")
advice(lambda given="absolute": create(given), "use one of these names, or install the plugin", given="learned")
advice(lambda given="rotery": create(given), "did you mean {given}?", given="'rotary'")
advice(
    lambda given={"name": "shaw", "chip": 2}: create(given), "did you mean 'clip'?", given={"name": "shaw", "clip": 2}
)
advice(lambda given={"name": "alibi", "zzz": 2}: create(given), "leave it out", given={"name": "alibi"})
advice(
    lambda given={"name": "shaw", "zzz": 2}: create(given),
    "use one of these names",
    given={"name": "shaw", "values": False},
)
advice(lambda sinks=0.5: positions.check_window((1, 1), sinks), "pass sinks={sinks}, say", sinks="4")
advice(lambda sinks=-1: positions.check_window((1, 1), sinks), "pass sinks={sinks}, say", sinks="4")
advice(
    lambda window=None, sinks=4: positions.check_window(window, sinks),
    "without a window all keys are visible; leave sinks out",
    sinks=0,
)
for wrong in (3, (1, -1)):
    advice(
        lambda window=wrong: positions.check_window(window, 0),
        "window=(left, right) counts keys before and after the query's position; None is without limit",
        window=(3, None),
    )

# Grids
advice(lambda width=3: Sinusoidal2D(width), "rows and columns get a half each", width=4)
advice(
    lambda x=ones(2, 6, 4): Sinusoidal2D(4).add(x),
    "pass features before Grid.flatten, channels last",
    x=ones(2, 2, 3, 4),
)
advice(lambda x=ones(2, 2, 3, 4, dtype="f8"): Sinusoidal2D(4).add(x), "pass {x}.", x="np.asarray(x, np.float32)")
advice(
    lambda rows=1, columns=3: Learned2D(4, rows=rows, columns=columns, rng=RNG).add(ones(2, 2, 3, 4)),
    "make it with larger rows= and columns=",
    rows=2,
)
GRID = Grid([[2, 3]])
for wrong in ([2, 3], [[2.0, 3.0]]):
    advice(lambda extents=wrong: Grid(extents), "pass (rows, columns) of each sample, as integers", extents=[(2, 3)])
advice(lambda extents=[[2**32, 2**32]]: Grid(extents), "rows and columns of feature vectors", extents=[[300, 2]])
advice(lambda extents=[[3, 2]]: Grid(extents, (2, 3)), "pass rows before columns", extents=[[2, 3]])
advice(lambda extents=[[2, 4]]: Grid(extents, (2, 3)), "without the padding", extents=[[2, 3]])
advice(lambda shape=None: Grid([[1, 2]], shape).flatten(ones(1, 2, 3, 4)), "pass Grid(..., shape=).", shape=(2, 3))
advice(
    lambda memory=ones(1, 5, 4): GRID.unflatten(memory),
    "pass what belongs to this grid",
    memory=GRID.flatten(ones(1, 2, 3, 4)),
)
advice(lambda weights=ones(6): GRID.maps(weights), "pass what attention returned", weights=ones(1, 2, 6))
for wrong in (0, "4"):
    advice(
        lambda n=wrong: config.set_num_threads(n),
        "pass the number of threads, for example {n}.",
        lambda: config.set_num_threads(config.get_num_threads()),
        n=4,
    )
advice(lambda dtype="x": positions.Alibi(2, dtype=dtype), "pass {dtype}.", dtype="np.float32")
advice(lambda shape=3: Grid([[2, 3]], shape), "pass (rows, columns)", shape=(2, 3))
advice(lambda layout="halves": Rotary(4, layout=layout), "did you mean {layout}?", layout="'half'")
VECTORS = RelativeVectors(4, clip=2, rng=RNG)
advice(
    lambda value=ones(1, 2, 3, 1): positions.attend_vjp(ones(1, 2, 3, 4), ones(1, 2, 3, 4), value, VECTORS, 0),
    "project the values to the width of the positions", value=ones(1, 2, 3, 4),
)  # fmt: skip
