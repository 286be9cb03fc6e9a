"""Hints of the pictures."""

from unittest import mock

import matplotlib
import numpy as np

from fastattn import viz
from hints import advice, ones

ONE, TWO = ["a"], ["a", "b"]
EVEN = ones(1, 2) / 2


def heatmap(weights=EVEN, source=TWO, target=ONE, **more):
    return viz.heatmap(weights, source, target, **more)


advice(
    lambda weights=ones(0, 2), target=[]: heatmap(weights, target=target),
    "leave empty sentences out",
    weights=EVEN,
    target=ONE,
)
advice(
    lambda weights=ones(0, 2), target=[]: heatmap(weights, target=target),
    "or keep their end-of-sentence tokens",
    weights=EVEN,
    target=["</s>"],
)
advice(lambda vmax=0, weights=EVEN: heatmap(vmax=vmax), "pass {vmax}, say", vmax="weights.max()")
advice(lambda cmap="civids": heatmap(cmap=cmap), "did you mean {cmap}?", cmap="'cividis'")
advice(lambda cmap="zzz": heatmap(cmap=cmap), "leave it out, or pass one", lambda: heatmap())
advice(
    lambda cmap="zzz": heatmap(cmap=cmap),
    "pass one of list(matplotlib.colormaps)",
    lambda: heatmap(cmap=next(iter(matplotlib.colormaps))),
)
advice(lambda head=0: heatmap(head=head), "or leave it out", head=None)
advice(lambda head=2: heatmap(ones(1, 1, 2) / 2, head=head), "pass one of those", head=0)
advice(
    lambda weights=ones(5, 1, 2) / 2: viz.gallery([(weights[None, None], TWO, ONE)]),
    "choose one entry of the leading axes, for example {weights}.",
    lambda: viz.gallery([((ones(5, 1, 2) / 2)[0], TWO, ONE)]),
    weights="weights[0]",
)
advice(
    lambda weights=ones(2, 1) / 2: heatmap(weights),
    "rows are target tokens: pass {weights}.",
    weights="weights.swapaxes(-1, -2)",
)
advice(
    lambda weights=np.array([[1.0, 0, 0], [1, 0, 0]]): heatmap(weights),
    "cut padding off, {weights}, or label it",
    weights="weights[..., :1, :2]",
)
advice(
    lambda weights=ones(2, 3) / 3, source=TWO, target=ONE: heatmap(weights, source, target),
    "or label it (is there an end of sentence?)",
    source=[*TWO, "</s>"],
    target=[*ONE, "</s>"],
)
advice(
    lambda source=["a", "b", "c"]: heatmap(source=source),
    "pass as many tokens as the weights have rows and columns",
    source=TWO,
)
advice(lambda weights=ones(0, 1, 2): heatmap(weights), "pass the heads that are to be shown", weights=ones(3, 1, 2) / 2)
advice(lambda weights=ones(1, 2) * 3: heatmap(weights), "pass weights, that is scores after the softmax", weights=EVEN)
advice(lambda weights=EVEN * [[1, np.nan]]: heatmap(weights), "without the rows of padding", weights=EVEN)
advice(
    lambda normalized=True: heatmap(ones(1, 2), normalized=normalized),
    "pass normalized={normalized} if these weights may sum to more",
    normalized="False",
)
advice(
    lambda weights=ones(2, 2) * [[0.75], [0.25]]: heatmap(weights, target=TWO),
    "are targets and sources exchanged?",
    lambda: heatmap(np.array([[1.0, 0.0], [0.5, 0.5]]), target=TWO),
)
advice(lambda source=3: heatmap(source=source), "pass one str for each, such as text.split()", source="a b".split())
advice(
    lambda source=[1, 2]: heatmap(source=source), "decode token ids first: vocabulary.decode(ids)", source=["1", "2"]
)


def without_matplotlib():
    with mock.patch.dict("sys.modules", {"matplotlib": None}):
        return heatmap()


