"""The conformance kit: our own pass it, and each wrong plugin fails the check that is meant for it."""

import json

import numpy as np
import pytest
import wrong_plugins
from variant_cases import CASES, label, subject

import fastattn
from fastattn.errors import DTypeError, PluginError
from fastattn.normalizers import registry as normalizers
from fastattn.plugin import ScoreRecord, VariantRecord
from fastattn.scores import registry as scores
from fastattn.testing import check_normalizer, check_plugin, check_score, check_variant, parametrize
from fastattn.testing.score_checks import SCORE_CHECKS
from fastattn.testing.variant_checks import VARIANT_CHECKS

VALUED = [
    subject("multihead", {"heads": 2, "head_width": 3, "value_width": 4}),
    subject("additive_multihead", {"heads": 2, "width": 6, "head_width": 3, "value_width": 4}),
]


@pytest.mark.parametrize("case", [*CASES, *VALUED], ids=label)
def test_our_variants_conform(case):
    certificate = check_variant(case.record, options=case.options)
    assert certificate.passed and certificate["formula"].status == "passed", str(certificate)


def test_every_record_of_ours_has_a_reference():
    """Scores, normalizers and variants; the variant of a score is checked by the score's."""
    of_scores = scores.REGISTRY.built_in
    records = [*of_scores.values(), *normalizers.REGISTRY.built_in.values(), *fastattn.variants.records().values()]
    assert len(records) > 40
    without = [r for r in records if r.reference is None and not (r.name in of_scores and type(r) is VariantRecord)]
    assert without == []
    for record in records:
        assert record.reference is None or callable(record.formula())


@pytest.mark.parametrize("record", scores.REGISTRY.built_in.values(), ids=lambda record: record.name)
def test_our_scores_conform(record):
    for example in record.examples or ({},):
        certificate = check_score(record, options=example)
        assert certificate.passed, str(certificate)


@pytest.mark.parametrize("record", normalizers.REGISTRY.built_in.values(), ids=lambda record: record.name)
def test_our_normalizers_conform(record):
    for example in record.examples or ({},):
        certificate = check_normalizer(record, options=example)
        assert certificate.passed and certificate["formula"].status == "passed", str(certificate)


def test_functions_on_rows_that_are_softmax_conform_and_agree_with_it():
    right = wrong_plugins.normalizer(wrong_plugins.softmax)
    certificate = check_normalizer(right, reference=wrong_plugins.softmax_of_rows)
    assert certificate.passed, str(certificate)
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 4, n, 6)) for n in (9, 17, 17))
    lengths, bias = np.array([17, 5]), rng.normal(size=(9, 17))
    for score in ("scaled_dot", scores.create("additive", v=rng.normal(size=6)), fastattn.scores.Dot(softcap=2.0)):
        options = {"score": score, "key_lengths": lengths, "bias": bias, "window": (20, 6), "dropout": 0.3, "seed": 5}
        found, back = fastattn.attention_vjp(q, k, v, normalizer=right(), **options)
        wanted, wanted_back = fastattn.attention_vjp(q, k, v, **options)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
        for name in ("query", "key", "value", "bias"):
            a, b = getattr(back(found), name), getattr(wanted_back(found), name)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=name)


def test_a_variant_takes_a_normalizer_of_a_plugin():
    rng = np.random.default_rng(0)
    queries, memory, d = (rng.normal(size=(2, n, 6)) for n in (3, 7, 3))
    found = []
    for chosen in ("softmax", wrong_plugins.normalizer(wrong_plugins.softmax)()):
        variant = fastattn.create("bahdanau", query_width=6, memory_width=6, width=5, normalizer=chosen,
                                  rng=np.random.default_rng(1), dtype=np.float64)  # fmt: skip
        prepared = variant.prepare(memory, np.array([7, 4]))
        state, steps = variant.start(prepared), []
        for t in range(3):
            context, _, state, back = variant.step_vjp(queries[:, t], prepared, state)
            steps.append((context, back))
        d_queries = [back(d[:, t])[0] for t, (_, back) in reversed(list(enumerate(steps)))]
        found.append([*(context for context, _ in steps), *d_queries, variant.finish(prepared)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("which", wrong_plugins.NORMALIZERS)
def test_a_wrong_normalizer_fails_the_check_meant_for_it(which):
    wrong, name = wrong_plugins.NORMALIZERS[which]
    certificate = check_normalizer(wrong, reference=wrong_plugins.softmax_of_rows)
    assert name in certificate.failed, str(certificate)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, len, None])
