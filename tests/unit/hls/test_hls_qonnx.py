"""QONNX files as designs: the precision is the file's, the outputs are those of its own execution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper

from backends.hls import csim, verilate
from backends.hls.compile import HlsBackend
from backends.hls.design import Fixed, load, save
from backends.hls.evaluate import evaluate
from backends.hls.reading.execution import clean, execute, read_checked
from backends.hls.tool import Limits, ask
from bench.errors import CellFailed, Unsupported
from bench.types import Compressed, Conditions, QuantSpec, TensorSpec
from tests.fpga_nets import need_tools, samples_of
from tests.qonnx_nets import Graph, keras_row, small_binary, small_conv

NETWORKS = {"binary": (small_binary, (1, 4, 4)), "keras": (keras_row, (3, 4, 3)), "conv": (small_conv, (3, 8, 8))}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Fixed(3, 3, True, True, "half_even"), [0.0, 2.0, 2.0, -3.0]),
        (Fixed(3, 3, False, False, "floor"), [0.0, 1.0, 2.0, 0.0]),
    ],
)
def test_a_fixed_type_has_the_roundings_and_ends_of_qonnx(kind: Fixed, values: list[float]) -> None:
    """Halves to even or down; a narrow range lacks its least value, one without sign ends at 0."""
    assert kind.quantize(np.array([0.5, 1.5, 2.5, -9.0])).tolist() == values


@pytest.mark.parametrize("name", NETWORKS)
def test_a_design_is_the_qonnx_file(name: str, tmp_path: Path) -> None:
    """Channels first and last, scales for each channel, residual sums, `Trunc` and signs: outputs of its own execution.

    A sum that float32 puts on the other side of a step is one sample in many. The design reads back as written.
    """
    need_tools()
    build, shape = NETWORKS[name]
    samples = samples_of(shape)[:8]
    design, _ = read_checked(build(), samples)
    save(design, tmp_path / "design.npz")
    again = load(tmp_path / "design.npz")
    found = evaluate(again, again.turn(samples), fixed=True)[again.nodes[-1].name]
    wanted = execute(clean(build()), samples)
    assert (np.abs(found - wanted).max(axis=1) < 1e-3 * np.abs(wanted).max()).mean() > 0.8
    assert np.abs(wanted).max() > 0.1


def test_c_simulation_and_rtl_of_a_qonnx_file_are_the_design_to_the_bit(tmp_path: Path) -> None:
    """Halves to even, a range without sign, rows of an image with its channels last."""
    need_tools("g++", "verilator")
    samples = samples_of((3, 4, 3))
    design, _ = read_checked(keras_row(), samples[:4])
    inputs = design.turn(samples * 2)
    save(design, tmp_path / csim.DESIGN)
    values = evaluate(design, inputs, fixed=True)
    wanted = values[design.nodes[-1].name]
    csim.build(tmp_path, {"reuse_factor": 1, "strategy": "Latency", "io_type": "io_parallel"}, Limits())
    assert np.array_equal(csim.predict(tmp_path, design, inputs, Limits()), wanted)
    asked = {"adders_per_stage": 5, "search": True}
    (tmp_path / "rtl").mkdir()
    ports = ask("backends.hls.rtl", tmp_path / csim.DESIGN, tmp_path / "rtl", asked, Limits())
    entering = values[design.nodes[0].name].reshape(len(inputs), -1)
    assert verilate.find_latency(verilate.simulate(tmp_path / "rtl", ports, entering, Limits()), wanted)


def _refused(change: Callable[[Graph], str]) -> ModelProto:
    made = Graph()
    weight = made.quant(made.keep(made.weights(4, 2)), 0.5, 3)
    made.stored.append(helper.make_tensor("unused", 1, [1], [0.0]))
    made.weight = weight
    return made.model((4,), change(made), 2)


def _zero_point(made: Graph) -> str:
    given = (made.keep(0.5), made.keep(3.0), made.keep(4))
    x = made.op("Quant", "input", *given, domain=made.domain, signed=1, narrow=0, rounding_mode="ROUND")
    return made.op("MatMul", x, made.weight)


def _ceil(made: Graph) -> str:
    given = (made.keep(0.5), made.keep(0.0), made.keep(4))
    x = made.op("Quant", "input", *given, domain=made.domain, signed=1, narrow=0, rounding_mode="CEIL")
    return made.op("MatMul", x, made.weight)


REFUSED = {
    "zero point": (_zero_point, "with a zero point other than 0"),
    "rounding": (_ceil, "with rounding_mode CEIL"),
    "float weights": (
        lambda made: made.op("MatMul", made.quant("input", 0.5, 4), made.keep(made.weights(4, 2))),
        "that no Quant or BipolarQuant makes whole numbers of",
    ),
    "sums": (
        lambda made: made.op(
            "MatMul",
            made.quant("input", 2.0**-22, 24),
            made.quant(made.keep(made.weights(4, 2)), 2.0**-31, 32),
        ),
        "MatMul_0: its sums need 5. bits, simulated exactly are 53",
    ),
    "wide values": (lambda made: made.op("MatMul", made.quant("input", 1.0, 32), made.weight), "of 32 bits"),
    "operator": (
        lambda made: made.op("Tanh", made.op("MatMul", made.quant("input", 0.5, 4), made.weight)),
        r"operator Tanh \(Tanh_0\) has no form of whole numbers",
    ),
    "domain": (lambda made: made.op("Quant", "input", domain="os.path"), "of domain os.path is not one of QONNX here"),
    "finn": (
        lambda made: made.op("MultiThreshold", "input", domain=made.domain),
        "operator MultiThreshold .*FINN's own flow takes it; .* from before FINN's ConvertQONNXtoFINN",
    ),
}


def test_a_bias_of_32_bits_is_taken() -> None:
    """As Brevitas' Int32Bias exports it; a value of so many bits is not."""
    need_tools()
    made = Graph()
    product = made.op(
        "MatMul", made.quant("input", 0.125, 8), made.quant(made.keep(made.weights(4, 2)), 2.0**-5, 4, narrow=1)
    )
    made.op("Add", product, made.quant(made.keep(made.weights(2)), 2.0**-8, 32))
    _, said = read_checked(made.model((4,), made.nodes[-1].output[0], 2), samples_of((4,))[:8])
    assert said == "outputs equal the QONNX file's own on 8 of 8 drawn samples"


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_named(name: str) -> None:
    """A package of the file's choice is never imported."""
    need_tools()
    change, words = REFUSED[name]
    with pytest.raises(Unsupported, match=words):
        read_checked(_refused(change), samples_of((4,))[:2])


def test_a_design_that_is_not_the_file_fails_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout that was misread shows in most samples."""
    need_tools()
    move = np.moveaxis
    monkeypatch.setattr("backends.hls.design.np.moveaxis", lambda array, *axes: move(array, *axes)[..., ::-1])
    with pytest.raises(CellFailed, match="computes something else than the QONNX file in"):
        read_checked(small_conv(), samples_of((3, 8, 8))[:8])


def test_a_recipe_cannot_change_a_qonnx_file(tmp_path: Path) -> None:
    """Its precision is its own."""
    source = Compressed(
        model="net.onnx",
        recipe="r",
        files={"qonnx": tmp_path / "net.onnx"},
        inputs=(TensorSpec(name="input", shape=(1, 4)),),
        digest="d",
        quant=QuantSpec(kind="fixed"),
    )
    with pytest.raises(Unsupported, match="QONNX file, whose precision is its own: measure it without a recipe"):
        HlsBackend().compile(source, Conditions(batch=1, threads=1), {}, tmp_path)
