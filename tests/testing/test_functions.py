"""The kit certifies user-written scores and functions of rows, and names what is wrong with one."""

import os
import warnings

import numpy as np
import pytest

import fastattn
from fastattn.errors import DTypeError
from fastattn.testing import check_normalizer, check_score


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    before = os.environ.get("FASTATTN_CACHE_DIR")
    os.environ["FASTATTN_CACHE_DIR"] = before or str(tmp_path_factory.mktemp("compiled"))
    yield
    if before is None:
        os.environ.pop("FASTATTN_CACHE_DIR")


@fastattn.score_mod
def by_key(score, b, h, i, j, slope, table):
    return score * slope + table[j % 3]


def test_a_modifier_is_certified():
    options = {"slope": lambda rng, q, k, dtype: np.array(0.7, dtype), "table": np.arange(3)}
    certificate = check_score(by_key, options=options)
    assert certificate.passed and not certificate.failed, certificate
    assert certificate["prepared_memory"].status == "passed"


def test_a_pairwise_score_is_certified():
    def weighted(q, k, w):
        return w * q * k

    options = {"w": lambda rng, q, k, dtype: rng.normal(size=q).astype(dtype)}
    certificate = check_score(
        weighted, options=options, reference=lambda p, q, k, scale: (q * p["w"]) @ k.swapaxes(1, 2)
    )
    assert certificate.passed, certificate


def test_what_depends_on_the_sample_is_not_compared_between_samples():
    certificate = check_score(lambda score, b, h, i, j: score + b * 0.5)
    assert certificate.passed and certificate["any_batch_and_position"].status == "unsupported", certificate


def test_a_wrong_derivative_and_a_wrong_reference_are_named():
    wrong = fastattn.score_mod(lambda score, b, h, i, j: score**2 / 4, derivative=lambda score, b, h, i, j: score)
    assert check_score(wrong).failed == ("derivatives", "gradients")
    right = fastattn.score_mod(lambda score, b, h, i, j: 2 * score)
    assert check_score(right, reference=lambda p, q, k, scale: q @ k.swapaxes(1, 2)).failed == ("formula",)


@fastattn.row_function
def with_sink(s, b, h, i, j, sink):
    top = np.maximum(s.max(), sink)
    e = np.exp(s - top)
    return e / (e.sum() + np.exp(sink - top))


def sink_of_numpy(scores, sink):
    e = np.exp(scores)
    return e / (e.sum(axis=-1, keepdims=True) + np.exp(sink))


def test_a_function_of_rows_is_certified():
    options = {"sink": lambda rng, q, k, dtype: np.array(0.4, dtype)}
    certificate = check_normalizer(with_sink, options=options, reference=sink_of_numpy)
    assert certificate.passed and not certificate.failed, certificate
    assert all(certificate[name].status == "passed" for name in ("masks", "derivatives", "prepared_memory")), (
        certificate
    )


def test_what_depends_on_places_is_not_compared_between_them():
    certificate = check_normalizer(lambda s, b, h, i, j: np.maximum(s, 0) ** 2 + 0.1 * j + b)
    unsupported = {"masks", "any_batch_and_position", "order_of_sums", "prepared_memory"}
    assert certificate.passed, certificate
    assert {name for name in unsupported if certificate[name].status == "unsupported"} == unsupported, certificate
    by_position = check_normalizer(lambda s, b, h, i, j: np.maximum(s, 0) ** 2 + 0.1 * j)
    assert by_position.passed and by_position["masks"].status == "unsupported", by_position
    assert by_position["any_batch_and_position"].status == "passed", by_position


def test_a_wrong_function_of_rows_is_named():
    options = {"sink": np.array(0.4)}
    assert check_normalizer(
        with_sink, options=options, reference=lambda s, sink: sink_of_numpy(s, sink + 0.1)
    ).failed == ("formula",)
    growing = fastattn.row_function(lambda s, b, h, i, j: np.exp(s))
    assert check_normalizer(growing).failed == ("large_scores",)


MASK = fastattn.mask_mod(lambda b, h, i, j: i >= j)


@pytest.mark.parametrize(
    ("check", "subject", "message"),
    [
        (check_score, with_sink, "use fastattn.testing.check_normalizer"),
        (check_normalizer, by_key, "got a score_mod.\nHint: use fastattn.testing.check_score"),
        (check_score, MASK, "got a mask_mod.\nHint: a mask has no gradients"),
        (check_score, MASK(), "a mask has no gradients"),
        (check_normalizer, lambda b, h, i, j: i >= j, "a mask has no gradients"),
        (
            check_score,
            by_key(slope=1.0, table=np.arange(3)),
            "got one that is bound, by_key.*\nHint: pass the function",
        ),
    ],
)
def test_a_function_of_another_kind_is_refused(check, subject, message):
    with pytest.raises(DTypeError, match=message):
        check(subject)


def test_functions_are_known_by_the_number_of_their_arguments():
    def modifier(s, batch, head, qi, kj, strength):
        return s - strength * abs(qi - kj)

    assert check_score(modifier, options={"strength": np.array(0.5)})["derivatives"].status == "passed"
    assert check_score(lambda x, y, power=2: -((x - y) ** power)).passed
    assert check_normalizer(lambda row, sample, head, query, key: 1 / (1 + np.exp(-row))).passed


def test_a_score_of_minus_infinity_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (lambda s, b, h, i, j: np.where(i >= j, s, -np.inf), lambda s, b, h, i, j: s):
            assert not check_score(function).failed
