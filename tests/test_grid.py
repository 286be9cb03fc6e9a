"""Feature grids: cells to places and back, positions in two dimensions, and attention over pictures of any size."""

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn._reference import positions as twins
from fastattn.errors import ArgumentError, DTypeError, FastattnError, ShapeError
from fastattn.grid import Grid
from fastattn.positions import Learned2D, Sinusoidal2D
from fastattn.testing.arrays import assigned, differences

EXTENTS = np.array([[3, 4], [2, 5], [1, 1], [4, 2], [0, 3]])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def padded(extents, width, dtype=np.float64, shape=None, hidden=np.nan):
    """Feature grids whose padding is `hidden`, the same cells whatever the shape."""
    grid = Grid(extents, shape)
    features = np.full((len(extents), *grid.shape, width), hidden, dtype)
    for b, (rows, columns) in enumerate(extents):
        features[b, :rows, :columns] = draw(rows, columns, width, dtype=dtype, seed=b)
    return grid, features


@DTYPES
@pytest.mark.parametrize("shape", [None, (4, 5), (7, 6)])
def test_every_cell_has_the_place_that_the_formula_says(dtype, shape):
    grid, features = padded(EXTENTS, 3, dtype, shape)
    memory = grid.flatten(features)
    assert memory.dtype == dtype and memory.shape == (5, 12, 3) and grid.lengths.tolist() == [12, 10, 1, 8, 0]
    expected, back = np.zeros_like(memory), np.zeros_like(features)
    for b, (rows, columns) in enumerate(EXTENTS):
        for i in range(rows):
            for j in range(columns):
                expected[b, i * columns + j] = back[b, i, j] = features[b, i, j]
    assert same_bits(memory, expected)
    memory[np.arange(12) >= grid.lengths[:, None]] = np.nan
    assert same_bits(grid.unflatten(memory), back)
    strided = np.asfortranarray(features.astype(dtype.__name__ if dtype is np.float32 else ">f8"))
    assert same_bits(grid.flatten(strided), expected)


def test_unflatten_is_the_gradient_of_flatten():
    grid, features = padded(EXTENTS, 2, hidden=0.0, shape=(5, 5))
    d_memory = draw(5, 12, 2, seed=9)
    measured = differences(lambda: (grid.flatten(features) * d_memory).sum(), features)
    np.testing.assert_allclose(grid.unflatten(d_memory), measured, atol=1e-8)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_maps_have_every_weight_in_its_cell(leading):
    grid = Grid(EXTENTS, (4, 6))
    weights = draw(5, *leading, 12)
    maps = grid.maps(weights)
    assert maps.shape == (5, *leading, 4, 6) and maps.flags.c_contiguous
    for b, (rows, columns) in enumerate(EXTENTS):
        own = weights[b, ..., : rows * columns].reshape(*leading, rows, columns)
        assert same_bits(maps[b, ..., :rows, :columns].copy(), own)
        assert np.count_nonzero(maps[b]) == own.size


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ShapeError, "extents: .*rows, columns", lambda: Grid(np.array([3, 4]))),
        (DTypeError, "extents", lambda: Grid(np.ones((2, 2)))),
        (ArgumentError, "extents: .*rows before columns", lambda: Grid(np.array([[3, 4]]), (4, 3))),
        (ArgumentError, "extents", lambda: Grid(np.array([[-1, 4]]))),
        (ShapeError, "features", lambda: Grid(EXTENTS).flatten(np.ones((5, 4, 4, 2)))),
        (DTypeError, "features", lambda: Grid(EXTENTS).flatten(np.ones((5, 4, 5, 2), int))),
        (ShapeError, "memory", lambda: Grid(EXTENTS).unflatten(np.ones((5, 20, 2)))),
        (ShapeError, "weights", lambda: Grid(EXTENTS).maps(np.ones((5, 2, 20)))),
        (ShapeError, "weights: .*what attention", lambda: Grid(EXTENTS).maps(np.ones(12))),
        (ArgumentError, "width", lambda: Sinusoidal2D(5)),
        (ShapeError, "x: ", lambda: Sinusoidal2D(4).add(np.ones((2, 3, 4), np.float32))),
        (DTypeError, "x: ", lambda: Sinusoidal2D(4).add(np.ones((2, 3, 3, 4)))),
        (ArgumentError, "at most 3 rows and 2 columns",
         lambda: Learned2D(4, rows=3, columns=2, rng=np.random.default_rng(0)).add(np.ones((1, 3, 3, 4), np.float32))),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(error, words, call):
    with pytest.raises(FastattnError, match=f"(?s){words}") as caught:
        call()
    assert isinstance(caught.value, error) and "\nHint: " in str(caught.value)


