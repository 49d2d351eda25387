"""Corruptions of a test set, to see whether a compressed network still generalises: numpy, seeded, fixed severity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from bench.errors import Unsupported

Array = np.ndarray
Corrupt = Callable[[Array], Array]
"""Corrupts the next samples of a test set, in its order."""
NOISE_STD = 0.18
CONTRAST = 0.4
BRIGHTNESS = 0.3
BLUR_OF_SIDE = 0.03
BLUR_PIXELS = (0.5, 3.0)
TRANSLATION_OF_SIDE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What a corruption must know of all samples (N, ...) before it sees the first. `shape`: that of all."""

    shape: tuple[int, ...]
    low: np.float32
    high: np.float32

    def sides(self, what: str) -> tuple[int, int]:
        """Height and width. Raises `Unsupported`, naming the corruption, for inputs that are not images."""
        if len(self.shape) != 4:
            raise Unsupported(f"{what} needs images (N, C, H, W), not inputs of shape {self.shape[1:]}")
        return self.shape[2], self.shape[3]


def survey(pieces: Iterable[Array]) -> Whole:
    """Of float32 samples that come in pieces."""
    count, low, high, rest = 0, np.float32(np.inf), np.float32(-np.inf), ()
    for piece in pieces:
        count, rest = count + len(piece), piece.shape[1:]
        low, high = min(low, np.float32(piece.min())), max(high, np.float32(piece.max()))
    return Whole(shape=(count, *rest), low=low, high=high)


def gaussian_noise(whole: Whole, seed: int) -> Corrupt:
    """Adds N(0, 0.18 of the value range) to each value: ImageNet-C, severity 3."""
    generator = np.random.default_rng(seed)

    def corrupt(x: Array) -> Array:
        noise = generator.standard_normal(x.shape, dtype=np.float32)
        noisy: Array = np.clip(x + noise * np.float32(NOISE_STD * (whole.high - whole.low)), whole.low, whole.high)
        return noisy

    return corrupt


def contrast(whole: Whole, seed: int) -> Corrupt:
    """Draws each input towards its own mean, to 0.4 of its contrast: ImageNet-C, severity 1.

    Its severity 3 (0.2) leaves networks trained on digits at chance, where nothing can be compared.
    """
    del whole, seed

    def corrupt(x: Array) -> Array:
        mean = x.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
        grey: Array = mean + (x - mean) * np.float32(CONTRAST)
        return grey

    return corrupt


def brightness(whole: Whole, seed: int) -> Corrupt:
    """Adds 0.3 of the value range: ImageNet-C, severity 3 (there to the V of HSV, here to every channel)."""
    del seed
    more = np.float32(BRIGHTNESS * (whole.high - whole.low))

    def corrupt(x: Array) -> Array:
        bright: Array = np.clip(x + more, whole.low, whole.high)
        return bright

    return corrupt


def blur(whole: Whole, seed: int) -> Corrupt:
    """Gaussian blur with a deviation of 0.03 of the shorter side, between 0.5 and 3 pixels, edges reflected.

    3 pixels at 224 is ImageNet-C's severity 3; the rule carries it to small images. Images only.
    """
    del seed
    side = min(whole.sides("blur"))
    deviation = float(np.clip(BLUR_OF_SIDE * side, *BLUR_PIXELS))
    radius = min(int(np.ceil(3 * deviation)), side - 1)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)

    def corrupt(x: Array) -> Array:
        for axis in (2, 3):
            pad = [(0, 0)] * x.ndim
            pad[axis] = (radius, radius)
            padded, size = np.pad(x, pad, mode="reflect"), x.shape[axis]
            x = np.zeros_like(x)
            for start, weight in enumerate(kernel):
                x += weight * padded.take(np.arange(start, start + size), axis)
        return x

    return corrupt


def translation(whole: Whole, seed: int) -> Corrupt:
    """Moves each image by up to 0.1 of its side (at least 1 pixel) along both axes, edges repeated. Images only."""
    generator = np.random.default_rng(seed)
    sides = whole.sides("translation")
    rows, columns = (_draw_moves(generator, whole.shape[0], side) for side in sides)
    done = 0

    def corrupt(x: Array) -> Array:
        nonlocal done
        here = slice(done, done + len(x))
        done += len(x)
        height, width = (
            np.clip(np.arange(side)[None, :] + moves[here], 0, side - 1)
            for side, moves in zip(sides, (rows, columns), strict=True)
        )
        every = np.arange(len(x))[:, None, None, None]
        channels = np.arange(x.shape[1])[None, :, None, None]
        moved: Array = x[every, channels, height[:, None, :, None], width[:, None, None, :]]
        return moved

    return corrupt


def _draw_moves(generator: np.random.Generator, count: int, side: int) -> Array:
    """By how many pixels each image is moved: (count, 1)."""
    most = max(1, round(TRANSLATION_OF_SIDE * side))
    return generator.integers(-most, most + 1, size=(count, 1))


SHIFTS: Mapping[str, Callable[[Whole, int], Corrupt]] = MappingProxyType(
    {
        "gaussian_noise": gaussian_noise,
        "blur": blur,
        "contrast": contrast,
        "brightness": brightness,
        "translation": translation,
    }
)
"""Name -> corruption of float32 inputs (N, ...) with a seed. Shape, dtype and value range stay the same, and so do the
values however the samples are cut into pieces.

Severities: Hendrycks & Dietterich 2019 (ImageNet-C), relative to the value range; each function says its own.
"""