def test_what_is_no_compiled_function_is_refused(wrong):
    with pytest.raises(DTypeError, match="weights: expected a compiled function"):
        fastattn.normalizers.RowFunctions(wrong, 8)


def test_a_right_plugin_passes_all():
    certificate = check_variant(wrong_plugins.Right, reference=wrong_plugins.reference)
    assert certificate.passed, str(certificate)
    assert all(result.status == "passed" for result in certificate.results), str(certificate)


@pytest.mark.parametrize("wrong", wrong_plugins.VARIANTS, ids=lambda wrong: wrong.__name__)
def test_a_wrong_variant_fails_the_check_meant_for_it(wrong):
    base = wrong_plugins.reference if issubclass(wrong, wrong_plugins.Right) else None
    certificate = check_variant(wrong, reference=base)
    assert wrong_plugins.VARIANTS[wrong] in certificate.failed, str(certificate)


@pytest.mark.parametrize("wrong", wrong_plugins.SCORES, ids=lambda wrong: wrong.__name__)
def test_a_wrong_score_fails_the_check_meant_for_it(wrong):
    options, reference, name = wrong_plugins.SCORES[wrong]
    certificate = check_score(wrong, options=options, reference=reference)
    assert name in certificate.failed, str(certificate)


@pytest.mark.parametrize("which", wrong_plugins.PLUGINS)
def test_a_wrong_plugin_fails_the_check_meant_for_it(which):
    plugin, name = wrong_plugins.PLUGINS[which]
    certificate = check_plugin(plugin)[0]
    assert certificate.failed == (name,), str(certificate)


def test_every_check_has_a_fault_that_it_finds():
    meant = {*wrong_plugins.VARIANTS.values()}
    without = {check.__name__ for check in VARIANT_CHECKS} - meant
    assert without == {"nan_stays_in_its_sample"}  # what breaks it breaks batches too
    assert len(wrong_plugins.VARIANTS) + len(wrong_plugins.SCORES) + len(wrong_plugins.PLUGINS) >= 20


def test_a_certificate_prints_and_is_data():
    reasons = {"gradients": "half of them, on purpose", "no_such_check": "?", "masks": "these are fine"}
    certificate = check_variant(wrong_plugins.WrongGradient, expected_failures=reasons)
    text = str(certificate)
    assert "known   gradients" in text and "half of them, on purpose" in text
    assert certificate.failed == ("masks", "no_such_check")
    assert "passed, though it was to fail" in certificate["masks"].detail
    data = json.loads(json.dumps(certificate.to_dict()))
    assert data["passed"] is False and len(data["results"]) == len(VARIANT_CHECKS) + 1
    with pytest.raises(PluginError, match="no_such_check"):
        certificate.require()


def test_every_check_says_what_it_checks():
    for check in (*VARIANT_CHECKS, *SCORE_CHECKS):
        assert check.__doc__, check.__name__


@parametrize(
    VariantRecord("right", wrong_plugins.Right, reference=wrong_plugins.reference),
    VariantRecord("half", wrong_plugins.WrongGradient),
    ScoreRecord("dot", "fastattn.scores:Dot", reference=wrong_plugins.dots),
    expected_failures={"half.gradients": "half of them, on purpose"},
)
def test_the_kit_in_pytest(check):
    check()


def test_reasons_for_checks_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="gradient"):
        parametrize(ScoreRecord("dot", "fastattn.scores:Dot"), expected_failures={"gradient": "?"})
