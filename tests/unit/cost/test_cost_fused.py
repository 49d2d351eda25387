"""Operators that ONNX Runtime's optimizers fuse are counted as what they were fused from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bench.cost.count import cost_of
from bench.types import Cost

BATCH, STEPS, WIDTH, HEADS = 1, 6, 8, 2
PRODUCT = STEPS * WIDTH
N = helper.make_node


def count(
    folder: Path, nodes: list[NodeProto], constants: dict[str, np.ndarray], opset: int = 17, **inputs: list
) -> Cost:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    file = folder / "m.onnx"
    file.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return cost_of(file)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def ms(kind: str, inputs: list[str], outputs: list[str], **given: object) -> NodeProto:
    return N(kind, inputs, outputs, domain="com.microsoft", **given)


@pytest.mark.parametrize(("sizes", "values"), [({}, WIDTH), ({"qkv_hidden_sizes": [8, 8, 4]}, 4)])
def test_a_packed_attention_counts_its_projection_and_its_products(tmp_path, sizes, values):
    packed = 2 * WIDTH + values
    nodes = [
        ms("Attention", ["x", "qkv", "bias"], ["a"], num_heads=HEADS, **sizes),
        N("MatMul", ["a", "out"], ["y"]),
    ]
    cost = count(
        tmp_path,
        nodes,
        {"qkv": ones(WIDTH, packed), "bias": ones(packed), "out": ones(values, 3)},
        x=["N", STEPS, WIDTH],
    )
    assert cost.unknown == ()
    assert cost.macs == PRODUCT * packed + STEPS * STEPS * (WIDTH + values) + STEPS * values * 3
    assert cost.params == (WIDTH + 1) * packed + values * 3


def test_an_attention_of_eight_bits_counts_as_the_float_one(tmp_path):
    packed, zero = 3 * WIDTH, np.array(0, np.uint8)
    weight = np.ones((WIDTH, packed), np.int8)
    weight[0] = 0
    nodes = [
        N("DynamicQuantizeLinear", ["x"], ["q", "scale", "point"]),
        ms("QAttention", ["q", "qkv", "bias", "scale", "w_scale", "", "point", "w_point"], ["y"], num_heads=HEADS),
    ]
    constants = {"qkv": weight, "bias": ones(packed), "w_scale": ones(), "w_point": zero.astype(np.int8)}
    cost = count(tmp_path, nodes, constants, x=["N", STEPS, WIDTH])
    assert (cost.unknown, cost.params) == ((), (WIDTH + 1) * packed)
    assert cost.macs - cost.nonzero_macs == STEPS * packed


def test_a_transformer_as_the_optimizer_writes_it_is_counted_throughout(tmp_path):
    nodes = [
        ms("MultiHeadAttention", ["x", "x", "x", "qkv_bias"], ["a"], num_heads=HEADS),
        ms("SkipLayerNormalization", ["a", "x", "scale", "shift"], ["s"]),
        N("MatMul", ["s", "up"], ["h"]),
        ms("FastGelu", ["h", "up_bias"], ["g"]),
        ms("FusedMatMul", ["g", "down"], ["y"], transB=1),
    ]
    constants = {"qkv_bias": ones(3 * WIDTH), "scale": ones(WIDTH), "shift": ones(WIDTH)}
    constants |= {"up": ones(WIDTH, 16), "up_bias": ones(16), "down": ones(WIDTH, 16)}
    cost = count(tmp_path, nodes, constants, x=["N", STEPS, WIDTH])
    assert cost.unknown == ()
    assert cost.macs == 2 * STEPS * PRODUCT + 2 * PRODUCT * 16
    assert cost.params == sum(value.size for value in constants.values())


@pytest.mark.parametrize("node", [N("Conv", ["s", "w"], ["y"]), ms("Unheard", ["s", "w"], ["y"])])
def test_parameters_do_not_need_the_sizes_that_only_a_run_shows(tmp_path, node):
    nodes = [N("NonZero", ["x"], ["at"]), N("Gather", ["x", "at"], ["s"]), node]
    cost = count(tmp_path, nodes, {"w": ones(4, 3, 3, 3)}, x=[1, 3, 9, 9])
    assert cost.unknown
    assert (cost.params, cost.nonzero_params) == (108, 108)


def test_what_follows_a_group_normalization_is_counted(tmp_path):
    """The onnx package infers its shape in no opset."""
    nodes = [N("GroupNormalization", ["x", "s", "s"], ["g"], num_groups=2), N("Conv", ["g", "w"], ["y"])]
    cost = count(tmp_path, nodes, {"s": ones(4), "w": ones(2, 4, 3, 3)}, opset=21, x=["N", 4, 5, 5])
    assert (cost.unknown, cost.macs, cost.params) == ((), 9 * 72, 76)


@pytest.mark.parametrize("kind", [np.float32, np.int8])
def test_what_follows_the_embedding_of_a_transformer_is_counted(tmp_path, kind):
    tables = {
        name: np.ones(shape, kind) for name, shape in zip("wpsgb", [(50, 8), (6, 8), (2, 8), (8,), (8,)], strict=True)
    }
    name = "EmbedLayerNormalization" if kind is np.float32 else "QEmbedLayerNormalization"
    nodes = [
        N("Cast", ["x"], ["ids"], to=TensorProto.INT32),
        ms(name, ["ids", "ids", *tables], ["e", "mask"]),
        ms("Attention", ["e", "qkv", "bias", "mask"], ["y"], num_heads=HEADS),
    ]
    constants = {**tables, "qkv": ones(WIDTH, 3 * WIDTH), "bias": ones(3 * WIDTH)}
    cost = count(tmp_path, nodes, constants, x=["N", STEPS])
    assert cost.unknown == ()
    assert cost.params == sum(value.size for value in constants.values())
    assert cost.macs == 3 * PRODUCT * WIDTH + 2 * STEPS * PRODUCT


@pytest.mark.parametrize("value", [[STEPS, 4], [HEADS, STEPS, 2]])
def test_what_follows_an_attention_has_the_width_of_its_values(tmp_path, value):
    key = [STEPS, WIDTH] if len(value) == 2 else [HEADS, STEPS, WIDTH // HEADS]
    nodes = [ms("MultiHeadAttention", ["x", "k", "v"], ["a"], num_heads=HEADS), N("MatMul", ["a", "w"], ["y"])]
    cost = count(tmp_path, nodes, {"w": ones(4, 5)}, x=["N", STEPS, WIDTH], k=["N", *key], v=["N", *value])
    assert cost.unknown == ()
    assert cost.macs == STEPS * STEPS * (WIDTH + 4) + STEPS * 4 * 5


@pytest.mark.parametrize("past", [0, 10])
def test_an_attention_of_grouped_queries_sees_the_past_and_itself(tmp_path, past):
    """Each head multiplies queries by keys and weights by values, whoever it shares them with."""
    held = ["past_key", "past_value"] if past else ["", ""]
    nodes = [
        ms("GroupQueryAttention", ["x", "k", "v", *held], ["a", "pk", "pv"], num_heads=4, kv_num_heads=2),
        N("MatMul", ["a", "w"], ["m"]),
        N("ReduceMean", ["pk"], ["n"], keepdims=0),
        N("Add", ["m", "n"], ["y"]),
    ]
    pasts = {name: ["N", 2, past, 2] for name in held if name}
    cost = count(tmp_path, nodes, {"w": ones(8, 5)}, x=["N", STEPS, 8], k=["N", STEPS, 4], v=["N", STEPS, 4], **pasts)
    assert cost.unknown == ()
    assert cost.macs == 2 * STEPS * (STEPS + past) * 8 + STEPS * 8 * 5


def test_the_width_of_a_packed_attention_is_not_made_up(tmp_path):
    nodes = [ms("MultiHeadAttention", ["x"], ["a"], num_heads=HEADS), N("MatMul", ["a", "w"], ["y"])]
    cost = count(tmp_path, nodes, {"w": ones(4, 5)}, x=["N", STEPS, HEADS, 3, 4])
    assert cost.macs == 0
    assert "MatMul (size known at run time only)" in cost.unknown


@pytest.mark.parametrize("kept", [["a"], ["a", "", ""], ["a", "pk", ""], ["a", "", "pv"]])
def test_an_attention_of_grouped_queries_may_leave_its_present_out(tmp_path, kept):
    nodes = [
        ms("GroupQueryAttention", ["x", "k", "v"], kept, num_heads=4, kv_num_heads=2),
        N("MatMul", ["a", "w"], ["y"]),
    ]
    cost = count(tmp_path, nodes, {"w": ones(8, 5)}, x=["N", STEPS, 8], k=["N", STEPS, 4], v=["N", STEPS, 4])
    assert cost.unknown == ()
    assert cost.macs == 2 * STEPS * STEPS * 8 + STEPS * 8 * 5


@pytest.mark.parametrize(("window", "past", "keys"), [(4, 0, 4), (4, 10, 4), (100, 10, STEPS + 10), (-1, 0, STEPS)])
def test_each_query_of_a_window_sees_so_many_keys(tmp_path, window, past, keys):
    held = {name: ["N", 2, past, 2] for name in ("pk", "pv")} if past else {}
    nodes = [
        ms(
            "GroupQueryAttention",
            ["x", "k", "v", *held],
            ["y"],
            num_heads=4,
            kv_num_heads=2,
            local_window_size=window,
        )
    ]
    cost = count(tmp_path, nodes, {}, x=["N", STEPS, 8], k=["N", STEPS, 4], v=["N", STEPS, 4], **held)
    assert (cost.unknown, cost.macs) == ((), 2 * STEPS * keys * 8)


@pytest.mark.parametrize(("declared", "keys"), [(10, 10), (10 + STEPS, 10 + STEPS)])
def test_a_past_that_is_the_buffer_of_the_present_bounds_the_keys(tmp_path, declared, keys):
    node = ms("GroupQueryAttention", ["x", "k", "v", "pk", "pv"], ["y", "nk", "nv"], num_heads=4, kv_num_heads=2)
    sizes = {"x": ["N", STEPS, 8], "k": ["N", STEPS, 4], "v": ["N", STEPS, 4], "pk": ["N", 2, 10, 2]}
    sizes["pv"] = sizes["pk"]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in sizes.items()]
    results = {"y": ["N", STEPS, 8], "nk": ["N", 2, declared, 2], "nv": ["N", 2, declared, 2]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in results.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", given, outputs), opset_imports=opsets, ir_version=10)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert cost_of(tmp_path / "m.onnx").macs == 2 * STEPS * keys * 8
