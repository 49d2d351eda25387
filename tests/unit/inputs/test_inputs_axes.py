"""Sizes and batch axes of a file's inputs, and what the user says of them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bench.errors import InvalidInput, Unsupported
from bench.formats.declared import Declared
from bench.inputs.axes import find_output_axis, settle
from bench.inputs.of_file import read_inputs
from bench.inputs.options import parse_feedback, parse_inputs
from bench.types import AskedInput, Model

FILE = Path("m.onnx")


def declared(**dims):
    return [
        Declared(name=name, dims=tuple(sizes), dtype="int64" if name == "ids" else "float32")
        for name, sizes in dims.items()
    ]


def settled(*texts, **dims):
    return {spec.name: (spec.shape, spec.axis) for spec in settle(declared(**dims), parse_inputs(texts), FILE).specs}


@pytest.mark.parametrize(
    ("dims", "texts", "wanted"),
    [
        ({"x": ["N", 3]}, (), {"x": ((-1, 3), 0)}),
        ({"x": ["a", 3], "h": [2, "a", 4], "s": []}, (), {"x": ((-1, 3), 0), "h": ((2, -1, 4), 1), "s": ((), None)}),
        ({"x": [None, 3], "m": [None, 4]}, (), {"x": ((-1, 3), 0), "m": ((-1, 4), 0)}),
        ({"x": ["T", "batch", 3]}, ("x=9,N,3",), {"x": ((9, -1, 3), 1)}),
        ({"x": ["b0", "s"], "m": ["b0", "s"]}, ("x=N,16",), {"x": ((-1, 16), 0), "m": ((-1, 16), 0)}),
        (
            {"x": [1, 512], "h": [2, 1, 64], "sr": []},
            (),
            {"x": ((1, 512), None), "h": ((2, 1, 64), None), "sr": ((), None)},
        ),
        ({"x": [4, 5], "m": [4, 6]}, (), {"x": ((4, 5), 0), "m": ((4, 6), 0)}),
        ({"x": [50, 1, 8]}, ("x=50,N,8",), {"x": ((50, 1, 8), 1)}),
        ({"x": ["N", 3], "h": [1, 4]}, ("x=1,3",), {"x": ((1, 3), 0), "h": ((1, 4), 0)}),
        ({"x": [1, 3, "H", "W"]}, ("x=1,3,8,9",), {"x": ((1, 3, 8, 9), 0)}),
    ],
)
def test_the_batch_axis_is_found_where_the_file_or_the_user_says(dims, texts, wanted):
    assert settled(*texts, **dims) == wanted


@pytest.mark.parametrize(
    ("dims", "texts", "said"),
    [
        (
            {"x": ["N", "seq"], "m": ["N", "seq"]},
            (),
            r"input 'x' has free sizes: axis 1 \('seq'\); give them: --input x=N,<seq>$",
        ),
        ({"x": ["N", "a"], "m": ["N", "b"]}, (), r"--input x=N,<a> --input m=N,<b>$"),
        ({"x": [1, 3, None, None]}, (), r"axis 2, axis 3; give them: --input x=1,3,<size>,<size>$"),
        ({"x": ["N", 3]}, ("y=N,3",), r"unknown input of m\.onnx in --input 'y'.*known: x"),
        ({"x": ["N", 3]}, ("x=N,4",), r"--input x=N,4 does not fit: the file's 'x' has shape \(N, 3\)"),
        ({"x": ["N", 3]}, ("x=N",), r"--input x=N does not fit"),
        ({"ids": ["N", 3]}, ("ids=N,3:int32",), r"the file's 'ids' is int64"),
        ({"x": ["N", "s"], "m": ["N", "s"]}, ("x=N,3", "m=N,4"), r"axes of one symbol have one size"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_option_that_does(dims, texts, said):
    with pytest.raises(InvalidInput, match=said):
        settled(*texts, **dims)


@pytest.mark.parametrize(
    ("dims", "output", "wanted"),
    [
        ({"x": ["N", 3], "h": [2, "N", 4]}, [2, "N", 4], (True, 1)),
        ({"x": ["N", 3]}, ["N", 2], (True, 0)),
        ({"x": ["N", 3]}, ["dets", 3], (False, None)),
        ({"x": [None, 3]}, [2, None], (True, 1)),
        ({"x": [1, 5], "h": [2, 1, 4]}, [2, 1, 4], (True, None)),
        ({"x": [4, 5]}, [4, 2], (False, None)),
    ],
)
def test_an_outputs_batch_axis_is_where_the_file_says(dims, output, wanted):
    inputs = declared(**dims)
    assert find_output_axis(Declared(name="y", dims=tuple(output)), inputs, settle(inputs, (), FILE)) == wanted


def test_an_option_is_read_and_written_back():
    texts = ("ids=N,128:int64", "state=2,N,64", "sr=", "args_0:0=1,3")
    assert tuple(map(str, parse_inputs(texts))) == texts
    assert parse_inputs(("sr=",)) == (AskedInput(name="sr", sizes=()),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "wanted NAME=SIZES"),
        ("=3", "wanted NAME=SIZES"),
        ("x=3,a", "'a' is not a size"),
        ("x=3,0", "from 1 up, found 0"),
        ("x=N,N", "can be there once"),
        ("x=3:text", "'text' is not a type of numbers"),
        ("x=3:U4", "'U4' is not a type of numbers"),
    ],
)
def test_a_text_that_is_no_input_is_refused(text, said):
    with pytest.raises(InvalidInput, match=said):
        parse_inputs((text,))


def test_an_input_that_is_given_twice_is_refused():
    with pytest.raises(InvalidInput, match="'x' is given twice"):
        parse_inputs(("x=1", "x=2"))


def test_feedback_names_an_output_and_an_input():
    assert parse_feedback(("h_out=h", "a=b=c")) == (("h_out", "h"), ("a=b", "c"))
    with pytest.raises(InvalidInput, match="wanted OUTPUT=INPUT"):
        parse_feedback(("h",))
    with pytest.raises(InvalidInput, match="fed by two outputs"):
        parse_feedback(("a=h", "b=h"))


def test_a_free_size_is_unsupported_so_that_other_models_go_on():
    with pytest.raises(Unsupported):
        settled(x=["N", "seq"])


def test_a_question_mark_is_not_one_symbol_for_all_free_sizes(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["?", 3, "?", "?"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    file = tmp_path / "paddle.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    model = Model(name="m", file=file, inputs=parse_inputs(["x=N,3,48,192"]))
    (spec,) = read_inputs(model).specs
    assert (spec.shape, spec.axis) == ((-1, 3, 48, 192), 0)
    with pytest.raises(Unsupported, match=r"axis 2, axis 3; give them: --input x=N,3,<size>,<size>$"):
        read_inputs(Model(name="m", file=file))
