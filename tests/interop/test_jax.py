"""JAX: the same numbers as its own attention and the same bits as ours, compiled, differentiated and mapped."""

import functools

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import fastattn  # noqa: E402
from fastattn import ArgumentError, DTypeError, ShapeError, UnsupportedError, scores  # noqa: E402
from fastattn._kernels import core  # noqa: E402
from fastattn.interop.jax import attention, dot_product_attention, problem  # noqa: E402

B, T, S, N, H = 2, 5, 7, 4, 8


def arrays(*shapes, dtype=np.float32):
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def qkv(queries=T, keys=S, key_heads=N, lead=(B,), dtype=np.float32):
    return arrays((*lead, queries, N, H), *[(*lead, keys, key_heads, H)] * 2, dtype=dtype)


MASK = np.random.default_rng(2).random((B, 1, T, S)) < 0.7
MASK[..., 0] = True
BIAS = np.random.default_rng(3).normal(size=(1, N, T, S)).astype(np.float32)
LENGTHS = np.array([6, 3], np.int32)
CASES = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "mask": {"mask": MASK},
    "bias": {"bias": BIAS},
    "bias of keys": {"bias": BIAS[:, :1, :1]},
    "lengths": {"key_value_seq_lengths": LENGTHS},
    "window": {"local_window_size": 2},
    "sides": {"local_window_size": (3, 1), "is_causal": True},
    "groups": {"key_heads": 2},
    "all": {"key_heads": 2, "mask": MASK, "bias": BIAS, "key_value_seq_lengths": LENGTHS + 1, "scale": 0.5},
}


def close(found, right, bound=1e-5):
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(mine, theirs, bound, bound)


def same(found, right):
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_jax(options):
    given = dict(zip(("query", "key", "value"), qkv(key_heads=options.get("key_heads", N))))
    fixed = {name: one for name, one in options.items() if name not in ("bias", "key_heads")}
    given |= {name: one for name, one in options.items() if name == "bias"}

    def loss(function, given):
        context, lse = function(**given, **fixed, return_residual=True)
        return jnp.sum(jnp.sin(context)), (context, lse)

    found, right = (
        jax.jit(jax.value_and_grad(functools.partial(loss, function), has_aux=True))(given)
        for function in (dot_product_attention, jax.nn.dot_product_attention)
    )
    close(found, right, 2e-5)


