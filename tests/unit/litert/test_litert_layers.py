"""Layers are found again in the converted file by their weights, and ONNX conversions are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backends.tflite import from_onnx
from backends.tflite.convert import to_tflite
from backends.tflite.graph import describe, open_plain, read, weight
from backends.tflite.layers import match_layers
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.types import Compressed, TensorSpec

pytest.importorskip("ai_edge_litert", reason="pip install 'pressbench[litert]'")


def stored(path: Path) -> dict[str, np.ndarray]:
    """The file's weights as a torch network would name and lay them out."""
    interpreter = open_plain(path)
    found = {}
    for operator in describe(interpreter).weighted():
        array = weight(interpreter, operator)
        if operator.kind == "DEPTHWISE_CONV_2D":
            array = np.moveaxis(array, -1, 0)  # (channels, 1, h, w)
        elif array.ndim == 4:
            array = np.moveaxis(array, -1, 1)
        found[f"layer{operator.index}.weight"] = array
    return found


@pytest.mark.parametrize("stem", ["pretrainedResnet", "vww_96_float", "ad01_fp32"])
def test_every_layer_is_found_whatever_its_scale_sign_and_order(tflite_cases: Path, stem: str) -> None:
    """Folded BatchNorms scale and flip channels; neither that nor another order hides a layer."""
    path = tflite_cases / f"{stem}.tflite"
    generator = np.random.default_rng(0)
    weights = {}
    for name, array in reversed(stored(path).items()):
        gain = generator.uniform(0.1, 10, len(array)) * generator.choice([-1, 1], len(array))
        weights[name] = array * gain.reshape(-1, *[1] * (array.ndim - 1))
    found = match_layers(path, weights)
    assert len(found) == len(weights) == len(read(path).weighted())
    assert all(layer == f"layer{index}" for index, layer in found.items())


def test_a_foreign_layer_is_not_found(tflite_cases: Path) -> None:
    """Weights of the same shape but other values are another layer."""
    path = tflite_cases / "ad01_fp32.tflite"
    generator = np.random.default_rng(0)
    others = {name: generator.standard_normal(array.shape) for name, array in stored(path).items()}
    assert match_layers(path, others) == {}


def source(onnx_cases: Path) -> Compressed:
    return Compressed(
        model="slim",
        recipe="r",
        files={"onnx": onnx_cases / "version-slim-320_simplified.onnx"},
        inputs=(TensorSpec(name="input", shape=(1, 3, 240, 320)),),
        digest="d",
    )


def test_an_onnx_file_is_converted_checked_and_left_alone(onnx_cases: Path, tmp_path: Path) -> None:
    """UltraFace through onnx2tf: outputs agree with ONNX Runtime, and the input file keeps its bytes."""
    if not (from_onnx.folder() / "onnx2tf").is_dir():
        pytest.skip(from_onnx.INSTALL)
    before = (onnx_cases / "version-slim-320_simplified.onnx").read_bytes()
    artifact = to_tflite(source(onnx_cases), 1, tmp_path, float_io=True)
    assert (onnx_cases / "version-slim-320_simplified.onnx").read_bytes() == before
    assert artifact.facts["checked_against"].startswith("onnxruntime")
    assert artifact.facts["session_options"] == {"layout": "channels_last"}


def test_without_onnx2tf_the_install_line_is_told(
    onnx_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing extra is `Unavailable`, with the command that gets it."""
    monkeypatch.setattr(from_onnx.sys, "prefix", str(tmp_path))
    with pytest.raises(Unavailable, match=r"backends\.tflite\.from_onnx"):
        from_onnx.convert(onnx_cases / "version-slim-320_simplified.onnx", 1, tmp_path / "out.tflite")


IMAGES = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def test_the_layout_of_outputs_is_found_by_comparing() -> None:
    """Channel-last images are recognised; so is a plain vector; unequal numbers are refused."""
    assert from_onnx._agree([IMAGES], [np.moveaxis(IMAGES, -1, 1)], turned=True) == "channels_last_io"
    assert from_onnx._agree([IMAGES], [IMAGES], turned=True) == "channels_last"
    assert from_onnx._agree([IMAGES[0, 0]], [IMAGES[0, 0]], turned=False) == "model"
    with pytest.raises(Unsupported, match="something else"):
        from_onnx._agree([IMAGES], [IMAGES + 1], turned=True)
    with pytest.raises(Unsupported, match="outputs"):
        from_onnx._agree([IMAGES], [], turned=True)


def test_a_damaged_archive_is_the_users_to_mend(tmp_path: Path) -> None:
    """A file that is no torch.export archive is refused by name."""
    pytest.importorskip("litert_torch", reason="pip install 'pressbench[litert]'")
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\x03\x04 not a zip after all")
    (tmp_path / "out").mkdir()
    other = Compressed(model="m", recipe="r", files={"pt2": path}, inputs=(), digest="d")
    with pytest.raises(InvalidInput, match=r"net\.pt2"):
        to_tflite(other, 1, tmp_path / "out", float_io=True)
