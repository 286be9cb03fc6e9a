"""How exact products of float32 are: words for the process, for a block of one thread, and for backward passes."""

import threading

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import layers, linear


@pytest.fixture(autouse=True)
def as_at_import():
    yield
    fastattn.set_float32_precision("highest")


def test_the_process_and_a_block_of_one_thread():
    seen = []
    fastattn.set_float32_precision("high")
    with fastattn.float32_precision("medium"):
        thread = threading.Thread(target=lambda: seen.append(fastattn.get_float32_precision()))
        thread.start()
        thread.join()
        with fastattn.float32_precision("highest"):
            seen.append(fastattn.get_float32_precision())
        seen.append(fastattn.get_float32_precision())
        fastattn.set_float32_precision("highest")
        seen.append(fastattn.get_float32_precision())
    assert [*seen, fastattn.get_float32_precision()] == ["high", "highest", "medium", "medium", "highest"]


def test_a_block_ends_with_an_exception():
    with pytest.raises(KeyError), fastattn.float32_precision("medium"):
        raise KeyError
    assert fastattn.get_float32_precision() == "highest"


@pytest.mark.parametrize("wrong", ["low", 3, None, np.ones(2)])
def test_other_words_are_refused(wrong):
    with pytest.raises(fastattn.ArgumentError, match=r"^precision: expected 'highest' or 'high' or 'medium'"):
        fastattn.set_float32_precision(wrong)
    with pytest.raises(fastattn.ArgumentError, match=r"^precision: "), fastattn.float32_precision(wrong):
        pass


def test_a_backward_pass_has_the_precision_of_its_forward_pass(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    monkeypatch.setattr(linear, "MOST_PARTS", 3)
    rng = np.random.default_rng(0)
    layer = layers.Linear(70, 40, rng=rng)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 70), (9, 40)))
    gradients = {}
    for precision in ("highest", "high", "medium"):
        with fastattn.float32_precision(precision):
            inside = layer.vjp(x)[1](dy)
            backward = layer.vjp(x)[1]
        gradients[precision] = backward(dy)
        assert same_bits(gradients[precision], inside)
    on_the_unit = fastattn.show_config(as_dict=True)["level"] in ("amx", "amx_model")
    assert same_bits(gradients["highest"], gradients["medium"]) is not on_the_unit


def test_only_float32_has_parts(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal((70, 40)), rng.standard_normal((9, 70))
    exact = linear.PackedWeights(w).matmul(x)
    with fastattn.float32_precision("medium"):
        assert same_bits(linear.PackedWeights(w).matmul(x), exact)
