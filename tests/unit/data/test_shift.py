"""Corruptions: same shape, type and range, seeded, each changing what its name says and by how much."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.datasets import load_data
from bench.data.shift import SHIFTS, survey
from bench.errors import Unsupported

NAMES = sorted(SHIFTS)


def shift(name, x, seed, rows=None):
    """The corrupted samples, `rows` at a time."""
    pieces = [x[start : start + (rows or len(x))] for start in range(0, len(x), rows or len(x))]
    corrupt = SHIFTS[name](survey(pieces), seed)
    return np.concatenate([corrupt(piece) for piece in pieces])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((5, 3, 20, 24), dtype=np.float32)


def test_the_five_corruptions_are_there():
    assert NAMES == ["blur", "brightness", "contrast", "gaussian_noise", "translation"]


@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_keeps_shape_type_and_range_and_its_input(images, name):
    before = images.copy()
    shifted = shift(name, images, 1)
    assert (shifted.shape, shifted.dtype) == (images.shape, np.float32)
    assert shifted.min() >= images.min() - 1e-6
    assert shifted.max() <= images.max() + 1e-6
    assert np.array_equal(images, before)
    assert not np.array_equal(shifted, images)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_samples_cut_into_pieces_are_corrupted_alike(images, name, rows):
    assert np.array_equal(shift(name, images, 3, rows), shift(name, images, 3))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(images, name):
    first, again, other = (shift(name, images, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name in ("blur", "contrast", "brightness"))


def test_noise_has_the_documented_deviation():
    x = np.full((4, 1, 64, 64), 0.5, np.float32)
    x[0, 0, 0, :2] = 0, 1
    noise = (shift("gaussian_noise", x, 0) - x).ravel()
    unclipped = np.random.default_rng(0).standard_normal(x.size) * 0.18
    assert noise.std() == pytest.approx(np.clip(unclipped, -0.5, 0.5).std(), rel=0.02)
    assert abs(noise.mean()) < 0.01


def test_contrast_shrinks_to_two_fifths_about_each_images_mean(images):
    low = shift("contrast", images, 0)
    np.testing.assert_allclose(low.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(low.std((1, 2, 3)), 0.4 * images.std((1, 2, 3)), rtol=1e-4)


def test_brightness_adds_three_tenths_of_the_range():
    x = np.array([[[[0.0, 2.0, 10.0]]]], np.float32)
    np.testing.assert_allclose(shift("brightness", x, 0), [[[[3.0, 5.0, 10.0]]]])


@pytest.mark.parametrize(("side", "deviation"), [(8, 0.5), (32, 0.96), (224, 3.0)])
def test_blur_spreads_a_point_as_wide_as_documented(side, deviation):
    x = np.zeros((1, 1, side, side), np.float32)
    x[0, 0, side // 2, side // 2] = 1
    blurred = shift("blur", x, 0)[0, 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    offsets = np.arange(side) - side // 2
    assert np.sqrt((blurred.sum(0) * offsets**2).sum()) == pytest.approx(deviation, rel=0.08)


def test_blur_equals_the_formula_written_as_a_loop(images):
    sigma = 0.6  # 0.03 of 20 pixels
    offsets = np.arange(-2, 3)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    expected = np.zeros(images.shape)
    for row in range(images.shape[2]):
        for column in range(images.shape[3]):
            window = padded[:, :, row : row + 5, column : column + 5]
            expected[:, :, row, column] = np.einsum("ncij,i,j->nc", window, kernel, kernel)
    np.testing.assert_allclose(shift("blur", images, 0), expected, atol=1e-5)


def test_translation_moves_each_image_by_at_most_a_tenth_of_its_side(images):
    moved = shift("translation", images, 0)
    for before, after in zip(images, moved, strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)), mode="edge")
        places = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(padded[:, row : row + 20, column : column + 24], after)
        ]
        assert len(places) == 1


def test_the_smallest_images_move_by_a_pixel():
    digits = load_data("digits", None).test.x[0]
    moved = shift("translation", digits, 0)
    share = np.mean([not np.array_equal(a, b) for a, b in zip(digits, moved, strict=True)])
    assert share == pytest.approx(8 / 9, abs=0.05), "each axis by -1, 0 or 1: one image in nine stays"


@pytest.mark.parametrize("name", ["blur", "translation"])
def test_flat_inputs_have_no_geometry(name):
    with pytest.raises(Unsupported, match=f"{name} needs images"):
        shift(name, np.ones((3, 7), np.float32), 0)


@pytest.mark.parametrize("name", ["contrast", "brightness", "gaussian_noise"])
def test_flat_inputs_take_the_rest(name):
    x = np.random.default_rng(0).random((3, 7), dtype=np.float32)
    assert shift(name, x, 0).shape == x.shape
