"""Trained ranges find their tensors; symmetric ranges mean what they mean to ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ai_edge_quantizer", reason="pip install 'pressbench[litert]'")

from backends.tflite.graph import Graph, Operator, Tensor
from backends.tflite.layers import Converted
from backends.tflite.quantize import find_kept, make_symmetric, place_trained_ranges
from bench.errors import InvalidInput
from bench.types import QuantSpec

VALUE = st.floats(-1e6, 1e6, allow_nan=False)


def operator(index: int, kind: str, inputs: tuple[int, ...], output: int) -> Operator:
    return Operator(index=index, kind=kind, inputs=inputs, outputs=(output,))


GRAPH = Graph(
    inputs=(0,),
    outputs=(5,),
    tensors={number: Tensor(name=f"t{number}", shape=(1,), dtype="float32") for number in range(6)},
    operators=(
        operator(0, "CONV_2D", (0, 10, 11), 1),
        operator(1, "ADD", (1, 0), 2),
        operator(2, "PAD", (2, 12), 3),
        operator(3, "CONV_2D", (3, 13, 14), 4),
        operator(4, "FULLY_CONNECTED", (4, 15, 16), 5),
    ),
)
LAYERS = {0: "first", 3: "second", 4: "fc"}


def test_trained_ranges_find_their_tensors() -> None:
    """What enters, what leaves, and what enters a layer, back through operators that only move values."""
    ranges = (
        ("input:0", 0.0, 1.0),
        ("first", 0.0, 2.0),
        ("second:input", 0.0, 3.0),
        ("fc", -4.0, 4.0),
        ("gone", 0.0, 9.0),
    )
    found, lost = place_trained_ranges(GRAPH, LAYERS, QuantSpec(kind="static", ranges=ranges))
    assert found == {"t0": (0, 1), "t1": (0, 2), "t3": (0, 3), "t2": (0, 3), "t5": (-4, 4)}
    assert lost == ("gone",)


@pytest.mark.parametrize(("factor", "placed"), [(20, set()), (0, {"t1"})], ids=["batch norm", "gate"])
def test_what_leaves_a_layer_is_not_what_leaves_the_batch_norm_left_behind_it(factor: int, placed: set[str]) -> None:
    """A product with a constant has the range that was trained; one with another tensor is no BatchNorm."""
    graph = Graph(
        inputs=(0,),
        outputs=(4,),
        tensors={number: Tensor(name=f"t{number}", shape=(1,), dtype="float32") for number in range(5)},
        operators=(
            operator(0, "CONV_2D", (0, 10, 11), 1),
            operator(1, "TRANSPOSE", (1, 12), 2),
            operator(2, "MUL", (2, factor), 3),
            operator(3, "ADD", (3, 21), 4),
        ),
    )
    found, lost = place_trained_ranges(graph, {0: "conv"}, QuantSpec(kind="static", ranges=(("conv", 0.0, 2.0),)))
    assert set(found) == placed
    assert lost == (() if placed else ("conv",))


@given(low=VALUE, high=VALUE)
def test_symmetric_ranges_put_zero_on_the_grid_and_lose_nothing(low: float, high: float) -> None:
    """The zero point is 0 (or -128 where nothing is negative), and the seen range lies inside."""
    low, high = sorted((min(low, 0.0), max(high, 0.0)))
    if high - low < 1e-6:
        return
    bottom, top = make_symmetric({"t": (low, high)})["t"]
    step = (top - bottom) / 255
    assert round(-128 - bottom / step) == (0 if low < 0 else -128)
    assert bottom <= low + 1e-9 * abs(low)
    assert top >= high - 1e-9 * abs(high)


def converted() -> Converted:
    """A file whose first layer came from the ONNX node `/features/Conv`."""
    names = {"/features/Conv": "first", "/gone/Conv": "gone"}
    return Converted(path=Path("net.tflite"), layers=LAYERS, layout="model", other_names=names)


def test_a_layer_is_kept_by_its_own_name_or_its_nodes() -> None:
    """A node's name in the ONNX file stands for the layer of its weight."""
    assert find_kept(converted(), ("/features/Conv", "fc")) == ("first", "fc")


@pytest.mark.parametrize(("name", "nearest"), [("/feature/Conv", "/features/Conv"), ("secnd", "second")])
def test_a_name_in_keep_float_that_is_no_layer_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    """Also a node whose layer did not survive the conversion."""
    with pytest.raises(InvalidInput, match=f"layer in keep_float '{name}'; did you mean '{nearest}'"):
        find_kept(converted(), (name,))
    with pytest.raises(InvalidInput, match="'/gone/Conv'"):
        find_kept(converted(), ("/gone/Conv",))