def test_nothing_is_a_grid_too():
    grid = Grid(np.empty((0, 2), int))
    assert grid.flatten(np.empty((0, 0, 0, 3))).shape == (0, 0, 3) and grid.maps(np.empty((0, 4, 0))).shape[:2] == (
        0,
        4,
    )


@DTYPES
@pytest.mark.parametrize("width", [2, 6, 8, 64])
def test_sinusoids_of_cells_are_those_of_the_twin(dtype, width):
    found = Sinusoidal2D(width, dtype=dtype).add(np.zeros((1, 5, 80, width), dtype))[0]
    for i in range(5):
        for j in (0, 1, 7, 79):
            room = 4 * np.finfo(dtype).eps + 1e-13  # angles, up to 79, are rounded
            np.testing.assert_allclose(found[i, j], twins.sinusoidal_2d(i, j, width), rtol=room, atol=room)
    small = Sinusoidal2D(width, dtype=dtype).add(np.zeros((2, 2, 3, width), dtype))
    assert same_bits(small[1], found[:2, :3].copy())


def test_learned_positions_add_their_rows_and_columns_and_have_gradients():
    learned = Learned2D(6, rows=4, columns=7, rng=np.random.default_rng(0), dtype=np.float64)
    x, d = draw(2, 3, 5, 6), draw(2, 3, 5, 6, seed=1)
    y = learned.add(x)
    for i, j in ((0, 0), (2, 4), (1, 3)):
        vector = np.concatenate([learned.rows.w.value[i], learned.columns.w.value[j]])
        assert same_bits(y[:, i, j].copy(), x[:, i, j] + vector)
    learned.add_vjp(d)
    values, loss = assigned(learned.parameters(), lambda: (learned.add(x) * d).sum())
    for name, parameter in learned.parameters().items():
        measured = differences(loss, values[name])
        np.testing.assert_allclose(parameter.gradient, measured, atol=1e-8, err_msg=name)
    learned.add_vjp(d)
    np.testing.assert_allclose(learned.rows.w.gradient[:3], 2 * d.sum(axis=(0, 2))[:, :3], rtol=1e-12)


def whole(extents, positions, variant, queries, shape=None, hidden=np.nan):
    """Contexts and maps of pictures, and the function from the gradient of the contexts to all gradients."""
    grid, features = padded(extents, 6, variant.dtype, shape, hidden)
    memory = grid.flatten(positions.add(features))
    output, backward = variant.vjp(queries, variant.prepare(memory, grid.lengths), return_weights=True)

    def back(d_context):
        d_queries, d_memory = backward(d_context)
        d_features = grid.unflatten(d_memory)
        positions.add_vjp(d_features)
        return d_queries, d_features

    return output.context, grid.maps(output.weights), back


def test_attention_over_pictures_has_the_bits_of_each_picture_alone():
    rng = np.random.default_rng(0)
    extents = EXTENTS[:4]
    positions = Learned2D(6, rows=9, columns=9, rng=rng)
    variant = fastattn.create("gated_additive", query_width=5, memory_width=6, width=7, rng=rng)
    queries, d = draw(4, 3, 5, dtype=np.float32), draw(4, 3, 6, dtype=np.float32, seed=1)
    context, maps, back = whole(extents, positions, variant, queries, (8, 9))
    d_queries, d_features = back(d)
    assert np.isfinite(positions.rows.w.gradient).all() and (positions.rows.w.gradient[:4] != 0).all()
    for b, (rows, columns) in enumerate(extents):
        one = slice(b, b + 1)
        features = padded(extents, 6, np.float32)[1]
        alone = Grid(extents[one])
        memory = alone.flatten(positions.add(features[one, :rows, :columns]))
        output, backward = variant.vjp(queries[one], variant.prepare(memory), return_weights=True)
        assert same_bits(output.context, context[one])
        assert same_bits(alone.maps(output.weights), maps[one, :, :rows, :columns].copy())
        alone_queries, alone_memory = backward(d[one])
        assert same_bits(alone_queries, d_queries[one])
        assert same_bits(alone.unflatten(alone_memory), d_features[one, :rows, :columns].copy())


def test_gradients_through_positions_and_grid_are_central_differences():
    rng = np.random.default_rng(0)
    positions = Learned2D(6, rows=5, columns=5, rng=rng, dtype=np.float64)
    variant = fastattn.create("additive", query_width=5, memory_width=6, width=7, rng=rng, dtype=np.float64)
    queries, d = draw(5, 2, 5), draw(5, 2, 6, seed=1)
    whole(EXTENTS, positions, variant, queries)[2](d)
    values, loss = assigned(positions.parameters(), lambda: (whole(EXTENTS, positions, variant, queries)[0] * d).sum())
    for name, parameter in positions.parameters().items():
        measured = differences(loss, values[name])
        np.testing.assert_allclose(parameter.gradient, measured, rtol=1e-6, atol=1e-8, err_msg=name)
