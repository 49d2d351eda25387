"""QONNX files are counted as the networks they are, with the bits of each layer, and without the `qonnx` package."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from rich.console import Console

from bench.compress.model_files import base_from_file
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.cost.count import cost_of
from bench.errors import Unsupported
from bench.line.own_models import find_form
from bench.models.from_onnx.load import load_network
from bench.report.layers import layer_table
from bench.types import Model
from tests.qonnx_nets import Graph, small_binary, small_conv


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas"])
def test_a_qonnx_network_is_counted_with_its_bits(tmp_path: Path, domain: str) -> None:
    """Two convolutions and a head: macs = places x weights; nothing is unknown, and scales are not parameters."""
    file = tmp_path / "net.onnx"
    onnx.save(small_conv(domain), str(file))
    cost = cost_of(file)
    layers = [layer for layer in cost.layers if layer.macs]
    assert [(one.macs, one.weight_bits, one.activation_bits) for one in layers] == [
        (64 * 4 * 27, 4, 8),
        (64 * 4 * 36, 3, 4),
        (3 * 16, 2, 4),
    ]
    assert [one.params for one in layers] == [4 * 27 + 4, 4 * 36, 3 * 16 + 3]
    assert cost.unknown == ()
    out = StringIO()
    Console(file=out, width=120).print(layer_table("net", cost))
    assert "bits" in out.getvalue()
    assert "3 x 4" in out.getvalue()


def test_weights_that_a_quantizer_rounds_to_zero_are_zero(tmp_path: Path) -> None:
    """With a scale of 2, weights below 1 in size are 0: no MAC of theirs is left, and a file without import is read."""
    made = Graph()
    weight = made.quant(made.keep(made.weights(8, 2)), 2.0, 4)
    onnx.save(made.model((8,), made.op("MatMul", "input", weight), 2, imports=False), str(tmp_path / "net.onnx"))
    cost = cost_of(tmp_path / "net.onnx")
    assert (cost.macs, cost.nonzero_macs) == (16, 0)
    assert cost.layers[-1].activation_bits is None


@pytest.mark.parametrize(
    ("bits", "attributes", "kept"),
    [
        (1, {}, 4),  # a sign: 1 from 0 on, else -1
        (2, {}, 1),
        (2, {"rounding_mode": "HALF_EVEN"}, 1),
        (2, {"rounding_mode": "FLOOR"}, 2),
        (2, {"rounding_mode": "ceil"}, 1),
        (2, {"rounding_mode": "NOISY"}, 4),
        (2, {"signed": 0, "rounding_mode": "FLOOR"}, 0),
        (2, {"signed": 0, "rounding_mode": "CEIL"}, 1),
        (2, {"signed": 0, "zero": 2.0}, 4),  # -0.8 is stored as 1
        (2, {"rounding_mode": 3}, 4),
    ],
)
def test_zeros_of_a_quantizer_are_those_of_its_own_width_and_rounding(
    tmp_path: Path, bits: int, attributes: dict[str, Any], kept: int
) -> None:
    """Of the weights -0.8, -0.2, 0 and 0.3. One that rounds in a way that is not known leaves all of them."""
    made = Graph()
    stored = made.keep(np.array([[-0.8], [-0.2], [0.0], [0.3]]))
    attributes = dict(attributes)
    given = (made.keep(1.0), made.keep(attributes.pop("zero", 0.0)), made.keep(bits))
    weight = made.op("Quant", stored, *given, domain=made.domain, **{"rounding_mode": "ROUND", **attributes})
    onnx.save(made.model((4,), made.op("MatMul", "input", weight), 1), str(tmp_path / "net.onnx"))
    cost = cost_of(tmp_path / "net.onnx")
    assert (cost.macs, cost.nonzero_macs) == (4, kept)


def test_a_network_of_finn_is_counted_with_the_bits_of_its_thresholds(tmp_path: Path) -> None:
    """Old files import no operator set for the domain."""
    made = Graph("finn.custom_op.general")
    x = made.op("MultiThreshold", "input", made.keep([[0.0, 0.5, 1.0]]), domain=made.domain, out_dtype="UINT2")
    weight = made.keep(np.sign(made.weights(8, 2)))
    onnx.save(made.model((8,), made.op("MatMul", x, weight), 2, imports=False), str(tmp_path / "net.onnx"))
    cost = cost_of(tmp_path / "net.onnx")
    (layer,) = (layer for layer in cost.layers if layer.macs)
    assert (layer.macs, layer.activation_bits, cost.unknown) == (16, 2, ())
    assert find_form(tmp_path / "net.onnx") == "qonnx"


def test_a_qonnx_file_is_a_format_of_its_own(tmp_path: Path) -> None:
    """Backends are chosen by it, and steps that change float networks say what it is and where it goes."""
    file = tmp_path / "net.onnx"
    onnx.save(small_binary(imports=False), str(file))
    model = Model(name="net.onnx", file=file)
    assert find_form(file) == "qonnx"
    assert list(base_from_file(model, (), tmp_path).files) == ["qonnx"]
    with pytest.raises(Unsupported, match=r"net.onnx is a QONNX file, quantized already, .* target fpga takes it"):
        load_network(file, model)
    with pytest.raises(Unsupported, match="quantized already: measure it without a recipe; target fpga takes it"):
        compress(model, parse_recipe("int8", "int8()"), data=None, cache=tmp_path, seed=0, progress=lambda *_: None)
