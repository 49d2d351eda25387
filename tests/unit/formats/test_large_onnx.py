"""A model that is too large for one ONNX file is inspected and measured where it lies; the limit is lowered here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.onnx_tools import graph
from backends.ort.compile import OrtBackend
from backends.ort.session import OrtSession
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.cost.count import cost_of
from bench.errors import InvalidInput, Unsupported
from bench.formats import onnx_external, onnx_file
from bench.line.plan import subject_of
from bench.models.registry import resolve
from bench.types import Conditions

LIMIT = 6000
WEIGHT = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
WEIGHT[:8] = 0


@pytest.fixture
def large(tmp_path, monkeypatch) -> Path:
    """A file with 8 KiB of external data, over a limit of 6,000 bytes."""
    monkeypatch.setattr(onnx_file, "MAX_BYTES", LIMIT)
    monkeypatch.setattr(graph, "MAX_BYTES", LIMIT)
    return write(tmp_path / "brought")


def write(folder: Path) -> Path:
    folder.mkdir()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 64), ("y", 32))]
    node = helper.make_node("MatMul", ["x", "fc.weight"], ["y"], "fc")
    body = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(WEIGHT, "fc.weight")])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "large.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def make(path: Path, recipe: str, cache: Path):
    return compress(
        resolve(str(path)), parse_recipe("asked", recipe), data=None, cache=cache, seed=0, progress=lambda *_: None
    )


def test_it_is_measured_from_its_own_data_without_a_copy(large, tmp_path):
    source = make(large, "", tmp_path / "cache")
    assert source.files == {"onnx": large}
    out = tmp_path / "out"
    out.mkdir()
    artifact = OrtBackend().compile(source, Conditions(), {}, out)
    assert (out / "weights.bin").samefile(large.parent / "weights.bin")
    x = np.ones((1, 64), np.float32)
    session = OrtSession.open(artifact.path, threads=1, batch=1, options={})
    np.testing.assert_allclose(session.run({"x": x})[0], x @ WEIGHT, atol=1e-4)
    assert artifact.facts["file_bytes"] > WEIGHT.nbytes
    assert cost_of(artifact.path).file_bytes == artifact.facts["file_bytes"]


@pytest.mark.parametrize("recipe", ["dynamic_int8()", "int8_weights()", "float16()"])
def test_a_quantizer_refuses_it_with_the_reason(large, tmp_path, recipe):
    with pytest.raises(Unsupported, match=r"large\.onnx: its weights lie in files beside it, over 2 GB together"):
        OrtBackend().compile(make(large, recipe, tmp_path / "cache"), Conditions(), {}, tmp_path)


def test_steps_of_ours_refuse_it_with_the_reason(large, tmp_path):
    with pytest.raises(Unsupported, match="with its external data over 2 GB"):
        make(large, "prune(amount=0.5)", tmp_path / "cache")


def test_other_weights_beside_the_same_model_are_another_model(large, tmp_path):
    def content(path: Path) -> tuple[object, str]:
        return subject_of(resolve(str(path)), None), make(path, "", tmp_path / "cache").digest

    before = content(large)
    assert content(large) == before
    data = bytearray((large.parent / "weights.bin").read_bytes())
    data[-1] ^= 1
    (large.parent / "weights.bin").write_bytes(data)
    after = content(large)
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_zeros_are_counted_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_external, "PIECE", 100 * 4)
    cost = cost_of(write(tmp_path / "brought"))
    assert (cost.params, cost.nonzero_params) == (WEIGHT.size, np.count_nonzero(WEIGHT))


def test_data_of_another_length_than_its_tensor_is_refused(tmp_path):
    path = write(tmp_path / "brought")
    model = onnx.load(path, load_external_data=False)
    (length,) = (item for item in model.graph.initializer[0].external_data if item.key == "length")
    length.value = str(WEIGHT.nbytes - 4)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput, match=f"needs {WEIGHT.nbytes} bytes and its data has {WEIGHT.nbytes - 4}"):
        cost_of(path)


def test_its_free_axes_are_fixed_by_its_owner(large, tmp_path):
    model = onnx.load(large, load_external_data=False)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    large.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match="--input cannot fix sizes of a file over 2 GB"):
        compress(
            resolve(str(large), input_shape=(64,)),
            parse_recipe("asked", ""),
            data=None,
            cache=tmp_path,
            seed=0,
            progress=lambda *_: None,
        )
