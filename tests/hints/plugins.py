"""Hints about plugins: what they hand over, and who asks for it."""

import warnings
from types import ModuleType

import fastattn
from fastattn import plugin, scores
from fastattn.plugin import ScoreRecord, VariantRecord
from hints import Said, advice
from hints.attention import attend


def plugins(**given):
    """Make plugins of functions that say what their hooks return, by name."""

    def module(hooks):
        made = ModuleType("a_plugin")
        for name, returned in hooks.items():
            setattr(made, name, returned if callable(returned) else lambda returned=returned: returned)
        return made

    return plugin.isolated({name: module(hooks) for name, hooks in given.items()})


def said(hooks):
    """Load a plugin; raise what is said about it."""
    with plugins(mine=hooks), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = next(row.problem for row in plugin.providers() if row.name == "mine")
    if problem:
        raise Said(problem)


def variants(*records):
    return {"fastattn_variants": list(records)}


class Mine(scores.Dot):
    pass


class Wide(scores.Dot):
    def __init__(self, *, width):
        super().__init__()


RIGHT = VariantRecord("mine", "fastattn.variants.dot:Dot")
advice(lambda hooks={"a": 1}: said(hooks), "define one of fastattn_scores", hooks={"fastattn_scores": []})
advice(lambda hooks={"fastattn_variant": []}: said(hooks), "define one of", hooks=variants(RIGHT))
for wrong in (3, [3]):
    advice(
        lambda returned=wrong: said({"fastattn_variants": returned}),
        "return a list of fastattn.plugin.VariantRecord",
        returned=[RIGHT],
    )
advice(
    lambda name="Mine": said(variants(VariantRecord(name, "a:b"))),
    "use lower case letters, digits and underscores",
    name="mine_2",
)
advice(
    lambda factory="Dot": said(variants(VariantRecord("mine", factory))), "give a class, a function", factory=scores.Dot
)
advice(
    lambda factory="Dot": said(variants(VariantRecord("mine", factory))),
    "or where it is: 'package.module:name'",
    factory="fastattn.variants.dot:Dot",
)


def twins(**environment):
    from unittest import mock

    with mock.patch.dict("os.environ", environment), plugins(one=variants(RIGHT), two=variants(RIGHT)):
        return fastattn.create


def made(name, *providers):
    with plugins(**{provider: variants(RIGHT) for provider in providers}):
        return fastattn.create(name, query_width=3, memory_width=3)


advice(lambda name="mine", providers=("one", "two"): made(name, *providers), "say {name}", name="'one:mine'")
advice(
    lambda name="mine", providers=("one", "two"): made(name, *providers),
    "or set FASTATTN_PLUGINS to the plugins that you want",
    providers=("one",),
)


def place(where):
    return VariantRecord("mine", where).load()


advice(lambda where="Dot": place(where), "write it as package.module:name", where="fastattn.variants.dot:Dot")
advice(
    lambda where="nowhere:Dot": place(where),
    "repair or remove the package that provides it",
    where="fastattn.variants.dot:Dot",
)
advice(
    lambda where="fastattn.variants.dot:__name__": place(where),
    "name a class or function",
    where="fastattn.variants.dot:Dot",
)


def score(name, factory, **options):
    with plugins(one={"fastattn_scores": [ScoreRecord("mine", factory)]}):
        return scores.create(name, **options)


advice(lambda name="nine": score(name, Mine), "did you mean {name}?", name="'mine'")
advice(
    lambda name="xxxx": score(name, Mine), "see fastattn.scores.names(), or install the plugin that has it", name="mine"
)
advice(
    lambda options={"softcup": 3.0}: score("mine", Mine, **options), "did you mean 'softcap'?", options={"softcap": 3.0}
)
advice(lambda options={}: score("mine", Wide, **options), "pass width=", options={"width": 3})
advice(
    lambda factory=dict: score("mine", factory),
    "its factory must return a fastattn.scores.base.Score; tell its author",
    factory=Mine,
)


def used(made):
    with plugins(one={"fastattn_scores": [ScoreRecord("mine", Wide)]}):
        return attend(score=made())


advice(
    lambda made=lambda: "mine": used(made),
    "this score has parameters: pass fastattn.scores.create('mine', width=...)",
    made=lambda: fastattn.scores.create("mine", width=3),
)


def broken(repaired):
    hooks = variants(VariantRecord("xyz", RIGHT.factory)) if repaired else {"fastattn_variants": lambda: 1 / 0}
    with plugins(one=hooks), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fastattn.create("xyz", query_width=3, memory_width=3)


advice(
    lambda repaired=False: broken(repaired),
    "is it from a plugin that is not loaded: one (broken)? See `fastattn plugins`",
    repaired=True,
)
