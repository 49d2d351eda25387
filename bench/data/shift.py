"""Corruptions of a test set, to see whether a compressed network still generalises: numpy, seeded, fixed severity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from bench.errors import Unsupported

NOISE_STD = 0.18
CONTRAST = 0.4
BRIGHTNESS = 0.3
BLUR_OF_SIDE = 0.03
BLUR_PIXELS = (0.5, 3.0)
TRANSLATION_OF_SIDE = 0.1


def gaussian_noise(x: np.ndarray, seed: int) -> np.ndarray:
    """Adds N(0, 0.18 of the value range) to each value: ImageNet-C, severity 3."""
    low, high = _range(x)
    noise = np.random.default_rng(seed).standard_normal(x.shape, dtype=np.float32)
    noisy: np.ndarray = np.clip(x + noise * np.float32(NOISE_STD * (high - low)), low, high)
    return noisy


def contrast(x: np.ndarray, seed: int) -> np.ndarray:
    """Draws each input towards its own mean, to 0.4 of its contrast: ImageNet-C, severity 1.

    Its severity 3 (0.2) leaves networks trained on digits at chance, where nothing can be compared.
    """
    del seed
    mean = x.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
    grey: np.ndarray = mean + (x - mean) * np.float32(CONTRAST)
    return grey


def brightness(x: np.ndarray, seed: int) -> np.ndarray:
    """Adds 0.3 of the value range: ImageNet-C, severity 3 (there to the V of HSV, here to every channel)."""
    del seed
    low, high = _range(x)
    bright: np.ndarray = np.clip(x + np.float32(BRIGHTNESS * (high - low)), low, high)
    return bright


def blur(x: np.ndarray, seed: int) -> np.ndarray:
    """Gaussian blur with a deviation of 0.03 of the shorter side, between 0.5 and 3 pixels, edges reflected.

    3 pixels at 224 is ImageNet-C's severity 3; the rule carries it to small images. Images only.
    """
    del seed
    height, width = _sides("blur", x)
    deviation = float(np.clip(BLUR_OF_SIDE * min(height, width), *BLUR_PIXELS))
    radius = min(int(np.ceil(3 * deviation)), min(height, width) - 1)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (2, 3):
        pad = [(0, 0)] * x.ndim
        pad[axis] = (radius, radius)
        padded, size = np.pad(x, pad, mode="reflect"), x.shape[axis]
        x = np.zeros_like(x)
        for start, weight in enumerate(kernel):
            x += weight * padded.take(np.arange(start, start + size), axis)
    return x


def translation(x: np.ndarray, seed: int) -> np.ndarray:
    """Moves each image by up to 0.1 of its side (at least 1 pixel) along both axes, edges repeated. Images only."""
    height, width = _sides("translation", x)
    rng = np.random.default_rng(seed)
    rows, columns = (_moved(rng, len(x), side) for side in (height, width))
    every = np.arange(len(x))[:, None, None, None]
    channels = np.arange(x.shape[1])[None, :, None, None]
    moved: np.ndarray = x[every, channels, rows[:, None, :, None], columns[:, None, None, :]]
    return moved


def _moved(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """For each row (or column) of a moved image, the row of the original it comes from: (count, side)."""
    most = max(1, round(TRANSLATION_OF_SIDE * side))
    offsets = rng.integers(-most, most + 1, size=(count, 1))
    sources: np.ndarray = np.clip(np.arange(side)[None, :] + offsets, 0, side - 1)
    return sources


def _range(x: np.ndarray) -> tuple[np.float32, np.float32]:
    return np.float32(x.min()), np.float32(x.max())


def _sides(what: str, x: np.ndarray) -> tuple[int, int]:
    if x.ndim != 4:
        raise Unsupported(f"{what} needs images (N, C, H, W), not inputs of shape {x.shape[1:]}")
    return x.shape[2], x.shape[3]


SHIFTS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = MappingProxyType(
    {
        "gaussian_noise": gaussian_noise,
        "blur": blur,
        "contrast": contrast,
        "brightness": brightness,
        "translation": translation,
    }
)
"""Name -> corruption of float32 inputs (N, ...) with a seed. Shape, dtype and value range stay the same.

Severities: Hendrycks & Dietterich 2019 (ImageNet-C), relative to the value range; each function says its own.
"""
