"""The parts of the LiteRT session that need no model: turning, quantizing, partitions, the profiler's events."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.litert.profiler import DELEGATED, OPERATOR, _Event, layers
from backends.litert.session import Port, _ports, find_delegated
from bench.errors import Unavailable


def port(shape: tuple[int, ...], *, turned: bool = False, scale: float = 0.0, zero_point: int = 0) -> Port:
    return Port(
        name="x",
        index=0,
        shape=shape,
        dtype=np.dtype("int8" if scale else "float32"),
        scale=scale,
        zero_point=zero_point,
        axes=(0, 2, 3, 1) if turned else tuple(range(len(shape))),
    )


@given(
    level=st.integers(-128, 127),
    scale=st.floats(1e-6, 1e3, allow_subnormal=False),
    zero_point=st.integers(-128, 127),
)
def test_a_quantized_value_survives_the_way_out_and_in(level: int, scale: float, zero_point: int) -> None:
    """Decoding and encoding again gives the same integer, for every scale and zero point."""
    found = port((1,), scale=scale, zero_point=zero_point)
    stored = np.array([level], np.int8)
    assert found.encode(found.decode(stored)) == stored


@given(value=st.floats(-1e6, 1e6, width=32), zero_point=st.integers(-128, 127))
def test_values_beyond_the_range_saturate(value: float, zero_point: int) -> None:
    """Quantizing clips and never wraps around; inside the range the error is half a step at most."""
    found = port((1,), scale=0.5, zero_point=zero_point)
    stored = found.encode(np.array([value], np.float32))
    low, high = (-128 - zero_point) * 0.5, (127 - zero_point) * 0.5
    expected = min(max(value, low), high)
    assert abs(float(found.decode(stored)[0]) - expected) <= 0.25


def test_images_are_turned_and_turned_back() -> None:
    """The caller sees channels first on both sides; every value stays at its place."""
    found = port((1, 2, 3, 4), turned=True)
    images = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)
    stored = found.encode(images)
    assert found.spec().shape == (1, 4, 2, 3)
    assert stored.shape == (1, 2, 3, 4)
    assert stored[0, 1, 2, 3] == images[0, 3, 1, 2]
    assert np.array_equal(found.decode(stored), images)


def node(index: int, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    return {"index": index, "inputs": inputs, "outputs": outputs}


def test_a_partition_covers_what_leads_from_its_inputs_to_its_outputs() -> None:
    """A chain with a branch, cut by one operator that stayed outside."""
    operators = [
        node(0, [0, 100], [1]),
        node(1, [1, 101], [2]),
        node(2, [2], [3]),  # stays outside
        node(3, [3, 102], [4]),
        node(4, [4, 3], [5]),
    ]
    partitions = [node(5, [0, 100, 101], [2]), node(6, [3, 102], [5])]
    assert find_delegated(operators, partitions) == {0, 1, 3, 4}
    assert find_delegated(operators, []) == set()


def detail(index: int) -> dict[str, object]:
    return {"index": index, "name": f"tensor {index}", "shape": [1, 2], "dtype": np.float32, "quantization": (0.0, 0)}


def test_arguments_are_ordered_by_number_only_where_the_converter_numbered_them() -> None:
    """args_10 comes after args_9; names that a user chose keep the file's order."""
    details = [detail(3), detail(1), detail(2)]
    ordered = _ports(details, {"args_10": 3, "args_9": 1, "args_0": 2}, turned=False)
    assert [port.index for port in ordered] == [2, 1, 3]
    chosen = _ports(details, {"b_2": 3, "a_1": 1, "c_0": 2}, turned=False)
    assert [(port.index, port.name) for port in chosen] == [(3, "b_2"), (1, "a_1"), (2, "c_0")]


def test_a_tensor_that_is_given_out_twice_stands_at_both_places() -> None:
    """Its second name does not move it behind the outputs between."""
    details = [detail(5), detail(0), detail(5), detail(7)]
    ordered = _ports(details, {"output_2": 5, "output_0": 5, "output_1": 0, "output_3": 7}, turned=False)
    assert [port.index for port in ordered] == [5, 0, 5, 7]
    assert sorted(port.name for port in ordered) == ["output_0", "output_1", "output_2", "output_3"]


def event(tag: bytes, kind: int, elapsed_us: int) -> _Event:
    found = _Event()
    found.tag, found.kind, found.elapsed_us = ctypes.c_char_p(tag).value, kind, elapsed_us
    return found


def test_profiled_events_become_one_row_an_operator() -> None:
    """Runs are told apart by order; the time is the mean; where it ran is kept; scopes are left out."""
    run = [("conv", DELEGATED, 4), ("Invoke", 1, 99), ("SOFTMAX", OPERATOR, 1)]
    slow = [("conv", DELEGATED, 6), ("Invoke", 1, 99), ("SOFTMAX", OPERATOR, 2)]
    rows = layers([event(tag.encode(), kind, us) for tag, kind, us in run + slow], 2)
    assert [(row.operator, row.mean_us, row.placed_on, row.runs) for row in rows] == [
        ("conv", 5.0, "xnnpack", 2),
        ("SOFTMAX", 1.5, "cpu", 2),
    ]


@pytest.mark.parametrize("count", [0, 3])
def test_lost_events_are_told(count: int) -> None:
    """Events that do not divide into equal runs are no profile."""
    with pytest.raises(Unavailable, match="lost"):
        layers([event(b"conv", DELEGATED, 1)] * count, 2)
