"""Data sets in folders: images by class, and memory-mapped arrays."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.datasets import load_data
from bench.data.image_folders import _count_copies
from bench.errors import InvalidInput


def images(folder, count=5, size=(8, 6), mode="RGB", classes=("cat", "ant")):
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(folder / name / f"{number}.png")
    return folder


def png_of_16_bits(file, size=(8, 6)):
    """Colours of 16 bits, which Pillow cannot write and reads as RGB of 8 bits."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", *size, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 6 * size[0]) * size[1]))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_images_by_class_are_read_as_they_are(tmp_path):
    for part in ("train", "test"):
        images(tmp_path / part)
    data = load_data(str(tmp_path))
    assert (data.input_shape, data.classes, len(data.train), len(data.test)) == ((3, 6, 8), 2, 10, 10)
    assert data.train.targets(slice(None)).tolist() == [0] * 5 + [1] * 5
    wanted = np.asarray(Image.open(tmp_path / "train" / "cat" / "2.png"), np.float32).transpose(2, 0, 1) / 255
    np.testing.assert_array_equal(data.train.inputs(np.array([7]))[0][0], wanted)


def test_a_folder_without_parts_is_split_by_class_and_says_so(tmp_path):
    first, second = load_data(str(images(tmp_path))), load_data(str(tmp_path))
    assert (len(first.train), len(first.test)) == (8, 2)
    assert first.digest == second.digest
    assert "split by class with seed 0, 8 images to train and 2 to test" in first.notes[1]


def test_the_label_of_each_class_is_told(tmp_path):
    (note, _) = load_data(str(images(tmp_path, classes=("2", "10", "1")))).notes
    assert note.endswith("sorted as text: 0 1, 1 10, 2 2")


@pytest.mark.parametrize(
    ("trained", "tested", "message"),
    [
        (("ant", "cat"), ("ant", "bee", "cat", "dog"), r"test: classes 'bee', 'dog' are not in .*train"),
        (("ant", "bee", "cat"), ("ant", "bee"), r"train: class 'cat' is not in .*test"),
        (("ant", "cat"), ("Ant", "cat"), r"test: class 'Ant' is not in .*train"),
    ],
)
def test_classes_to_test_that_are_not_those_to_train_are_named(tmp_path, trained, tested, message):
    images(tmp_path / "train", classes=trained)
    images(tmp_path / "test", classes=tested)
    with pytest.raises(InvalidInput, match=message):
        load_data(str(tmp_path))


def test_what_is_not_used_and_not_turned_is_told(tmp_path):
    for part in ("train", "test", "more"):
        images(tmp_path / part)
    turned = Image.Exif()
    turned[0x112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "train" / "ant" / "photo.jpg", exif=turned)
    notes = load_data(str(tmp_path)).notes
    assert [note for note in notes if "more/ is not used" in note]
    assert [note for note in notes if "1 images are read as stored, not turned as their EXIF" in note]


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_transparency_is_never_dropped_without_being_asked_to(tmp_path, mode):
    images(tmp_path)
    clear = {} if mode == "RGBA" else {"transparency": 0 if mode == "P" else (0, 0, 0)}
    Image.new(mode, (8, 6)).save(tmp_path / "ant" / "clear.png", **clear)
    with pytest.raises(InvalidInput, match=r"clear\.png has mode \w+A; .*write images\(folder='.*', channels=3\)"):
        load_data(str(tmp_path))
    assert load_data(f"images(folder='{tmp_path}', channels=3)").input_shape == (3, 6, 8)


def test_sizes_means_and_deviations_are_those_asked_for(tmp_path):
    text = f"images(folder='{images(tmp_path)}', size=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))"
    x = load_data(text).train.inputs(slice(0, 3))[0]
    assert x.shape == (3, 3, 4, 4)
    assert -1 <= x.min() < 0 < x.max() <= 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "ant" / "notes.txt").write_text("x"), r"notes\.txt is not a \.png"),
        (lambda folder: (folder / "ant" / "0.png").write_bytes(b"no image"), r"0\.png is not a readable image"),
        (lambda folder: Image.new("RGB", (9, 9)).save(folder / "ant" / "z.png"), r"z\.png has .*size=6, channels=3"),
        (lambda folder: Image.new("L", (8, 6)).save(folder / "ant" / "z.png"), r"folder='.*', channels=3\)"),
        (lambda folder: Image.new("RGB", (8, 6)).save(folder / "z.png"), r"z\.png lies in no folder of a class"),
        (lambda folder: Image.new("I;16", (8, 6)).save(folder / "ant" / "z.png"), r"z\.png has mode I;16"),
        (lambda folder: png_of_16_bits(folder / "ant" / "z.png"), r"z\.png has mode RGB;16; wanted 8 bits"),
        (lambda folder: (folder / "bee").mkdir(), "bee holds no image"),
        (lambda folder: (folder / "train").mkdir(), "train/ only"),
    ],
)
def test_an_odd_file_or_folder_is_named(tmp_path, spoil, message):
    spoil(images(tmp_path))
    with pytest.raises(InvalidInput, match=message):
        load_data(str(tmp_path))


