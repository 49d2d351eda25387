"""The worked examples of docs/examples.md."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CommandLine
from needs import lacking

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = {
    "regression.py": ("diabetes.npz", (1,)),
    "sequence.py": ("rows.npz", (10,)),
    "unet.py": ("masks.npz", (11, 32, 32)),
    "tokens.py": ("docstrings.npz", (3,)),
}
"""Script -> the data set that it writes, and the shape of one answer of its network."""


@pytest.fixture
def folder(tmp_path):
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
def pressbench(cache, folder):
    return CommandLine(folder=folder, environment={**os.environ, "PRESSBENCH_CACHE": str(cache)})


def script(folder, name, *arguments):
    """What the script ends with, and its names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            return 0, runpy.run_path(str(folder / name), run_name="__main__")
        except SystemExit as ended:
            return ended.code or 0, {}


def packaged(package, name):
    """A file that an installed package ships, or a skip."""
    try:
        return Path(str(next(file for file in files(package) if file.name == name).locate()))
    except PackageNotFoundError:
        lacking(package, f"pip install {package}")


@pytest.mark.parametrize("name", DATA)
def test_the_data_a_script_writes_fits_its_network(folder, name):
    file, answer = DATA[name]
    _, names = script(folder, name)
    with np.load(folder / file) as data:
        inputs = [torch.from_numpy(data[key][:2]) for key in data if key.startswith("x_train")]
        assert len(data["y_test"]) > 100
    assert names["build"]().eval()(*inputs).shape == (2, *answer)


def test_a_keyword_spotter_with_state_is_inspected_as_it_comes(pressbench):
    done = pressbench("inspect", packaged("pymicro-wakeword", "okay_nabu.tflite"))
    assert done.returncode == 0
    assert "input_audio" in done.stdout


@pytest.mark.slow
def test_int8_of_seven_bits_keeps_every_face_on_any_cpu(pressbench, folder, onnx_cases):
    packaged("scikit-image", "astronaut.png")
    before = onnx_cases / "version-RFB-320_simplified.onnx"
    script(folder, "faces.py", "prepare")
    assert script(folder, "faces.py", "check", before, before)[0] == 0
    given = ("--dataset", "", "--calibrate", "crops.npz", "--input-data", "faces.npz", "--recipe", "int8()")
    narrow = ("--option", "reduce_range=true")
    done = pressbench("compress", "--model", before, *given, *narrow, "--out", "faces-int8.onnx")
    assert done.returncode == 0, done.stderr
    assert script(folder, "faces.py", "check", before, "faces-int8.onnx")[0] == 0