advice(
    lambda: without_matplotlib(),
    "pip install 'fastattn[viz]'; viz.page() needs no other package",
    lambda: viz.page(EVEN, TWO, ONE),
)


def unheard_of():
    lacking = mock.patch("fastattn.viz.fonts._characters", lambda path: frozenset("ab"))
    with lacking, mock.patch("fastattn.viz.fonts._told", set()):
        return heatmap(source=["a", "\u16a0"])


advice(unheard_of, "install a font for this script, for example one of Noto Sans", lambda: heatmap(source=["a", "b"]))
advice(unheard_of, "pages are written in the browser's", lambda: viz.page(EVEN, ["a", "\u16a0"], ONE))

# Pictures under weights
PICTURE, MAPS = ones(8, 8), ones(1, 2, 2) / 4


def overlay(picture=PICTURE, maps=MAPS, tokens=ONE, **more):
    return viz.overlay(picture, maps, tokens, **more)


advice(lambda vmax=0: overlay(vmax=vmax), "leave it out for the largest weight", vmax=None)
advice(lambda opacity=0: overlay(opacity=opacity), "{opacity} shows both", opacity="0.6")
advice(lambda columns=0: overlay(columns=columns), "leave it out for a choice", columns=None)
advice(lambda picture=ones(8, 8, dtype=int): overlay(picture), "uint8 is 0 to 255", picture=ones(8, 8, dtype=np.uint8))
advice(lambda picture=ones(8, 8, dtype=int): overlay(picture), "floats are 0 to 1", picture=PICTURE)
advice(lambda picture=ones(3, 8, 8): overlay(picture), "colours are the last axis", picture=ones(8, 8, 3))
advice(lambda picture=ones(8, 8, 4): overlay(picture), "leave transparency out", picture=ones(8, 8, 4)[..., :3])
advice(lambda picture=PICTURE * 255: overlay(picture), "scale it", picture=PICTURE * 255 / 255)
advice(lambda picture=PICTURE * 255: overlay(picture), "or pass it as uint8", picture=(PICTURE * 255).astype(np.uint8))
advice(
    lambda maps=ones(2, 3, 1, 2, 2) / 4: overlay(maps=maps),
    "pass the maps of one picture and one head, maps[b, :, :rows, :columns]",
    maps=MAPS,
)

# Pages
EXAMPLE = (EVEN, TWO, ONE)
advice(lambda examples=[]: viz.gallery(examples), "pass (weights, source, target) of each pair", examples=[EXAMPLE])
advice(lambda heads=TWO: viz.gallery([EXAMPLE], heads=heads), "name each once", heads=ONE)
advice(lambda heads=TWO: viz.gallery([EXAMPLE], heads=heads), "or leave it out", heads=None)
advice(lambda examples=[(ones(0, 2), TWO, [])]: viz.gallery(examples), "leave empty sentences out", examples=[EXAMPLE])
advice(
    lambda examples=[(ones(0, 2), TWO, [])]: viz.gallery(examples),
    "or keep their end-of-sentence tokens",
    examples=[(EVEN, TWO, ["</s>"])],
)
advice(
    lambda examples=[EXAMPLE, (ones(2, 1, 2) / 2, TWO, ONE)]: viz.gallery(examples),
    "make a page for each kind of model",
    lambda: [viz.gallery([EXAMPLE]), viz.gallery([(ones(2, 1, 2) / 2, TWO, ONE)])],
)
advice(
    lambda picture=3: viz.save(picture, "a.html"),
    "pass what heatmap() or page() returned",
    lambda: [viz.save(viz.page(*EXAMPLE), "a.html"), viz.save(heatmap(), "a.png")],
)
advice(
    lambda path="a.png": viz.save(viz.page(*EXAMPLE), path),
    "end it in {path}.",
    lambda: viz.save(viz.page(*EXAMPLE), "a.html"),
    path=".html",
)
advice(lambda examples=[EVEN]: viz.gallery(examples), "pass (weights, source, target) of each pair", examples=[EXAMPLE])