def test_what_a_mac_leaves_in_folders_is_not_taken_for_images(tmp_path):
    before = load_data(str(images(tmp_path))).digest
    for place in (tmp_path, tmp_path / "ant"):
        (place / "._0.png").write_bytes(b"Mac OS X")
        (place / ".DS_Store").write_bytes(b"x")
    assert load_data(str(tmp_path)).digest == before


def test_a_damaged_image_is_named_when_it_is_read(tmp_path):
    data = load_data(str(images(tmp_path)))
    file = data.train.files[0]
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InvalidInput, match=r"\.png is damaged"):
        data.train.inputs(slice(0, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images(folder='nowhere')", "folder that exists"),
        ("images(folder='{}', sise=3)", "unknown argument of images 'sise'; did you mean 'size'"),
        ("images(folder='{}', channels=2)", "channels is 1 or 3"),
        ("images(folder='{}', std=(0.0, 1.0, 1.0))", "no deviation may be 0"),
        ("images(folder='{}', mean=(0.5,))", "1 numbers for 3 channels"),
    ],
)
def test_an_argument_of_images_is_named(tmp_path, text, message):
    folder = images(tmp_path)
    with pytest.raises(InvalidInput, match=message):
        load_data(text.format(folder))


def test_a_folder_of_arrays_has_the_digest_and_samples_of_its_npz(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.integers(0, 256, (6, 1, 5, 5), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": generator.integers(0, 256, (3, 1, 5, 5), dtype=np.uint8),
        "y_test": np.array([0, 1, 2]),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    (tmp_path / "a").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "a" / f"{name}.npy", array)
    folder, file = load_data(str(tmp_path / "a")), load_data(str(tmp_path / "a.npz"))
    assert folder.digest == file.digest
    np.testing.assert_array_equal(folder.train.inputs(slice(1, 3))[0], file.train.inputs(slice(1, 3))[0])
    (tmp_path / "a" / "y_test.npy").unlink()
    with pytest.raises(InvalidInput, match=r"y_test\.npy is missing"):
        load_data(str(tmp_path / "a"))


def test_samples_converted_where_they_are_asked_for_have_the_same_digest(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    file = tmp_path / "a.npz"
    x = generator.random((6, 4))
    np.savez(file, x_train=x, y_train=np.arange(6) % 2, x_test=x[:2], y_test=np.array([0, 1]))
    whole = load_data(str(file)).digest
    monkeypatch.setattr("bench.data.arrays.IN_MEMORY", 0)
    assert load_data(str(file)).digest == whole


def test_images_to_test_with_that_are_copies_of_images_to_train_with_are_counted_in_a_note(tmp_path):
    images(tmp_path / "train")
    images(tmp_path / "test", count=2)
    Image.new("RGB", (8, 6)).save(tmp_path / "test" / "cat" / "new.png")
    said = "4 of 5 samples to test with are among those to train with: their score says nothing of new ones"
    assert f"{tmp_path}: {said}" in load_data(str(tmp_path)).notes


def test_images_of_one_size_are_not_read_whole_unless_their_ends_are_alike_too(tmp_path, monkeypatch):
    """Nearly every size of a JPEG occurs in both parts: a large folder was read whole at each load."""
    files = [tmp_path / name for name in ("a", "b", "c", "d")]
    for file, content in zip(files, (b"a", b"b", b"c", b"b"), strict=True):
        file.write_bytes(b"one header" * 1000 + content * 9000)
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read.append(file.name) or read_bytes(file))
    assert _count_copies(tuple(files[:2]), tuple(files[2:])) == 1
    assert read == ["b", "d"]
