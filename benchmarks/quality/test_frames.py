"""Models that read frames: gradients, and the scripts on made-up sounds and drawings in the format of the real ones."""

import io
import json
import tarfile
import wave

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig
from fastattn.seq2seq.text.vocabulary import EOS
from fastattn.testing.arrays import assigned

from . import digits, drawings, frames
from .test_scripts import run_twice

TABLE = np.concatenate([np.zeros((1, 3)), np.random.default_rng(5).standard_normal((40, 3))])


def test_gradients_of_separate_frames():
    rng = np.random.default_rng(0)
    layer = frames.Separate(3, 4, rng=rng, dtype=np.float64)
    x, lengths = rng.standard_normal((2, 5, 3)), np.array([5, 2])
    y, last, backward = layer.vjp(x, None, lengths)
    assert np.allclose(last[1], y[1, :2].mean(axis=0))
    dy, d_last = rng.standard_normal(y.shape), rng.standard_normal(last.shape)
    (dx,) = backward(dy, d_last)

    def loss():
        y, last = layer.forward(x, None, lengths)
        return (y * dy).sum() + (last * d_last).sum()

    values, loss = assigned({"w": layer.affine.w}, loss)
    for array, gradient in ((x, dx), (values["w"], layer.affine.w.gradient)):
        for index in np.ndindex(array.shape):
            losses = []
            for sign in (1, -1):
                array[index] += sign * 1e-6
                losses.append(loss())
                array[index] -= sign * 1e-6
            assert gradient[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("mechanism", [None, {"name": "location_sensitive", "filters": 2, "filter_size": 3}])
def test_a_step_follows_the_gradient(separate, mechanism):
    model = _reader(separate, mechanism)
    batch = _samples().batch([0, 1])
    loss, _, backward = model.loss_vjp(batch, seeds=np.array([1, 2], np.uint64))
    backward(1.0)
    parameters = model.parameters()
    assert parameters["source_embedding.project.w"].gradient.any()
    square = sum(float((each.gradient.astype(np.float64) ** 2).sum()) for each in parameters.values())
    for each in parameters.values():
        with each.edit() as value:
            value -= np.float32(1e-3) * each.gradient
    assert model.loss(batch)[0] == pytest.approx(loss - 1e-3 * square, abs=2e-4 * square)


@pytest.mark.parametrize("separate", [False, True])
def test_a_sample_alone_has_the_same_bits(separate):
    model, samples = _reader(separate), _samples()
    together = model.teacher_forcing(samples.batch([0, 1]))
    for row in range(2):
        alone = model.teacher_forcing(samples.batch([row]))
        for whole, part in zip(together, alone):
            index = tuple(slice(size) for size in part[0].shape)
            assert np.array_equal(whole[row][index], part[0])


def test_a_folder_with_another_configuration_is_refused(tmp_path):
    def fit(rate):
        config = _config(rate=rate)
        model = frames.Reader(config, _features(), len(digits.VOCABULARY))
        return frames.fit(config, tmp_path, model, digits.VOCABULARY, (_samples(), _samples()), "")

    assert fit(0.01).steps == 4
    with pytest.raises(frames.CheckpointError, match="another configuration"):
        fit(0.02)


def test_digits(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    _write_sounds(tmp_path / "data")
    found = run_twice(digits, tmp_path / "data", tmp_path, "--plot", str(tmp_path / "digits.png"))
    assert len(found["rows"]) == 2 * len(digits.TESTED)
    out = capsys.readouterr().out
    assert "| digit error rate, % | 4 digits | 8 digits | 16 digits | 24 digits | 48 digits |" in out
    assert "| largest weight inside of its digit, % |" in out
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_strings_of_digits(tmp_path):
    _write_sounds(tmp_path)
    recordings = digits.read(tmp_path)
    assert len(recordings) == 2 * 10 * 12 and next(iter(recordings)) == ("ann", 0, 0)
    used = {}
    for part in digits.PARTS:
        lengths = []
        for string in digits.join(recordings, part, (3, 8), 1):
            lengths.append(len(string))
            for digit, samples in string:
                used.setdefault(samples.tobytes(), []).append((part, digit))
        assert set(lengths) <= set(range(3, 9))
    assert all(len(times) == 1 for times in used.values())  # no recording twice, nor in two parts
    strings = digits.prepare(recordings, "test", (4, 4), 1)
    for numbers, target, ends in zip(strings.samples.frames, strings.samples.targets, strings.ends):
        assert len(target) == 5 and target[-1] == EOS and len(ends) == 4
        assert 0 <= ends[-1] - len(numbers) < 2  # the last frame may need more sound than there is
    digits.normalise([strings])
    assert not strings.table[0].any() and np.allclose(strings.table[1:].mean(axis=0), 0, atol=1e-4)


def test_mel_bands_cover_the_spectrum():
    bands = digits.mel_bands()
    assert bands.shape == (129, 26) and bands.max() <= 1
    assert np.allclose(bands[8:115].sum(axis=1), 1, atol=1e-5)  # between the first middle and the last
    tone = np.sin(2 * np.pi * 1000 * np.arange(2000) / digits.RATE).astype(np.float32)
    frame = digits.log_mel(tone, bands)[2].reshape(digits.STACK, digits.BANDS)
    assert (bands[32].argmax() == frame.argmax(axis=1)).all()  # 1000 Hz is point 32 of the spectrum


def test_attention_inside_of_a_digit():
    weights = np.eye(6)[[0, 2, 2, 5]]
    assert digits.inside(weights, np.array([1.5, 2.5, 4.0, 6.0])).tolist() == [True, True, True, True]
    assert digits.inside(weights, np.array([0.5, 2.0, 3.0, 4.0])).tolist() == [True, False, True, False]


def test_drawings(tmp_path, capsys):
    _write_drawings(tmp_path / "data")
    found = run_twice(drawings, tmp_path / "data", tmp_path)
    assert len(found["rows"]) == 2 * len(drawings.SHOWN)
    assert "| % of steps | positions | no positions | random cell | random cell with ink |" in capsys.readouterr().out


def test_cells_of_a_path():
    points = np.array([[3, 3, 0, 0], [3, 31, 5, 0], [101, 101, 9, 1], [118, 101, 9, 1]], np.float32)
    assert drawings.cells(points).tolist() == [0, 15, 30, 45, 60, 14 * 15 + 14]


def test_windows_of_cells(tmp_path):
    _write_drawings(tmp_path)
    found = drawings.read(tmp_path)
    features = found.features(None)
    cell = np.array([[0, 1 + 2 * drawings.CELLS + 15 * 3 + 4]])
    empty, window = features.look_up(cell)[0]
    assert not empty.any()
    assert np.array_equal(window.reshape(21, 21), found.pictures[2, 14:35, 21:42])
    corner = features.look_up(np.array([1 + 2 * drawings.CELLS]))[0].reshape(21, 21)
    assert not corner[:7].any() and np.array_equal(corner[7:, 7:], found.pictures[2, :14, :14])


def test_places_of_the_pen():
    path, peaks = np.array([0, 16, 17, 90]), np.array([0, 17, 32])
    found = drawings.places(path, peaks)
    assert found["now"].tolist() == [True, False, False] and found["next"].tolist() == [False, True, False]
    assert found["near now"].tolist() == [True, True, True] and found["near next"].tolist() == [True, True, False]
    places = drawings.grid_places(16)
    assert len(np.unique(places.round(3), axis=0)) == drawings.CELLS


def _samples():
    return frames.Samples([np.arange(1, 12), np.arange(20, 25)], [np.array([5, 6, 4, EOS]), np.array([9, EOS])])


def _features():
    return frames.Features(lambda numbers: TABLE.astype(np.float32)[numbers], 3)


def _config(mechanism=None, rate=0.001):
    return Config(
        model=BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8, mechanism=mechanism),
        training=TrainingConfig(epochs=0, max_steps=4, max_length=30, tokens_per_batch=40, rate=rate),
    )


def _reader(separate, mechanism=None):
    return frames.Reader(_config(mechanism), _features(), len(digits.VOCABULARY), separate=separate)


def _write_sounds(folder):
    """Write recordings of two speakers, ten digits, twelve times each: tones of any length."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "recordings.tar.gz", "w:gz") as archive:
        for speaker in ("ben", "ann"):
            for digit in range(10):
                for number in range(12):
                    times = np.arange(rng.integers(1200, 2000)) / digits.RATE
                    sound = 9000 * np.sin(2 * np.pi * 300 * (digit + 1) * times) + rng.normal(0, 300, len(times))
                    data = io.BytesIO()
                    with wave.open(data, "wb") as file:
                        file.setparams((1, 2, digits.RATE, 0, "NONE", ""))
                        file.writeframes(sound.astype("<i2").tobytes())
                    member = tarfile.TarInfo(f"recordings/{digit}_{speaker}_{number}.wav")
                    member.size = len(data.getvalue())
                    archive.addfile(member, io.BytesIO(data.getvalue()))


def _write_drawings(folder):
    """Write drawings of twenty people, two each: one line and another."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    pictures, points = [], []
    for _ in range(40):
        ends = rng.uniform(0, 104, (2, 2, 2))
        path = np.concatenate([np.linspace(*stroke, 30) for stroke in ends])
        picture = np.zeros((105, 105), np.uint8)
        picture[path[:, 1].round().astype(int), path[:, 0].round().astype(int)] = 1
        pictures.append(picture)
        points.append(np.column_stack([path, np.arange(60), np.arange(60) // 30]).astype(np.float32))
    np.savez(
        folder / "omniglot_small1.npz", images=np.packbits(pictures, axis=-1), points=np.concatenate(points),
        offsets=60 * np.arange(41), drawer=np.arange(40) // 2 + 1,
    )  # fmt: skip


def test_results_are_written_with_their_settings(tmp_path):
    _write_drawings(tmp_path / "data")
    run_twice(drawings, tmp_path / "data", tmp_path, "--models", "places")
    [result] = (tmp_path / "runs").glob("*/result.json")
    asked = json.loads(result.read_text())["asked"]
    assert asked["model"] == "places" and asked["config"]["model"]["hidden"] == 16
