"""Hints about plugins: what they hand over, and who asks for it."""

import functools
import warnings
from types import ModuleType
from unittest import mock

import numpy as np
from wrong_plugins import Dot

import fastattn
from fastattn import plugin, scores, testing
from fastattn.plugin import ScoreRecord, VariantRecord, manager
from fastattn.plugin.installed import installed as whole
from fastattn.plugin.provider import Provider
from hints import Said, advice
from hints.attention import attend


def module_of(hooks):
    """Make a plugin of what its hooks return, or of functions that return it."""
    made = ModuleType("plugin_of_a_test")
    for name, returned in hooks.items():
        setattr(made, name, returned if callable(returned) else lambda returned=returned: returned)
    return made


def plugins(**given):
    """Use these plugins, by name, and no other."""
    return plugin.isolated({name: module_of(hooks) for name, hooks in given.items()})


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


RIGHT = VariantRecord("mine", "wrong_plugins:Dot")
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
    factory="wrong_plugins:Dot",
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


advice(lambda where="Dot": place(where), "write it as package.module:name", where="wrong_plugins:Dot")
advice(
    lambda where="nowhere:Dot": place(where),
    "repair or remove the package that provides it",
    where="wrong_plugins:Dot",
)
advice(
    lambda where="wrong_plugins:__name__": place(where),
    "name a class or function",
    where="wrong_plugins:Dot",
)


def score(name, factory, **options):
    with plugins(one={"fastattn_scores": [ScoreRecord("mine", factory)]}):
        return scores.create(name, **options)


advice(lambda name="nine": score(name, Mine), "did you mean {name}?", name="'mine'")
advice(lambda name="xxxx": score(name, Mine), "use one of these names, or install the plugin that has it", name="mine")
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
    "this one has parameters: pass fastattn.scores.create('mine', width=...)",
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


def installed(*names, read=True, **environment):
    """Look for plugins of these entry points; raise the problem of one."""
    with mock.patch.dict("os.environ", environment), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [(Provider(name, "plugin_of_a_test"), lambda: module_of(variants(RIGHT))) for name in names]
        if not read:
            finder = mock.Mock(side_effect=OSError("no disk"))
            with mock.patch("importlib.metadata.distributions", lambda: map(finder, [1])):
                found = whole()
        with mock.patch("fastattn.plugin.manager.installed", lambda: found):
            return manager.Manager().providers()


def said_of(*names, **more):
    for row in installed(*names, **more):
        if row.problem:
            raise Said(row.problem)


for right in (("one",), ("one", "two")):
    advice(
        lambda names=("one", "one"): said_of(*names),
        "remove one of the packages, or ask its author for another name of its entry point",
        names=right,
    )
advice(lambda name="One": said_of(str(name)), "use lower case letters, digits and underscores", name="one")
advice(lambda read=False: said_of(read=read), "install it anew, or remove it", read=True)
advice(lambda second="mine": said(variants(RIGHT, VariantRecord(second, len))), "rename one", second="yours")


# The conformance kit
class Wrong(Dot):
    """Its scores are halved where a reference says that they are not."""

    class score_class(scores.Dot):
        def project_query(self, query):
            return query / 2


def reference(parameters, queries, memory, values, allowed):
    scores = np.where(allowed[:, None], np.einsum("btd,bsd->bts", queries, memory), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bts,bsd->btd", weights, values), weights


def record(factory):
    return VariantRecord("mine", factory, reference=reference)


@functools.cache
def certificate(factory):
    return testing.check_variant(record(factory))


advice(lambda: certificate(Wrong).require(), "print(certificate) shows all checks", lambda: str(certificate(Wrong)))


advice(
    lambda subject="additive": testing.check_variant(subject, options={"width": 4}),
    "pass fastattn.variants.record(name) for one that has a name",
    lambda: testing.check_variant(fastattn.variants.record("additive"), options={"width": 4}),
)


def timed(factory):
    with mock.patch("fastattn.testing.timing.check", lambda kind, record, options: certificate(factory)):
        return testing.timing.Timed(record(factory), {}, "step", len, len).check()


advice(lambda factory=Wrong: timed(factory), "repair it: a wrong result has no time", factory=Dot)


def records_of(name, hooks=None, **environment):
    with mock.patch.dict("os.environ", environment), plugins(one=hooks or variants(RIGHT)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return testing.records_of(name)


advice(lambda name="two": records_of(name), "install its package", name="one")
advice(
    lambda hooks={"fastattn_variants": 3}: records_of("one", hooks),
    "see `fastattn plugins`, and repair it",
    hooks=variants(RIGHT),
)


def allowed(**environment):
    found = [(Provider("one", "plugin_of_a_test"), lambda: module_of(variants(RIGHT)))]
    with mock.patch.dict("os.environ", environment), mock.patch("fastattn.plugin.manager.installed", lambda: found):
        plugin.reload()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return testing.records_of("one")
        finally:
            plugin.reload()


for right in ({"FASTATTN_PLUGINS": "one"}, {}):
    advice(
        lambda environment={"FASTATTN_PLUGINS": "two"}: allowed(**environment),
        "name it in FASTATTN_PLUGINS, or unset that",
        environment=right,
    )
