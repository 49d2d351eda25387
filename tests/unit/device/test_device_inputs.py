"""The one check of a feed, which every session's `run` and `bind` go through."""

from __future__ import annotations

import numpy as np
import pytest

from bench.device.inputs import check_feed, make_feed
from bench.errors import InvalidInput
from bench.types import TensorSpec

SPECS = (TensorSpec(name="a", shape=(2, 3)), TensorSpec(name="b", shape=(2,), dtype="int64"))


def feed(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return {"b": np.zeros(2, np.int64), "a": np.zeros((2, 3), np.float32), **changes}


def test_arrays_come_back_in_the_models_order_and_contiguous():
    turned = np.arange(6, dtype=np.float32).reshape(3, 2).T
    found = check_feed("m.onnx", SPECS, feed(a=turned))
    assert list(found) == ["a", "b"]
    assert found["a"].flags.c_contiguous
    assert np.array_equal(found["a"], turned)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 2), np.float32), np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float64)]
)
def test_another_shape_or_dtype_is_never_cast_and_both_are_named(array):
    with pytest.raises(InvalidInput) as raised:
        check_feed("m.onnx", SPECS, feed(a=array))
    assert str(raised.value) == (
        f"m.onnx: input 'a' wants float32 of shape (2, 3), the feed is {array.dtype} of shape {array.shape}"
    )


def test_a_missing_and_an_unknown_name_are_refused():
    with pytest.raises(InvalidInput, match=r"^m\.onnx: takes the inputs 'a', 'b', the feed has none$"):
        check_feed("m.onnx", SPECS, {})
    with pytest.raises(InvalidInput, match="the feed has 'b', 'a', 'c'"):
        check_feed("m.onnx", SPECS, feed(c=np.zeros(1)))


def test_a_scalar_is_fed_to_a_file_that_takes_a_vector_of_one():
    """onnx2tf makes one of it. The samples of an input without a batch axis are one value each."""
    spec = TensorSpec(name="rate", shape=(1,), batch_axis=None)
    assert make_feed([np.array([16000.0, 8000.0], np.float32)], [spec], 1)["rate"].tolist() == [8000.0]
