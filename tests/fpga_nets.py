"""Small networks for the FPGA tests, exported as recipes export them, and what those tests need of this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from backends.hls.design import Design
from backends.hls.reading.plain import read_design
from backends.onnx_tools.graph import fix_batch, name_nodes
from backends.onnx_tools.ready import prepare
from bench.compress.export import export
from bench.types import Compressed, QuantSpec, TensorSpec
from tests.needs import lacking


def need_tools(*programs: str) -> None:
    """Skips, or fails in CI, where hls4ml, da4ml or a program is missing."""
    absent = [name for name in ("hls4ml", "da4ml", "qonnx") if find_spec(name) is None]
    absent += [name for name in programs if which(name) is None]
    if absent:
        lacking("fpga", f"{', '.join(absent)} not installed: make fpga")


class Residual(nn.Module):
    """Three channels in, padding, stride, a residual sum, both kinds of pooling, and a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.third = nn.Conv2d(2, 3, 3, stride=2)
        self.head = nn.Linear(3 * 1 * 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.second(x))
        x = torch.max_pool2d(x, 2, stride=1)
        x = torch.relu(self.third(x))
        return self.head(nn.functional.avg_pool2d(x, 2).flatten(1))


class Flattened(nn.Module):
    """An image of several places and channels that becomes a row: the order of its values decides the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 2)
        self.head = nn.Linear(2 * 2 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


class Entering(nn.Module):
    """Its first layer is called as the input of a network is, of an image of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Linear(64, 8)
        self.output = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.input(x.flatten(1))))


def small_mlp() -> nn.Module:
    """4 - 3 - 2."""
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with weights of this seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    return network.eval()


def design_of(network: nn.Module, shape: tuple[int, ...], folder: Path) -> Design:
    """The design, as the backend reads it."""
    model = onnx.load_from_string(export(network, (torch.rand(2, *shape),)).onnx)
    name_nodes(model)
    return read_design(prepare(fix_batch(model, 1, Path("model.onnx")), folder, 13))


def samples_of(shape: tuple[int, ...], count: int = 40) -> np.ndarray:
    """Seeded inputs from -1 to 1."""
    return np.random.default_rng(1).uniform(-1, 1, (count, *shape)).astype(np.float32)


def source_of(network: nn.Module, shape: tuple[int, ...], folder: Path, quant: QuantSpec | None) -> Compressed:
    """The network as a compressed one, with calibration samples."""
    path, samples = folder / "model.onnx", folder / "samples.npz"
    path.write_bytes(export(network, (torch.rand(2, *shape),)).onnx)
    np.savez(samples, input=samples_of(shape))
    return Compressed(
        model="small",
        recipe="r",
        files={"onnx": path},
        inputs=(TensorSpec(name="input", shape=(-1, *shape)),),
        digest="d",
        quant=quant,
        calibration=samples if quant else None,
    )
