"""The .pt2 file names its outputs as the ONNX file beside it does, also after a cast."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from backends.programs.archive import read_output_names
from backends.pytorch.compile import PytorchBackend
from backends.pytorch.session import PytorchSession
from bench.compress.export import Ends, export
from bench.types import Compressed, Conditions, TensorSpec


def save_nameless() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(3, 4), (torch.zeros(2, 3),)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("named", [("scores",), ()])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_session_of_pytorch_names_its_outputs(tmp_path, named, precision):
    content = export(nn.Linear(3, 4), (torch.zeros(2, 3),), Ends(outputs=named)).pt2 if named else save_nameless()
    (tmp_path / "network.pt2").write_bytes(content)
    source = Compressed(
        model="m",
        recipe="baseline",
        files={"pt2": tmp_path / "network.pt2"},
        inputs=(TensorSpec(name="input", shape=(-1, 3)),),
        digest="d",
    )
    (tmp_path / "out").mkdir()
    options = {"precision": precision}
    artifact = PytorchBackend().compile(source, Conditions(batch=2), options, tmp_path / "out")
    assert read_output_names(artifact.path) == named
    session = PytorchSession.open(artifact.path, threads=1, batch=2, options=options, precision=artifact.precision)
    assert session.outputs() == named
