"""What a conversion of an ONNX file is checked with."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from backends.tflite.from_onnx import _draw
from backends.tflite.graph import Tensor


@pytest.mark.parametrize(("dtype", "bounds", "low", "high"), [("int64", (2, 9), 2, 9), ("int32", None, 0, 1)])
def test_whole_numbers_are_drawn_within_their_bounds(
    dtype: str, bounds: tuple[int, int] | None, low: int, high: int
) -> None:
    drawn = _draw(np.random.default_rng(0), Tensor(name="ids", shape=(1, 64), dtype=dtype), bounds)
    assert drawn.dtype == dtype
    assert set(drawn.ravel().tolist()) == set(range(low, high + 1))


def test_a_mask_is_true_and_false() -> None:
    assert set(_draw(np.random.default_rng(0), Tensor(name="m", shape=(64,), dtype="bool"), None).tolist()) == {
        False,
        True,
    }
