"""The kit certifies user-written scores, and names what is wrong with one."""

import os

import numpy as np
import pytest

import fastattn
from fastattn.testing import check_score


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
