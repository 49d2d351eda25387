"""Data sets: what is loaded is what the files say, and every damaged file is refused by name."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from bench.data.datasets import load_data
from bench.data.npz_sets import NPZ_KEYS
from bench.errors import InvalidInput


def npz(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.random((6, 1, 5, 5)).astype(np.float32),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.random((3, 1, 5, 5)).astype(np.float32),
        "y_test": np.array([0, 1, 2]),
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return str(path)


def idx(folder, prefix, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
        (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "mnist"
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 20), ("t10k", 10)):
        idx(folder, prefix, rng.integers(0, 256, (count, 7, 6)), np.arange(count) % 10)
    return folder


def test_digits_are_the_same_split_every_time():
    first, second = load_data("digits", None), load_data("digits", None)
    assert first.digest == second.digest
    assert first.train.x[0].shape == (1347, 1, 8, 8)
    assert first.test.x[0].shape == (450, 1, 8, 8)
    assert first.input_shape == (1, 8, 8)
    assert first.train.x[0].dtype == np.float32
    assert (first.train.x[0].min(), first.train.x[0].max()) == (0.0, 1.0)
    assert np.bincount(first.test.y).min() >= 43


def test_no_digit_is_in_both_parts():
    data = load_data("digits", None)
    train = {image.tobytes() for image in data.train.x[0]}
    assert not [image for image in data.test.x[0] if image.tobytes() in train]


@pytest.mark.parametrize("place", ["", "mnist", "data/mnist"])
def test_idx_files_are_found_beside_below_and_under_data(idx_folder, tmp_path, place):
    root = tmp_path / "root"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    idx_folder.rename(root / place)
    data = load_data("mnist", root)
    assert data.train.x[0].shape == (20, 1, 7, 6)
    assert data.classes == 10
    assert data.train.x[0].max() <= 1.0
    assert data.test.y.tolist() == list(range(10))


def test_a_folder_of_both_sets_gives_each_its_own(tmp_path):
    for name, value in (("mnist", 10), ("fashion-mnist", 20)):
        for prefix in ("train", "t10k"):
            idx(tmp_path / name, prefix, np.full((10, 4, 4), value), np.arange(10))
    assert load_data("mnist", tmp_path).train.x[0].max() == pytest.approx(10 / 255)
    assert load_data("fashion-mnist", tmp_path).train.x[0].max() == pytest.approx(20 / 255)


def test_real_mnist_is_what_lecun_published(mnist):
    data = load_data("mnist", mnist)
    assert (data.train.x[0].shape, data.test.x[0].shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert np.bincount(data.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_without_a_folder_the_remedy_is_named():
    with pytest.raises(InvalidInput, match=r"--data FOLDER or set PRESSBENCH_DATA"):
        load_data("mnist", None)
    with pytest.raises(InvalidInput, match="known: digits, mnist"):
        load_data("mnits", None)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: b"no gzip at all", "not a gzip file"),
        (lambda raw: gzip.compress(b"\0\0\x08\x01" + gzip.decompress(raw)[4:]), "magic"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-5]), "header says"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b"x"), "more"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:9]), "magic"),
        (lambda raw: gzip.compress(struct.pack(">4I", 0x803, *(2**32 - 1,) * 3) + b"x"), "header says|truncated"),
    ],
)
def test_damaged_idx_files_are_named(idx_folder, damage, message):
    file = idx_folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InvalidInput, match=message) as caught:
        load_data("mnist", idx_folder)
    assert str(file) in str(caught.value)


def test_a_missing_label_file_is_named(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InvalidInput, match=r"t10k-labels-idx1-ubyte\.gz is missing"):
        load_data("mnist", idx_folder)


def test_an_npz_keeps_its_floats_and_scales_its_bytes(tmp_path):
    floats = load_data(npz(tmp_path / "a.npz", x_test=np.full((3, 1, 5, 5), -7.5)), None)
    assert floats.test.x[0].dtype == np.float32
    assert floats.test.x[0].min() == -7.5
    full = {"x_train": np.full((6, 1, 5, 5), 255, np.uint8), "x_test": np.full((3, 1, 5, 5), 51, np.uint8)}
    whole = load_data(npz(tmp_path / "b.npz", **full), None)
    assert (whole.train.x[0].max(), whole.test.x[0].max()) == (1.0, np.float32(0.2))
    flat = load_data(npz(tmp_path / "c.npz", x_train=np.ones((6, 9)), x_test=np.ones((3, 9))), None)
    assert (flat.input_shape, flat.classes) == ((9,), 3)


def test_arrays_of_the_other_byte_order_are_the_same_samples(tmp_path):
    ids = np.random.default_rng(0).integers(0, 9, (6, 4))
    arrays = {"x_train": ids, "x_test": ids[:3], "y_train": np.arange(6) % 3, "y_test": np.arange(3)}
    mine = load_data(npz(tmp_path / "a.npz", **{name: one.astype("<i8") for name, one in arrays.items()}), None)
    other = load_data(npz(tmp_path / "b.npz", **{name: one.astype(">i8") for name, one in arrays.items()}), None)
    assert mine.sample[0].dtype.str == other.sample[0].dtype.str
    assert mine.digest == other.digest


def test_the_digest_follows_the_content_not_the_name(tmp_path):
    first, same = load_data(npz(tmp_path / "a.npz"), None), load_data(npz(tmp_path / "b.npz"), None)
    other = load_data(npz(tmp_path / "c.npz", y_test=np.array([0, 1, 1])), None)
    assert first.digest == same.digest
    assert first.digest != other.digest


NAN = np.ones((6, 1, 5, 5), np.float32)
NAN[3, 0, 2, 2] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "y_test missing"),
        ({"x_train": NAN}, "x_train holds NaN"),
        ({"x_train": np.full((6, 1, 5, 5), np.inf)}, "x_train holds NaN or infinite"),
        ({"x_train": np.ones((6, 1, 5, 5, 5))}, r"x_train has shape \(6, 1, 5, 5, 5\)"),
        ({"x_train": np.ones((6, 3, 5))}, r"x_train has inputs of shape \(3, 5\)"),
        ({"x_train": np.ones((0, 1, 5, 5)), "y_train": np.zeros(0, int)}, "none of them 0"),
        ({"x_train": np.ones((6, 1, 5, 5), np.complex64)}, "x_train is complex64"),
        ({"x_train": np.ones((5, 1, 5, 5))}, "x_train has 5 examples, y_train 6"),
        ({"x_test": np.ones((3, 1, 6, 5))}, r"x_test \(1, 6, 5\)"),
        ({"y_train": np.zeros(6, int)}, "1 class, at least 2"),
        ({"y_train": np.array([0, 1, 5, 0, 1, 5])}, "every label 0..5"),
        ({"y_train": np.array([1, 2, 3, 1, 2, 3])}, "lacks 0; labels count from 0"),
        ({"x_train": np.ones((6, 1, 5, 5), np.uint8)}, "x_train is uint8, x_test float"),
        ({"y_train": np.array([-1, 0, 1, 2, 0, 1])}, "label -1"),
        ({"y_train": np.ones(6)}, "float64; wanted integers"),
        ({"y_train": np.ones((6, 3), int)}, r"y_train has shape \(6, 3\)"),
        ({"y_test": np.array([0, 1, 3])}, "y_test has label 3"),
        ({"y_test": np.array([{"a": 1}, 1, 2], dtype=object)}, "plain arrays"),
    ],
)
def test_a_wrong_npz_is_refused_with_its_key(tmp_path, changes, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        load_data(npz(tmp_path / "bad.npz", **changes), None)
    assert "bad.npz" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"\x80\x04K\x01.", b"\x93NUMPY"])
def test_what_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"broken\.npz"):
        load_data(str(path), None)


def test_a_truncated_npz_is_refused(tmp_path):
    path = tmp_path / "cut.npz"
    npz(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidInput, match=r"cut\.npz"):
        load_data(str(path), None)


def test_a_missing_npz_is_refused():
    with pytest.raises(InvalidInput, match="does not exist"):
        load_data("nowhere.npz", None)


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array(), r"is one \.npy array, not an \.npz"),
        (archive(dict.fromkeys(NPZ_KEYS, b"no array")), "x_train is not an array"),
        (archive({f"{key}.npy": b"\x93NUMPY\1\0\5\0{'d':" for key in NPZ_KEYS}), "cannot be read"),
    ],
)
def test_what_is_called_npz_and_is_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=rf"other\.npz.* {message}|other\.npz: {message}"):
        load_data(str(path), None)


@pytest.mark.parametrize(
    ("targets", "remedy"),
    [
        (np.array(list("abcabc")), r"np\.unique\(names, return_inverse=True\)"),
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], r"one-hot .* y\.argmax\(axis=1\)"),
        (np.array([[0], [1], [2], [0], [1], [2]]), r"y\[:, 0\]"),
        (np.linspace(0, 1, 6), "--task regression"),
    ],
)
def test_targets_that_are_no_labels_are_refused_with_what_makes_them_some(tmp_path, targets, remedy):
    with pytest.raises(InvalidInput, match=rf"y_train .*{remedy}"):
        load_data(npz(tmp_path / "a.npz", y_train=targets))


def test_values_beyond_float32_are_not_called_infinite(tmp_path, recwarn):
    with pytest.raises(InvalidInput, match="x_train holds values beyond float32: scale them"):
        load_data(npz(tmp_path / "a.npz", x_train=np.full((6, 1, 5, 5), 1e300)))
    assert not len(recwarn)


def test_arrays_that_are_not_used_are_told(tmp_path):
    assert load_data(npz(tmp_path / "a.npz", weights=np.zeros(3), y_val=np.zeros(3))).notes == (
        f"{tmp_path / 'a.npz'}: not used: weights, y_val",
    )
    assert load_data(npz(tmp_path / "b.npz")).notes == ()


def test_inputs_that_are_whole_numbers_in_one_part_and_floats_in_another_are_refused(tmp_path):
    """A network would be trained on one type and judged on another."""
    file = npz(tmp_path / "set.npz", x_train=np.ones((6, 1, 5, 5), np.int32))
    with pytest.raises(InvalidInput, match=r"x_train is int32, x_test float32: .* other whole numbers stay whole"):
        load_data(file)


def test_samples_to_test_with_that_are_among_those_to_train_with_are_counted_in_a_note(tmp_path):
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    file = npz(tmp_path / "set.npz", x_train=rows, x_test=np.concatenate([rows[:2], rows[:1] + 100]))
    assert load_data(file).notes == (
        f"{file}: 2 of 3 samples to test with are among those to train with: their score says nothing of new ones",
    )


@pytest.mark.parametrize(("copies", "notes"), [(0, 0), (40, 1)])
def test_samples_that_repeat_each_other_in_the_training_part_too_are_not_said_to_have_leaked(tmp_path, copies, notes):
    """Nine binary features have 512 rows: about half of other samples have been seen."""
    draw = np.random.default_rng(0).integers
    rows, labels = draw(0, 2, (400, 9)).astype(np.float32), draw(0, 2, 400)
    rows[300 : 300 + copies] = rows[:copies]
    parts = {"x_train": rows[:300], "y_train": labels[:300], "x_test": rows[300:], "y_test": labels[300:]}
    assert len(load_data(npz(tmp_path / "set.npz", **parts)).notes) == notes
