"""What the engine inspector says, in TensorRT 10's words and in 11's, and what counts as a fallback."""

from __future__ import annotations

import json

import pytest

from backends.trt.layers import count_multiplying, find_fallbacks, read_layers, summarize
from bench.types import FLOAT32, Precision


def conv(name: str, words: dict[str, str], **more: object) -> dict[str, object]:
    return {"Name": name, "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", **words}], **more}


def read(*layers: object):
    return read_layers(json.dumps({"Layers": list(layers)}))


@pytest.mark.parametrize(
    ("words", "takes"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}, "int8"),
        ({"Format/Datatype": "Row major linear FP16 format"}, "float16"),
        ({"Format/Datatype": "Half"}, "float16"),
        ({"Format/Datatype": "Row major linear BFloat16 format"}, "bfloat16"),
        ({"Format/Datatype": "Row major linear FP32"}, "float32"),
        ({"DataType": "Float", "Format": "Row major linear FP32 format (kLINEAR)"}, "float32"),
        ({"DataType": "Int8", "Format": "kCHW32"}, "int8"),
        ({}, ""),
    ],
)
def test_a_layers_type_is_read_in_the_words_of_either_version(words, takes):
    (layer,) = read(conv("a", words))
    assert (layer.name, layer.takes, layer.multiplies) == ("a", takes, True)


def test_int8_weights_or_an_int8_kernel_make_a_layer_int8():
    wide = {"Format/Datatype": "Row major linear FP32"}
    by_weights = conv("a", wide, Weights={"Type": "Int8", "Count": 9})
    by_kernel = conv("b", wide, TacticName="sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32")
    assert [layer.takes for layer in read(by_weights, by_kernel)] == ["int8", "int8"]


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"Layers": []}'])
def test_an_inspector_that_says_nothing_is_no_evidence_that_int8_ran(text):
    assert read_layers(text) == ()
    (reason,) = find_fallbacks(read_layers(text), Precision(asked="int8"))
    assert "it is unknown what ran" in reason
    assert find_fallbacks(read_layers(text), FLOAT32) == (), "float32 has nothing to fall back to"


def test_an_engine_that_tells_names_only_is_not_believed():
    layers = read("conv1 + relu1", "fc")
    assert [layer.name for layer in layers] == ["conv1 + relu1", "fc"]
    (reason,) = find_fallbacks(layers, Precision(asked="float16"))
    assert "of 2 layers the inspector shows none as multiplying" in reason


def test_a_multiplying_layer_without_a_type_is_not_believed_and_is_named():
    (reason,) = find_fallbacks(read(conv("a", INT8), conv("mute", {})), Precision(asked="int8"))
    assert reason == "asked for int8, it is unknown what 1 of 2 multiplying layers took: mute"


FLOAT, HALF, INT8 = ({"DataType": kind} for kind in ("Float", "Half", "Int8"))


@pytest.mark.parametrize(
    ("asked", "left", "kinds", "wrong"),
    [
        ("int8", "", (INT8, INT8), 0),
        ("int8", "", (INT8, FLOAT), 1),
        ("int8", "", (HALF, FLOAT), 2),
        ("int8", "head", (INT8, FLOAT), 0),
        ("int8", "head", (FLOAT, FLOAT), 1),
        ("float16", "", (HALF, HALF), 0),
        ("float16", "", (HALF, FLOAT), 1),
        ("float32", "", (FLOAT, FLOAT), 0),
        ("tf32", "", (FLOAT, FLOAT), 0),
    ],
)
def test_a_fallback_is_a_wider_type_than_asked_for_beyond_what_was_left_wide(asked, left, kinds, wrong):
    layers = read(*(conv(f"layer{index}", words) for index, words in enumerate(kinds)))
    found = find_fallbacks(layers, Precision(asked=asked, keep_float=tuple(left.split())))
    assert ["of 2 multiplying layers" in reason for reason in found] == [True] * (wrong > 0)
    assert [int(reason.split(" of 2 ")[0].rsplit(" ", 1)[1]) for reason in found] == [wrong] * (wrong > 0)


def test_layers_that_do_not_multiply_may_be_float():
    pool = {"Name": "pool", "LayerType": "TiledPooling", "Inputs": [FLOAT]}
    assert find_fallbacks(read(conv("a", INT8), pool), Precision(asked="int8")) == ()


def test_the_summary_counts_kinds_and_names_the_kernels():
    found = summarize(read(conv("a", INT8, TacticName="sm80_i8"), {"Name": "pool", "LayerType": "TiledPooling"}))
    assert found == {
        "count": 2,
        "kinds": {"CaskConvolution int8": 1, "TiledPooling": 1},
        "multiplying": [{"name": "a", "takes": "int8", "tactic": "sm80_i8"}],
    }


def test_multiplying_layers_are_counted_by_type_and_one_without_a_type_is_unknown():
    assert count_multiplying(read(conv("a", INT8), conv("b", HALF), conv("mute", {}))) == {
        "float16": 1,
        "int8": 1,
        "unknown": 1,
    }
