"""A network with every kind of layer a compressor meets, a data set it learns in a second, and fixtures of both."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.compress.interface import Context, Network
from bench.compress.recipe import parse_recipe
from bench.data.datasets import Dataset
from bench.data.parts import ArrayPart
from bench.models.training.fit import Schedule, fit
from bench.types import Model

MEASURE = """
[measure]
launches = 1
pairs = 1
blocks = 5
warmup_s = 0.01
time_s = 0.05
profile_runs = 0
"""
"""The table of a suite that measures for a moment."""
QUICK = f"""
name = "quick"
models = ["resnet8"]
{MEASURE}"""


class Small(nn.Module):
    """Every kind of layer a step meets: plain, depthwise and grouped convolution, BatchNorm, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.bn2 = nn.BatchNorm2d(12)
        self.fc1 = nn.Linear(48, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(self.bn2(self.pointwise(torch.relu(self.depthwise(x)))))
        x = nn.functional.max_pool2d(x, 4).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


class Branched(Small):
    """The same with a residual branch of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = x + self.branch(x)
        x = torch.relu(self.bn2(self.pointwise(torch.relu(self.depthwise(x)))))
        x = nn.functional.max_pool2d(x, 4).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


def small_data() -> Dataset:
    """Four classes told apart by the brightest quarter of an 8x8 image."""
    generator = np.random.default_rng(0)
    labels = np.arange(160, dtype=np.int64) % 4
    images = generator.random((160, 1, 8, 8), dtype=np.float32) * 0.5
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    return Dataset(
        name="quarters",
        train=ArrayPart((images[:128],), labels[:128]),
        test=ArrayPart((images[128:],), labels[128:]),
        classes=4,
    )


def write_quarters(folder: Path) -> None:
    """That data set as quarters.npz, and quick.toml, a suite that measures for a moment."""
    (folder / "quick.toml").write_text(QUICK)
    data = small_data()
    parts = {"train": data.train, "test": data.test}
    inputs = {f"x_{name}": part.inputs(slice(None))[0] for name, part in parts.items()}
    np.savez(
        folder / "quarters.npz", **inputs, **{f"y_{name}": part.targets(slice(None)) for name, part in parts.items()}
    )


def context_of(module: nn.Module, folder: Path) -> Context:
    """What a step may use on the small data set; `folder` is its cache."""
    data = small_data()
    return Context(
        teacher=module,
        data=data,
        example=(torch.from_numpy(data.train.x[0][:2]),),
        seed=0,
        cache=folder,
        progress=lambda what, fraction: None,
    )


def train_small(module: nn.Module, *, epochs: int) -> None:
    """Trains it in place on the small data set."""
    schedule = Schedule(epochs=epochs, learning_rate=3e-3)
    fit(module, small_data(), schedule, seed=0, progress=lambda what, fraction: None)


def run(text: str, network: Network, context: Context) -> Network:
    """The network after the steps of a recipe."""
    for step in parse_recipe("r", text).steps:
        network = step.apply(network, context)
    return network


def digest(module: nn.Module) -> str:
    state = hashlib.sha256()
    for name, value in module.state_dict().items():
        state.update(name.encode() + value.numpy().tobytes())
    return state.hexdigest()


def settled(kind: type[Small] = Small) -> Small:
    """Seeded weights, BatchNorm's statistics those of random images."""
    torch.manual_seed(0)
    module = kind().train()
    with torch.no_grad():
        for _ in range(5):
            module(torch.rand(32, 1, 8, 8))
    return module.eval()


def factory() -> nn.Module:
    """What a user's `--model small_network:factory` names."""
    return Small()


prepared = partial(Small)
"""A callable that is written nowhere itself."""

MODEL = Model(
    name="small_network:factory", factory="small_network:factory", input_shape=(1, 8, 8), classes=4, data="quarters"
)
