"""Time of convolutions by their width, in each runtime here: which widths its kernels take well."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.compress.export import PLAIN_ENDS, export
from bench.device.job import Limits
from bench.device.timing import RunQueue, measure
from bench.line.stages import load_backend
from bench.types import Compressed, Conditions, TensorSpec

WIDTHS = (24, 26, 28, 31, 32, 36, 40, 45, 48)
SIZE = 28
BACKENDS = ("ort", "litert", "pytorch")


def main() -> Iterator[str]:
    yield f"three 3x3 convolutions of WIDTH channels, {SIZE}x{SIZE}, one thread: ps for one multiplication (asked: none)"
    for name in BACKENDS:
        macs = {width: 3 * 9 * width**2 * SIZE**2 for width in WIDTHS}
        yield f"{name}: " + "  ".join(f"{width}: {1e3 * fastest_ns(name, width) / macs[width]:.0f}" for width in WIDTHS)


def fastest_ns(name: str, width: int) -> float:
    """The fastest of up to 300 inferences of a backend."""
    backend = load_backend(name)
    with tempfile.TemporaryDirectory() as folder:
        source = _write(width, Path(folder))
        out = Path(folder) / "out"
        out.mkdir()
        artifact = backend.compile(source, Conditions(), {}, out)
        module, _, kind = str(backend.session).partition(":")
        options = artifact.facts.get("session_options", {})
        session = getattr(import_module(module), kind).open(artifact.path, threads=1, batch=1, options=options)
        spec = session.inputs()[0]
        run = session.bind({spec.name: np.random.default_rng(0).random(spec.shape, dtype=np.float32)})
        found = measure(run, RunQueue(Path("/")), Limits(warmup_s=0.1, min_samples=100, max_samples=300, width=0.0))
        return float(np.min(found.samples.elapsed_ns))


def _write(width: int, folder: Path) -> Compressed:
    torch.manual_seed(0)
    layers = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    made = export(network.eval(), (torch.randn(2, width, SIZE, SIZE),), PLAIN_ENDS)
    files = {"onnx": folder / "m.onnx", "pt2": folder / "m.pt2"}
    files["onnx"].write_bytes(made.onnx)
    files["pt2"].write_bytes(made.pt2)
    spec = TensorSpec(name=PLAIN_ENDS.inputs[0], shape=(-1, width, SIZE, SIZE))
    return Compressed(model=f"conv{width}", recipe="", files=files, inputs=(spec,), digest="")
