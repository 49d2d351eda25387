"""The reason a cell delivered less is a fact of its record: constructed cases with the answer known beforehand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_records import cost, record, roofline

from bench.cost.roofline import explain_shortfall, least_seconds, promise_of, read_roofline, time_layers
from bench.cost.roofline.bound import FACT, as_facts, bound_layers, describe_bound
from bench.records import Execution, LayerTime
from bench.types import Conditions, LayerCost, Precision

INT8 = Precision(asked="int8", delivered="int8")
ROOFLINE = roofline()


def times(*rows):
    return tuple(LayerTime(name=name, operator=operator, mean_us=us, runs=9) for name, operator, us in rows)


def layered(*layers, macs=1_000_000, zeros=0.0):
    counted = cost(10_000, macs)
    return replace(counted, nonzero_macs=int(macs * (1 - zeros)), layers=layers)


def conv(channels, macs=100_000, weights=4_000, activations=4_000):
    return LayerCost(
        name=f"conv{channels}",
        operator="Conv",
        macs=macs,
        weight_bytes=weights,
        activation_bytes=activations,
        output_shape=(1, channels, 8, 8),
    )


LAYERS = {
    "a": ("node_a", "a_out", "relu_1"),
    "b": ("node_b", "b_out"),
    "c": ("node_c",),
    "d": ("node_d", "both"),
    "e": ("node_e", "both"),
}
"""Layer -> what it is called."""
BLOCKED = times(("a_nchwc", "Conv", 40.0), ("b_nchwc", "Conv", 40.0), ("fc", "Gemm", 5.0))
BASE = record(precision=Precision(delivered="float32"), cost=layered(conv(32), conv(32)), profile=BLOCKED)
CASES = {
    "odd channels": (
        {"profile": times(("a", "Conv", 90.0), ("b", "Conv", 80.0)), "cost": layered(conv(22), conv(22), macs=500_000)},
        "2 of 2 convolutions left NCHWc blocking: 22 channels; try round_to=8",
    ),
    "float layers": (
        {"precision": replace(INT8, stayed_float=("fc1", "fc2", "fc3", "fc4"))},
        "4 layers run float kernels: fc1, fc2, fc3 and 1 more",
    ),
    "kept float": (
        {
            "precision": replace(INT8, keep_float=("conv",)),
            "execution": Execution(multiplying={"int8": 9, "float32": 1}),
        },
        "1 of 10 multiplying layers run float kernels, 1 kept on purpose",
    ),
    "float arithmetic": (
        {"precision": Precision(asked="float16"), "execution": Execution(precision="float32")},
        "runs float kernels: float16 was asked for, and the runtime multiplied in float32",
    ),
    "weights only": ({"precision": Precision(asked="weight_only")}, "only the weights are narrow"),
    "dynamic": (
        {"precision": INT8, "profile": times(("q", "DynamicQuantizeLinear", 30.0), ("m", "MatMulInteger", 70.0))},
        "activations are quantized at run time: DynamicQuantizeLinear ×1 take 30 % of the time",
    ),
    "Q/DQ": (
        {
            "precision": INT8,
            "profile": times(
                *[("q", "QuantizeLinear", 10.0), ("d", "DequantizeLinear", 10.0)] * 2, ("m", "Conv", 60.0)
            ),
        },
        "Q/DQ left between layers: QuantizeLinear ×2, DequantizeLinear ×2 take 40 % of the time",
    ),
    "casts": (
        {"precision": Precision(asked="float16"), "profile": times(("c", "Cast", 20.0), ("m", "Conv", 60.0))},
        "numbers are cast between layers: Cast ×1 take 25 % of the time",
    ),
    "zeros": (
        {"cost": layered(conv(32), zeros=0.5), "profile": BLOCKED},
        "no sparse kernel ran: 50 % of the multiplications are by zero, and all are computed",
    ),
    "partitions": (
        {"execution": Execution(delegated=8, partitions=2, not_delegated={"PAD": 2})},
        "the delegate left PAD ×2, which cuts it into 2 partitions",
    ),
    "layouts": (
        {"profile": times(("t", "Transpose", 30.0), ("a_nchwc", "Conv", 35.0), ("b_nchwc", "Conv", 35.0))},
        "numbers are moved between layouts: Transpose ×1 take 30 % of the time",
    ),
    "memory": (
        {"cost": layered(conv(32, macs=1_000, weights=4_000_000)), "profile": BLOCKED},
        "memory-bound: 99 % of the least time is moving weights and activations",
    ),
    "calls": (
        {"cost": layered(conv(32, macs=500, weights=100), conv(32, macs=500, weights=100)), "profile": BLOCKED},
        "call overhead: 100 % of the least time is starting 2 kernels",
    ),
    "no multiplication": (
        {
            "cost": layered(conv(8, macs=9_000_000), macs=250_000),
            "profile": times(("a_nchwc", "Conv", 9.0), ("s", "Softmax", 90.0)),
            "base": {"profile": times(("a_nchwc", "Conv", 60.0), ("s", "Softmax", 90.0))},
        },
        "60 % of the baseline's time multiplies nothing and cannot shrink with the MACs",
    ),
    "slow kernels": (
        {
            "cost": layered(conv(8, macs=9_000_000), macs=250_000),
            "profile": times(("a_nchwc", "Conv", 30.0)),
            "base": {"profile": times(("a_nchwc", "Conv", 60.0))},
        },
        "multiplying layers take 50 % of the baseline's time for 25 % of its MACs",
    ),
    "nothing known": ({"profile": ()}, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_the_stated_reason_is_the_constructed_one(name):
    changes, expected = CASES[name]
    changes = dict(changes)
    baseline = replace(BASE, **changes.pop("base", {}))
    cell = replace(BASE, recipe="x", **{"profile": (), **changes})
    found = explain_shortfall(cell, baseline, ROOFLINE if cell.profile else None)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_a_cell_whose_channels_fit_the_blocks_is_not_blamed_for_them():
    cell = replace(BASE, cost=layered(conv(16)), profile=times(("a", "Conv", 9.0)))
    assert "NCHWc" not in explain_shortfall(cell, BASE)


def test_zeros_that_a_sparse_kernel_skips_are_no_reason():
    cell = replace(BASE, cost=layered(conv(32), zeros=0.8), execution=Execution(sparse_layers=("a",)), profile=())
    assert explain_shortfall(cell, BASE) == ""


def test_a_layer_is_bound_by_the_slowest_of_arithmetic_memory_and_call():
    layers = conv(8, macs=10**7), conv(16, macs=1, weights=10**6), conv(8, macs=1), conv(8, macs=0)
    cell = replace(BASE, cost=layered(*layers))
    found = bound_layers(cell, ROOFLINE)
    assert [one.limit for one in found] == ["arithmetic", "memory", "call"]
    assert found[0].seconds == pytest.approx(1e-3)
    assert found[1].seconds == pytest.approx((10**6 + 4 * 16 * 64) / 1e10)
    assert found[2].seconds == pytest.approx(1e-6)
    eight = bound_layers(replace(cell, conditions=Conditions(batch=8)), ROOFLINE)
    assert eight[0].seconds == pytest.approx(8e-3)
    assert eight[1].seconds == pytest.approx((10**6 + 8 * 4 * 16 * 64) / 1e10)
    narrow = bound_layers(replace(cell, precision=INT8), ROOFLINE)
    assert narrow[0].seconds == pytest.approx(2.5e-4)


def test_a_precision_without_a_measured_peak_has_no_bound():
    assert bound_layers(replace(BASE, precision=Precision(asked="float16")), ROOFLINE) == []
    assert bound_layers(replace(BASE, precision=Precision(asked="weight_only")), ROOFLINE) == bound_layers(
        BASE, ROOFLINE
    )


def test_weights_are_read_as_fast_as_what_their_sum_fits_into():
    line = replace(ROOFLINE, bandwidth=((100, 9.0), (1000, 3.0)))
    assert [line.read_rate(size)[1] for size in (1, 100, 999, 1000, 10**9)] == [9.0, 9.0, 9.0, 3.0, 3.0]


def test_a_table_of_which_an_inference_reads_a_few_rows_makes_no_weight_slower():
    line = replace(ROOFLINE, bandwidth=((2**10, 1e10), (2**20, 1e9)))
    layer = conv(32, macs=1_000, weights=4_000)
    table = LayerCost(name="table", operator="Gather", weight_bytes=2**24, activation_bytes=400, output_shape=(1, 100))
    counted = replace(layered(layer, table), weight_bytes=4_000 + 2**24)
    (bound,) = bound_layers(replace(BASE, cost=counted), line)
    assert bound.seconds == pytest.approx((4_000 + 4 * 32 * 64) / 1e10)
    large = replace(line, unsettled={"weights of 1 MiB": "apart"})
    assert describe_bound(replace(BASE, cost=counted), replace(large, node_s=0.0, call_s=0.0)).startswith(
        "memory-bound"
    )


@pytest.mark.parametrize(
    ("name", "unsettled"), [("calls", {"a node": "apart"}), ("memory", {"weights of 1 KiB": "apart"})]
)
def test_no_limit_is_a_cause_that_did_not_settle_or_explains_little_of_the_measured_time(name, unsettled):
    cell = replace(BASE, **CASES[name][0])
    least = least_seconds(bound_layers(cell, ROOFLINE), ROOFLINE)
    assert describe_bound(cell, ROOFLINE, 1.9 * least)
    assert describe_bound(cell, ROOFLINE, 2.1 * least) == ""
    assert describe_bound(cell, replace(ROOFLINE, unsettled=unsettled)) == ""
    assert describe_bound(cell, replace(ROOFLINE, unsettled={"int8": "apart"}))


def test_a_roofline_of_the_facts_is_read_back_and_another_kind_says_nothing():
    facts = json.loads(json.dumps({FACT: as_facts(ROOFLINE)}))
    assert read_roofline(facts) == ROOFLINE
    assert read_roofline({}) is None
    assert read_roofline({FACT: {**facts[FACT], "bandwidth": "fast"}}) is None


def test_kernels_find_their_layers_by_name_and_never_by_guess():
    layers = [replace(conv(8), name=name, called=called) for name, called in LAYERS.items()]
    ran = times(
        ("relu_1_nchwc", "Conv", 1.0),
        ("node_b_token_7", "QLinearConv", 2.0),
        ("node_c/WithoutBiases", "Convolution", 3.0),
        ("both", "Conv", 4.0),
        ("relu_1", "Relu", 5.0),
        ("elsewhere", "Conv", 6.0),
    )
    assert time_layers(replace(BASE, cost=layered(*layers), profile=ran)) == [1.0, 2.0, 3.0, None, None]


def test_kernels_of_a_tflite_file_are_told_by_their_order_where_none_is_missing():
    cell = replace(BASE, cost=layered(conv(8), conv(16)))
    ran = times(("0", "Convolution", 1.0), ("1", "Add", 2.0), ("2", "Fully Connected", 3.0))
    assert time_layers(replace(cell, profile=ran)) == [1.0, 3.0]
    assert time_layers(replace(cell, profile=ran[:2])) == [None, None]


def test_quantization_promises_bytes_and_bit_operations_and_pruning_macs():
    found = promise_of(replace(BASE, precision=INT8), BASE)
    assert (found.macs, found.bit_operations, found.weights) == (1.0, 16.0, 4.0)
    pruned = promise_of(replace(BASE, cost=layered(macs=250_000)), BASE)
    assert (pruned.macs, pruned.bit_operations) == (4.0, None)
    half = promise_of(replace(BASE, precision=replace(INT8, asked="float16")), BASE)
    assert half.bit_operations == 4.0
    assert promise_of(BASE, None).macs is None
