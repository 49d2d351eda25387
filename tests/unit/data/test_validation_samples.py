"""Samples to choose with, from every source that may have them; and what a search makes of them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from test_data import npz
from test_folders import images

from bench.data.datasets import load_data
from bench.data.validation import hold_out
from bench.errors import InvalidInput


def some(count, seed=1):
    return np.random.default_rng(seed).random((count, 1, 5, 5)).astype(np.float32)


def test_a_search_trains_with_all_and_chooses_with_the_validation_samples_of_an_npz(tmp_path):
    x_val, y_val = some(30), np.arange(30) % 3
    plain, data = load_data(npz(tmp_path / "a.npz")), load_data(npz(tmp_path / "b.npz", x_val=x_val, y_val=y_val))
    split = hold_out(data, 0)
    assert split.train is data.train
    np.testing.assert_array_equal(split.test.inputs(slice(None))[0], x_val)
    assert split.test.targets(slice(None)).tolist() == y_val.tolist()
    assert split.name.endswith("b.npz, its validation samples")
    assert data.digest == plain.digest != split.digest
    assert data.training_digest == split.training_digest
    assert data.notes == (f"{tmp_path / 'b.npz'}: a search chooses with x_val and y_val; nothing else uses them",)


def test_validation_samples_of_several_inputs_come_in_the_order_of_those_to_train_with(tmp_path):
    given = {
        f"x_{part}.{name}": some(count, seed)
        for part, count in (("train", 6), ("test", 3))
        for seed, name in enumerate("ab")
    }
    given |= {
        "x_val.b": some(20, 8),
        "x_val.a": some(20, 9),
        "y_val": np.arange(20) % 3,
        "x_train": None,
        "x_test": None,
    }
    data = load_data(npz(tmp_path / "a.npz", **given))
    assert data.validation is not None
    for found, name in zip(data.validation.inputs(slice(None)), "ab", strict=True):
        np.testing.assert_array_equal(found, given[f"x_val.{name}"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_val": some(4), "y_val": np.arange(5) % 3}, "x_val has 4 examples, y_val 5"),
        ({"x_val": some(4), "y_val": np.arange(4)}, "y_val has label 3, y_train only 0..2"),
        ({"x_val": some(4)[..., :4], "y_val": np.arange(4) % 3}, r"x_train has inputs of shape .*, x_val \(1, 5, 4\)"),
        ({"x_val": np.zeros((4, 1, 5, 5), np.uint8), "y_val": np.arange(4) % 3}, "x_train is float32, x_val uint8"),
        ({"x_val": some(4) * np.nan, "y_val": np.arange(4) % 3}, "x_val holds NaN"),
    ],
)
def test_odd_validation_samples_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(InvalidInput, match=message):
        load_data(npz(tmp_path / "a.npz", **changes))


def test_few_validation_samples_choose_nothing(tmp_path):
    data = load_data(npz(tmp_path / "a.npz", x_val=some(4), y_val=np.arange(4) % 3))
    with pytest.raises(InvalidInput, match="has 4 validation samples; a search needs 20 or more"):
        hold_out(data, 0)


def test_images_of_val_are_to_choose_with_and_need_the_same_classes(tmp_path):
    for part in ("train", "test"):
        images(tmp_path / part)
    images(tmp_path / "val", count=24, classes=("cat",))
    data = load_data(str(tmp_path))
    assert data.validation is not None
    assert (len(data.train), len(data.test), len(data.validation)) == (10, 10, 24)
    assert f"{tmp_path}: a search chooses with val/; nothing else uses it" in data.notes
    images(tmp_path / "val", classes=("dog",))
    with pytest.raises(InvalidInput, match=r"val has 'dog': give it folders of classes of .*train"):
        load_data(str(tmp_path))
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val" / ".hidden").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="val has no class at all"):
        load_data(str(tmp_path))