def test_three_axes_and_lengths_of_queries():
    query, key, value = qkv(lead=())
    assert dot_product_attention(query, key, value).shape == (T, N, H)
    context, lse = dot_product_attention(query, key, value, return_residual=True)
    close((context, lse), jax.nn.dot_product_attention(query, key, value, return_residual=True))
    query, key, value = qkv()
    lengths = np.array([2, 5], np.int32)
    for mask in (None, MASK):
        context = dot_product_attention(query, key, value, mask=mask, query_seq_lengths=lengths)
        right = dot_product_attention(query, key, value, mask=mask)
        assert not context[0, 2:].any()
        same((context[0, :2], context[1]), (right[0, :2], right[1]))


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_bits_are_those_of_attention(axes):
    query, key, value = (x.swapaxes(1, 2)[(0,) * (4 - axes)] for x in qkv())
    mask = MASK[(0,) * (4 - axes)] if axes != 3 else MASK[:, 0][:1]
    query, key, value = (x[:, 0] if axes == 3 and x.ndim == 4 else x for x in (query, key, value))
    options = {"mask": mask, "window": (3, 2), "causal": "bottom_right", "return_weights": True, "return_lse": True}
    right, backward = fastattn.attention_vjp(query, key, value, **options)
    found, pullback = jax.vjp(lambda *given: tuple(attention(*given, **options)), query, key, value)
    same(found, tuple(right))
    d = [np.ones_like(x) for x in right]
    same(pullback(tuple(d)), tuple(backward(d[0], d_weights=d[1], d_lse=d[2]))[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_and_dropout(dtype):
    query, key, value = (x[:, :, 0] for x in qkv(dtype=dtype))
    v, alpha = np.linspace(-1, 1, H, dtype=dtype), np.full(1, 1.4, dtype)
    options = {"dropout": 0.3, "seed": 5, "key_lengths": LENGTHS}
    with jax.enable_x64(dtype == np.float64):
        found, pullback = jax.vjp(
            lambda v: attention(query, key, value, score={"name": "additive", "v": v, "activation": "relu"}, **options),
            v,
        )
        right, backward = fastattn.attention_vjp(
            query, key, value, score=scores.Additive(v, activation="relu"), **options
        )
        same(found, right)
        same(pullback(found), [backward(right).score["v"]])
        entmax = {"name": "entmax", "alpha": alpha}
        found, pullback = jax.vjp(lambda a: attention(query, key, value, normalizer={**entmax, "alpha": a}), alpha)
        right, backward = fastattn.attention_vjp(query, key, value, normalizer=fastattn.normalizers.Entmax(alpha=alpha))
        same(found, right)
        same(pullback(found), [backward(right).normalizer["alpha"]])


def test_keys_of_jax_are_seeds():
    query, key, value = (x[:, :, 0] for x in qkv())
    one = functools.partial(attention, query, key, value, dropout=0.5)
    same(one(seed=jax.random.key(3)), one(seed=jax.random.PRNGKey(3)))
    assert (np.asarray(one(seed=jax.random.key(3))) != one(seed=jax.random.key(4))).any()
    keys = jax.random.split(jax.random.key(1), B)
    of_samples = one(seed=keys)
    turned = attention(query[::-1], key[::-1], value[::-1], dropout=0.5, seed=keys[::-1])
    same(of_samples, turned[::-1])


def test_a_scale_may_be_traced():
    query, key, value = qkv()
    scale = jnp.float32(0.3)

    def loss(scale, attend):
        return (attend(query, key, value, scale=scale) ** 2).sum()

    both = dot_product_attention, jax.nn.dot_product_attention
    found, theirs = (jax.jit(jax.value_and_grad(functools.partial(loss, attend=one)))(scale) for one in both)
    np.testing.assert_allclose(found, theirs, rtol=1e-5)
    with pytest.raises(DTypeError, match="scale: "):
        dot_product_attention(query, key, value, scale=jnp.ones(3))
    with pytest.raises(DTypeError, match="multiply query"):
        jax.jit(lambda s: attention(query, key, value, scale=s))(scale)


def test_dropout_of_all_weights():
    query, key, value = (jnp.asarray(x[:, :, 0]) for x in qkv())
    found = jax.jit(functools.partial(attention, dropout=1.0, return_weights=True))(query, key, value)
    same(found.context, jnp.zeros(query.shape[:-1] + value.shape[-1:]))
    same(found.weights, attention(query, key, value, return_weights=True).weights)
    assert not jax.grad(lambda q: attention(q, key, value, dropout=1.0).sum())(query).any()


def check_gradients(function, given):
    with jax.enable_x64(True):
        check_grads(function, given, order=1, modes=("rev",), atol=1e-6, rtol=1e-6)


def test_gradients_by_differences():
    given = [*qkv(dtype=np.float64), BIAS.astype(np.float64)]
    check_gradients(functools.partial(dot_product_attention, is_causal=True, return_residual=True), given)
    query, key, value = (x[:, :, 0] for x in given[:3])
    v = np.linspace(-1, 1, H)

    def additive(*given):
        return tuple(attention(*given[:3], score={"name": "additive", "v": given[3]}, return_weights=True))[:2]

    check_gradients(additive, [query, key, value, v])


@pytest.mark.parametrize("axes", [(0, 0, 0), (1, 1, 1), (0, None, None), (None, 0, 0)])
def test_mapped_calls_have_the_bits_of_single_ones(axes):
    given = [np.moveaxis(x, 0, 0 if axis is None else axis) for x, axis in zip(qkv(lead=(3, B)), axes)]
    given = [x[0] if axis is None else x for x, axis in zip(given, axes)]

    def gradients(query, key, value):
        context, pullback = jax.vjp(functools.partial(dot_product_attention, mask=MASK, bias=BIAS), query, key, value)
        return context, pullback(context)

    found = jax.jit(jax.vmap(gradients, axes))(*given)
    for i in range(3):
        single = [x if axis is None else np.moveaxis(x, axis, 0)[i] for x, axis in zip(given, axes)]
        same(jax.tree.map(lambda x, i=i: x[i], found), gradients(*single))


def test_mapped_masks_seeds_and_parameters():
    query, key, value = (x[:, :, :, 0] for x in qkv(lead=(3, B)))
    masks = np.random.default_rng(4).random((3, T, S)) < 0.8
    vs, seeds = arrays((3, H))[0], jax.random.key_data(jax.random.split(jax.random.key(0), 3))
    lengths = np.array([[7, 2], [1, 5], [4, 4]], np.int32)

    def one(query, key, value, mask, v, seed, lengths):
        score = {"name": "additive", "v": v}
        return attention(query, key, value, mask=mask, score=score, dropout=0.2, seed=seed, key_lengths=lengths)

    given = (query, key, value, masks, vs, seeds, lengths)
    found = jax.vmap(jax.vmap(one, (0, 0, 0, None, None, None, 0)))(*(x[:, :, None] if i < 3 else x for i, x in
        enumerate(given[:6])), lengths[..., None])  # fmt: skip
    assert found.shape == (3, B, 1, T, H)
    same(jax.vmap(one)(*given), [np.stack([one(*(x[i] for x in given)) for i in range(3)])])
    lengths_alone = jax.vmap(lambda q, k, v, n: attention(q, k, v, key_lengths=n))(query, key, value, lengths)
    same(lengths_alone[1], attention(query[1], key[1], value[1], key_lengths=lengths[1]))


def test_the_forward_pass_is_computed_once(monkeypatch):
    calls = []
    forward = problem.attention_forward
    monkeypatch.setattr(problem, "attention_forward", lambda *a, **o: calls.append(1) or forward(*a, **o))
    given = qkv()  # with a bias, which the compiled handlers do not take
    loss = jax.jit(jax.grad(lambda *given: jnp.sum(dot_product_attention(*given, bias=BIAS) ** 2), (0, 1, 2)))
    jax.block_until_ready(loss(*given))
    assert len(calls) == 1


PLAIN = {
    "plain": {},
    "dot": {"score": "dot", "return_lse": True},
    "scale": {"scale": 0.3, "causal": "bottom_right"},
    "masked": {"mask": MASK, "key_lengths": LENGTHS, "window": (3, None), "return_lse": True},
    "mask of keys": {"mask": MASK[:1, :, :1], "causal": "top_left", "window": (2, 1)},
}


@pytest.mark.skipif(not hasattr(core, "_C_API"), reason="kernels in Numba are called by Python")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
def test_plain_calls_need_no_interpreter(options, dtype, monkeypatch):
    monkeypatch.setattr(problem.Problem, "of", None)  # a handler in Python would fail
    query, key, value = (x.swapaxes(1, 2) for x in qkv(key_heads=2, dtype=dtype))
    lse = options.get("return_lse", False)
    right, backward = fastattn.attention_vjp(query, key, value, **options)
    with jax.enable_x64(dtype == np.float64):
        found, pullback = jax.vjp(jax.jit(lambda *given: tuple(attention(*given, **options)) if lse else
                                          (attention(*given, **options),)), query, key, value)  # fmt: skip
        same(found, tuple(right) if lse else right)
        d = [np.cos(x) for x in jax.tree.leaves(found)]
        same(pullback((d[0], None, d[1]) if lse else (d[0],)), backward(d[0], d_lse=d[1] if lse else None)[:3])
        if not {"score", "mask"} & options.keys() and "causal" not in options:
            third = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (query, key, value)]
            found, pullback = jax.vjp(jax.jit(dot_product_attention), *third)
            same(found.swapaxes(1, 2), right)
            gradients = pullback(np.ascontiguousarray(d[0].swapaxes(1, 2)))
            same([x.swapaxes(1, 2) for x in gradients], backward(d[0])[:3])


def test_what_plain_calls_leave_to_the_interpreter():
    """Gradients that overflow on their way, and lengths of many samples in few bits."""
    x = np.ones((1, 1, 3, 4), np.float32)
    value, d = np.full_like(x, 1e30), np.full_like(x, 1e20)
    _, backward = fastattn.attention_vjp(x, x, value)
    _, pullback = jax.vjp(attention, x, x, value)
    same(pullback(d), backward(d)[:3])
    assert np.isfinite(np.asarray(pullback(d)[2])).all()
    many, lengths = np.ones((300, 2, 4), np.float32), np.ones(300, np.int32)
    same(attention(many, many, many, key_lengths=lengths), many)


def test_inside_of_loops_and_checkpoints():
    query, key, value = (x[:, :, 0] for x in qkv(queries=S))

    @jax.checkpoint
    def layer(x, _):
        return x + attention(x, key, value), None

    def loss(x):
        return jnp.sum(jax.lax.scan(layer, x, None, length=3)[0] ** 2)

    def by_hand(x):
        for _ in range(3):
            x = x + attention(x, key, value)
        return jnp.sum(x**2)

    close(jax.jit(jax.grad(loss))(query), jax.grad(by_hand)(query))


def test_large_arrays_do_not_wait_for_each_other():
    given = arrays(*[(4, 256, N, 64)] * 3)
    step = jax.jit(lambda x, k, v: dot_product_attention(x, k, v) + dot_product_attention(k, x, v))
    found = [step(*given) for _ in range(20)]
    same(np.asarray(found[-1]), found[0])


def test_what_is_not_read_may_be_nan():
    query, key, value = (x[:, :, 0] for x in qkv())
    spoilt = [x.copy() for x in (key, value)]
    for x in spoilt:
        x[1, 3:] = np.nan
    same(attention(query, *spoilt, key_lengths=LENGTHS), attention(query, key, value, key_lengths=LENGTHS))
    assert not np.asarray(attention(query, *spoilt, mask=np.zeros((T, S), bool))).any()


def own_form(query, key, value, bias, v):
    return dot_product_attention(query, key, value, bias, is_causal=True, return_residual=True)


def with_weights(query, key, value, bias, v):
    score = {"name": "additive", "v": v}
    found = attention(query, key, value, score=score, bias=bias, return_weights=True)
    return found.context, found.weights


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", [own_form, with_weights])
def test_half_types_are_computed_with_in_float32_and_rounded_once(function, dtype):
    half = [jnp.asarray(x, dtype) for x in (*qkv(N, N), *arrays((1, N, N, N), (H,)))]
    wide = [x.astype(np.float32) for x in half]
    found, pull = jax.vjp(jax.jit(function), *half)
    right, pull_right = jax.vjp(jax.jit(function), *wide)
    d = [jnp.cos(x) for x in found]
    gradients, expected = pull(tuple(d)), pull_right(tuple(x.astype(np.float32) for x in d))
    for mine, theirs in zip((*found, *gradients), (*right, *expected), strict=True):
        assert mine.dtype == dtype
        same(mine, theirs.astype(dtype))
    assert attention(*half[:3], return_lse=True).lse.dtype == np.float32


def test_lists_are_arrays():
    query, key, value = qkv()
    lengths = LENGTHS.tolist()
    right = dot_product_attention(query, key, value, key_value_seq_lengths=LENGTHS)
    same(dot_product_attention(query.tolist(), key, value, key_value_seq_lengths=lengths), right)
    ours = [x.swapaxes(1, 2) for x in (query, key, value)]
    same(attention(*ours, key_lengths=lengths), right.swapaxes(1, 2))
    same(jax.jit(lambda n: attention(*ours, key_lengths=[n, 3]))(6), right.swapaxes(1, 2))
    same(attention(*(x[0, 0] for x in ours), key_lengths=6), right[0, :, 0])
    with pytest.raises(DTypeError, match=r"key_lengths: expected an array, got list .*\nHint: pass jnp\.asarray"):
        attention(*ours, key_lengths=[[1, 2], [3]])


def test_functions_are_refused():
    ours = [x[:, :, 0] for x in qkv()]
    with pytest.raises(UnsupportedError, match=r"score_mod: .*\nHint: pass bias="):
        attention(*ours, score_mod=lambda score, b, h, i, j: 2 * score)
    for mask in (lambda b, h, i, j: j <= i, fastattn.mask_mod(lambda b, h, i, j, n: j < n)(n=3)):
        with pytest.raises(UnsupportedError, match=r"mask: .*\nHint: pass its values as a bool array"):
            attention(*ours, mask=mask)


def test_wrong_calls():
    query, key, value = qkv()
    ours = [x[:, :, 0] for x in (query, key, value)]
    half = jnp.asarray(query, jnp.bfloat16)
    with pytest.raises(DTypeError, match=r"key: expected bfloat16, .*\nHint: pass x.astype\(jnp.bfloat16\)"):
        dot_product_attention(half, key, value)
    with pytest.raises(DTypeError, match=r"key: expected float32, .*\nHint: pass x.astype\(jnp.float32\)"):
        dot_product_attention(query, half, value)
    with pytest.raises(ShapeError, match="key: "):
        jax.jit(dot_product_attention)(query, key[:1], value)
    with pytest.raises(ShapeError, match="key_lengths: "):
        attention(*ours, key_lengths=LENGTHS[:1])
    with pytest.raises(DTypeError, match="mask: expected a bool array"):
        attention(*ours, mask=np.ones((T, S), np.float32))
    with pytest.raises(ArgumentError, match="causal"):
        attention(*ours, causal=True)
    with pytest.raises(ArgumentError, match="did you mean 'additive'"):
        attention(*ours, score="aditive")
    with pytest.raises(ArgumentError, match=r"score: .* a mapping"):
        attention(*ours, score=scores.Dot())
    with pytest.raises(ArgumentError, match="seed: "):
        attention(*ours, dropout=0.5)
    with pytest.raises(ArgumentError, match="dropout: "):
        attention(*ours, dropout=1.1, seed=1)
    with pytest.raises(UnsupportedError, match="return_lse"):
        attention(*ours, normalizer="sparsemax", return_lse=True)
    with pytest.raises(UnsupportedError, match="implementation"):
        dot_product_attention(query, key, value, implementation="cudnn")
    with pytest.raises(Exception, match=r"ArgumentError: key_lengths: expected values from 0 to 7"):
        jax.block_until_ready(jax.jit(attention)(*ours, key_lengths=LENGTHS + 5))


def test_an_array_of_a_device_is_refused(monkeypatch):
    query, key, value = map(jnp.asarray, qkv())

    class Device:
        platform = "gpu"

    monkeypatch.setattr(type(query), "devices", lambda self: {Device()})
    with pytest.raises(UnsupportedError, match=r"query: .* one on gpu\.\nHint: .*device_put"):
        dot_product_attention(query, key, value)
