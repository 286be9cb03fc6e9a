"""The Python blocks of the pages on frameworks run as they stand, and compute what the frameworks do.

The blocks of a page are one program, in an interpreter of its own, as frameworks change the process that they are in.
Before the first one stands here what a page takes as given, and after each what it is to have done.
"""

from importlib.util import find_spec

import documents
import pytest

pytestmark = pytest.mark.skipif(not documents.PAGES[1].exists(), reason="the documents are in the checkout only")

TORCH = (
    """
import types
import torch
from torch.nn.functional import scaled_dot_product_attention as theirs

torch.manual_seed(0)
B, H, T = 2, 4, 6
query, key, value = torch.randn(3, B, H, T, 8)
attn_mask, lengths, slopes = torch.randn(T, T), torch.tensor([T, 3]), torch.rand(H, requires_grad=True)
v, alpha = torch.randn(8, requires_grad=True), torch.tensor(1.5, requires_grad=True)
batch = x = torch.randn(B, T, 512)
old, triangle = torch.nn.MultiheadAttention(512, 8, batch_first=True), torch.ones(T, T, dtype=torch.bool).tril()
states, memory = torch.randn(B, T, 256), torch.randn(B, T, 512)


def model(batch):
    return types.SimpleNamespace(loss=old(batch, batch, batch, need_weights=False)[0].square().sum())


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def same(found, expected):
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
""",
    """
expected = model(batch).loss
same(loss, expected)
same(old.in_proj_weight.grad, torch.autograd.grad(expected, old.in_proj_weight)[0])
""",
    """
same(context, theirs(query, key, value, attn_mask.masked_fill(~triangle, -torch.inf)))
for found, expected in zip((output, weights), old(x, x, x)):
    same(found, expected)
""",
    """
last = torch.arange(T)[:, None] + (lengths - T)[:, None, None]  # that a query sees
same(context, theirs(query, key, value, (torch.arange(T) <= last)[:, None]).nan_to_num())
same(output.weights, (torch.tanh(query[..., None, :] + key[..., None, :, :]) @ v).softmax(-1))
same(output.context, output.weights @ value)
(output.context.square().sum() + sparse.square().sum()).backward()
assert v.grad.any() and alpha.grad != 0
""",
    """
bias = slopes[:, None, None] * (torch.arange(T)[:, None] - torch.arange(T))
expected = theirs(query, key, value, bias.masked_fill(~triangle, -torch.inf))
same(context, expected)
same(slopes.grad, torch.autograd.grad(expected.sum(), slopes)[0])
""",
    """
assert context.shape == (B, T, 512) and weights.shape == (B, T, T) and not weights[1, :, 3:].any()
""",
)
JAX = (
    """
import jax

query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 6, 4, 8))
lengths, v, alpha, parameters = jax.numpy.array([4, 3]), query[0, 0, 0], 1.5, query


def loss(parameters, attend=lambda *given, **options: fast.dot_product_attention(*given, **options)):
    return (attend(parameters, key, value, is_causal=True) ** 2).sum()


def same(found, expected):
    assert jax.numpy.allclose(found, expected, rtol=1e-4, atol=1e-5)
""",
    """
same(context, jax.nn.dot_product_attention(query, key, value, is_causal=True))
same(gradients, jax.grad(loss)(parameters, jax.nn.dot_product_attention))
""",
    """
expected = jax.nn.softmax(jax.numpy.tanh(query[..., None, :] + key[..., None, :, :]) @ v)
same(output.weights, expected)
same(output.context, expected @ value)
assert context.shape == sparse.shape == query.shape and not jax.numpy.array_equal(sparse, output.context)
""",
)
KERAS = (
    """
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32")
states = keras.Input((5, 16))
theirs = keras.Model(states, keras.layers.MultiHeadAttention(2, 8)(states, states, use_causal_mask=True))
theirs.save("model.keras")
""",
    """
assert output.shape == x.shape
""",
    """
assert any(type(layer) is MultiHeadAttention for layer in model.layers)
assert np.allclose(model.predict(x, verbose=0), theirs.predict(x, verbose=0), atol=1e-5)
""",
)
TRANSFORMERS = (
    """
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM

config = transformers.MarianConfig(
    d_model=16, vocab_size=40, pad_token_id=0, eos_token_id=1, decoder_start_token_id=2, forced_eos_token_id=None,
    encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
)
theirs, folder = transformers.MarianMTModel(config).eval(), "model"
theirs.save_pretrained(folder)
""",
    """
ids = torch.randint(3, 40, (2, 7))
found, expected = (one.eval()(input_ids=ids, decoder_input_ids=ids).logits for one in (model, theirs))
assert model.config._attn_implementation == "fastattn" and torch.allclose(found, expected, atol=1e-5)
""",
)
RECURRENT = (
    """
import numpy as np
import torch

ids = np.random.default_rng(0).integers(4, 41, (3, 9))
""",
    """
assert (labels == BiLSTMDiacritizer.from_pretrained()(torch.from_numpy(ids)).argmax(-1).numpy()).all()
""",
    """
given = torch.from_numpy(ids.T.copy()), torch.ones(30, len(ids), dtype=torch.long)
expected = G2P_Fa().model.eval()(*given, 0)[1:].argmax(-1).numpy()
assert (np.stack(written[1:]) == expected).all()
""",
)
PROGRAMS = {"torch": TORCH, "jax": JAX, "keras": KERAS, "transformers": TRANSFORMERS, "recurrent": RECURRENT}


def blocks(page):
    return documents.blocks(page, "python")


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("torch", ["torch"]), ("jax", ["jax"]), ("keras", ["torch", "keras"]), ("keras", ["jax", "keras"]),
        ("transformers", ["torch", "transformers"]), ("recurrent", ["torch", "diacritize", "g2p_fa"]),
    ],
)  # fmt: skip
def test_the_blocks_of_a_page_run(name, needed, run_python):
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    given, *after = PROGRAMS[name]
    pairs = zip(blocks(documents.ROOT / "docs" / f"{name}.md"), after, strict=True)
    program = "\n".join([given, *(text for pair in pairs for text in pair)])
    run_python("-c", program, KERAS_BACKEND=needed[0])


def test_all_pages_that_use_frameworks_are_run():
    found = {page.stem for page in documents.PAGES if any("fastattn.interop" in block for block in blocks(page))}
    assert found == set(PROGRAMS)
