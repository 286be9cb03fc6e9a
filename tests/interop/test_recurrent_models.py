"""Trained recurrent models of packages, by the recipe of docs/recurrent.md: their own outputs, gradients, training."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fastattn.optim import Adam

# The folder is not on the path: beside it are sources of a package that may be tested as installed.
ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("benchmarks", ROOT / "benchmarks" / "__init__.py")
sys.modules.setdefault("benchmarks", importlib.util.module_from_spec(spec))

from benchmarks.frameworks.recurrent import Diacritizer, Pronouncer, words  # noqa: E402


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def diacritizer(torch):
    """The module of arabic-diacritizer."""
    pytest.importorskip("diacritize", reason="arabic-diacritizer is not installed")
    return pytest.importorskip("diacritize.baseline.model").BiLSTMDiacritizer.from_pretrained()


@pytest.fixture(scope="module")
def pronouncer(torch):
    """The module of g2p-fa."""
    return pytest.importorskip("g2p_fa", reason="g2p-fa is not installed").G2P_Fa().model.eval()


@pytest.fixture(params=["diacritizer", "pronouncer"])
def task(request, torch):
    """A module, the class of ours, inputs with what is wanted, and the loss of the module's own code on these."""
    theirs, cross_entropy = request.getfixturevalue(request.param), torch.nn.functional.cross_entropy
    if request.param == "diacritizer":
        rng = np.random.default_rng(2)
        ours, batch = Diacritizer, (rng.integers(4, 54, (4, 23)), rng.integers(0, 15, (4, 23)))
    else:
        ours, batch = Pronouncer, (words(8), np.minimum(words(8), 32))
    given, wanted = map(torch.from_numpy, batch)

    def loss():
        theirs.zero_grad()
        if ours is Diacritizer:
            found = cross_entropy(theirs(given).flatten(0, 1), wanted.flatten())
        else:  # the right sounds are known up to each
            found = theirs(given.T, wanted.T, teacher_forcing_ratio=1)[1:].flatten(0, 1)
            found = cross_entropy(found, wanted.T[1:].flatten(), ignore_index=0)
        found.backward()
        return float(found.detach())

    return theirs, ours, batch, loss


def texts(count, tokens, longest, seed):
    """Random ids of tokens, in groups of one length, so that no padding is read by code that does not mask it."""
    rng = np.random.default_rng(seed)
    for _ in range(count // 20):
        yield rng.integers(4, tokens, (20, int(rng.integers(1, longest))))


def test_arabic_diacritizer_gives_its_own_labels_on_1000_texts(torch, diacritizer):
    ours = Diacritizer(diacritizer.state_dict())
    for ids in texts(1000, 54, 60, seed=1):
        with torch.no_grad():
            expected = diacritizer(torch.from_numpy(ids)).numpy()
        found = ours.logits(ids)
        assert np.abs(found - expected).max() < 1e-3  # theirs is 3e-4 from its own float64
        top = np.sort(expected, axis=-1)
        clear = top[..., -1] - top[..., -2] > 2e-3  # where rounding cannot decide
        assert (found.argmax(-1) == expected.argmax(-1))[clear].all()


def test_gradients_of_all_parameters_are_those_of_autograd(task):
    theirs, kind, batch, loss = task
    ours = kind(theirs.state_dict())
    assert ours.gradients(*batch) == pytest.approx(loss(), rel=1e-5)
    # Gradients go where the parameters do. PyTorch's LSTM has its bias twice, with the gradient of ours each time.
    own = kind({name: one.grad for name, one in theirs.named_parameters()}).parameters()
    assert len(own) == sum("bias_hh" not in name for name, _ in theirs.named_parameters())
    for name, one in ours.parameters().items():
        expected = own[name].value / (2 if ".layers." in name and name.endswith(".b") else 1)
        apart = np.abs(one.gradient - expected).max()
        assert apart < 1e-4 * np.abs(expected).max() + 1e-7, (name, apart)


def test_training_further_is_that_of_pytorch(task, torch):
    theirs, kind, batch, loss = task
    before = {name: state.clone() for name, state in theirs.state_dict().items()}
    ours = kind(before)
    # PyTorch has the bias of an LSTM twice, which trains it at twice the rate: one of both stays as it is.
    trained = [one for name, one in theirs.named_parameters() if "bias_hh" not in name]
    optimizer, adam = torch.optim.Adam(trained, 1e-4), Adam(ours.parameters(), rate=1e-4)
    losses = []
    for _ in range(3):
        losses.append((ours.step(adam, *batch), loss()))
        optimizer.step()
    theirs.load_state_dict(before)
    found, expected = np.transpose(losses)
    assert np.allclose(found, expected, rtol=1e-4)
    assert found[-1] < 0.95 * found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read as on Linux")
@pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="sanitizers need memory of their own")
def test_labels_of_2000_letters_take_no_memory_of_letters_by_letters(run_python):
    code = "import sys; sys.path.append(sys.argv[1]); from benchmarks.models import memory; memory()"
    found = int(run_python("-c", code, str(ROOT)).stdout)
    assert 2000 * 512 * 4 / 2**20 < found <= 50  # MB; scores alone would be 16, what is within them 8192


def test_g2p_fa_writes_its_own_sounds_for_1000_words(torch, pronouncer):
    ours, ids = Pronouncer(pronouncer.state_dict()), words(1000)
    with torch.no_grad():
        expected = pronouncer(torch.from_numpy(ids.T.copy()), torch.ones(30, 1000, dtype=torch.long), 0)
    expected = expected[1:].argmax(-1).numpy().T
    assert (ours.write(ids, 29) == expected).all()
