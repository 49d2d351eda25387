"""A user's own .tflite: what came quantized is refused by name, and what a conversion left behind is not the runtime's fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_torch")

import torch
from torch import nn

from backends.litert.session import HEAVY
from backends.tflite import graph
from backends.tflite.convert import to_tflite
from bench.device.stored import write_npz
from bench.errors import InvalidInput, Unsupported
from bench.types import Compressed, QuantSpec, TensorSpec

STATIC = QuantSpec(kind="static")
KINDS = {
    "int8": STATIC,
    "int16x8": QuantSpec(kind="static", activation_bits=16),
    "dynamic": QuantSpec(kind="dynamic"),
    "int4 weights": QuantSpec(kind="weight_only", weight_bits=4),
    "float16 weights": QuantSpec(kind="weight_only", weight_bits=16),
}


def exported(folder: Path, module: nn.Module, shape: tuple[int, ...]) -> Path:
    program = torch.export.export(module.eval(), (torch.zeros(1, *shape),))
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


def source(path: Path, shape: tuple[int, ...], spec: QuantSpec | None, name: str = "x") -> Compressed:
    data = path.parent / "data.npz"
    write_npz(data, {name: np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)})
    return Compressed(
        model="net",
        recipe="r",
        files={path.suffix[1:]: path},
        inputs=(TensorSpec(name=name, shape=(-1, *shape)),),
        digest="d",
        quant=spec,
        calibration=data,
    )


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One network in every precision that LiteRT has."""
    folder = tmp_path_factory.mktemp("net")
    network = exported(folder, nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)), (64,))
    made = {}
    for name, spec in KINDS.items():
        out = folder / name
        out.mkdir()
        made[name] = to_tflite(source(network, (64,), spec), 1, out, float_io=True).path
    return made


@pytest.mark.parametrize("spec", [STATIC, KINDS["dynamic"], QuantSpec(kind="float16")], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_quantized_file_is_not_quantized_again(kind, spec, quantized, tmp_path):
    (name,) = (item.name for item in [graph.read(quantized[kind]).tensors[graph.read(quantized[kind]).inputs[0]]])
    with pytest.raises(Unsupported, match=r"model.tflite: the network is quantized already \(it holds "):
        to_tflite(source(quantized[kind], (64,), spec, name), 1, tmp_path, float_io=True)


def test_a_file_of_our_own_that_litert_cannot_run_blames_the_conversion(tmp_path):
    network = exported(tmp_path, nn.Sequential(nn.ConvTranspose3d(1, 4, 2, 2), nn.ReLU()), (1, 4, 4, 4))
    reason = "the conversion made here does not suit LiteRT.*STABLEHLO_CONVOLUTION.*the backend ort runs it"
    with pytest.raises(Unsupported, match=reason):
        to_tflite(source(network, (1, 4, 4, 4), None), 1, tmp_path, float_io=True)


def test_a_refusal_names_the_operator_that_litert_has_no_kernel_for():
    said = ValueError("Didn't find op for builtin opcode 'STABLEHLO_SORT' version '1'. An older version ...")
    found = graph.explain_refusal(Path("mine.tflite"), said)
    assert isinstance(found, Unsupported)
    assert str(found) == "mine.tflite: LiteRT has no kernel for its operator STABLEHLO_SORT"
    assert type(graph.explain_refusal(Path("mine.tflite"), ValueError("bad"))) is InvalidInput


def test_the_session_judges_every_operator_that_multiplies():
    assert set(graph.MULTIPLYING) == HEAVY


@pytest.mark.parametrize("rename", ["none", "one for all"])
@pytest.mark.parametrize("spec", [STATIC, KINDS["dynamic"]], ids=lambda spec: spec.kind)
def test_tensors_without_names_of_their_own_are_quantized(rename, spec, tmp_path):
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
    from flatbuffers import Builder

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    (tmp_path / "float").mkdir()
    made = to_tflite(source(exported(tmp_path, network, (8,)), (8,), None), 1, tmp_path / "float", float_io=True).path
    model = schema.ModelT.InitFromPackedBuf(made.read_bytes(), 0)
    model.signatureDefs = None
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None if rename == "none" else b"t"
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    brought = tmp_path / "brought.tflite"
    brought.write_bytes(bytes(builder.Output()))
    given = source(brought, (8,), spec, "" if rename == "none" else "t")
    (tmp_path / "int8").mkdir()
    done = to_tflite(given, 1, tmp_path / "int8", float_io=True)
    assert "int8" in {tensor.dtype for tensor in graph.read(done.path).tensors.values()}
    x = np.linspace(-1, 1, 8, dtype=np.float32)[None]
    outputs = []
    for file in (brought, done.path):
        session = Interpreter(str(file))
        session.allocate_tensors()
        session.set_tensor(session.get_input_details()[0]["index"], x)
        session.invoke()
        outputs.append(session.get_tensor(session.get_output_details()[0]["index"]))
    np.testing.assert_allclose(outputs[1], outputs[0], atol=0.1)
