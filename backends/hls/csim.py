"""hls4ml's C simulation: writes the project, compiles it with g++, runs it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backends.hls.design import Array, Design
from backends.hls.project import NAME
from backends.hls.tool import Limits, ask, run
from bench.errors import CellFailed
from bench.types import Json, Scalar

LIBRARY, WEIGHTS, DESIGN = "csim.so", "weights", "design.npz"
HLS4ML = "pip install 'pressbench[fpga]'"
APT = "make fpga (or: apt-get install g++ yosys verilator)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What hls4ml wrote: its version, and a row for each layer with weights (`name`, `reuse_factor`, `strategy`)."""

    version: str
    layers: tuple[Mapping[str, Json], ...]


def build(out: Path, options: Mapping[str, Scalar], limits: Limits, keep: Path | None = None) -> Built:
    """Compiles `out`/design.npz: `out`/csim.so and `out`/weights, which it reads when it runs.

    `keep`: where the project stays. Raises what `backends.hls.tool.run` raises.
    """
    with tempfile.TemporaryDirectory(prefix="pressbench-hls-") as place:
        folder = keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        reply = ask("backends.hls.project", out / DESIGN, folder, options, limits, remedy=HLS4ML)
        flags = ["-O2", "-fPIC", "-shared", "-std=c++17", "-w", "-fno-gnu-unique", "-Ifirmware/ap_types"]
        whole = folder / "whole.cpp"  # one unit: hls4ml's headers cost more than its code
        whole.write_text(f'#include "firmware/{NAME}.cpp"\n#include "{NAME}_bridge.cpp"\n', encoding="utf-8")
        weights = f'-DWEIGHTS_DIR="{WEIGHTS}"'
        run(["g++", *flags, weights, "-I.", whole.name, "-o", LIBRARY], folder, limits, remedy=APT)
        shutil.copyfile(folder / LIBRARY, out / LIBRARY)
        shutil.copytree(folder / "firmware" / WEIGHTS, out / WEIGHTS, ignore=shutil.ignore_patterns("*.h"))
    return Built(version=reply["version"], layers=tuple(reply["layers"]))


def predict(folder: Path, design: Design, samples: Array, limits: Limits) -> Array:
    """Outputs of the compiled simulation in `folder` of its design, (samples, outputs). `samples`: channels last."""
    with tempfile.TemporaryDirectory(prefix="pressbench-hls-") as place:
        given, made = Path(place) / "in.npy", Path(place) / "out.npy"
        np.save(given, samples.reshape(len(samples), -1))
        command = [sys.executable, "-m", "backends.hls.predict", str(folder / LIBRARY), str(given), str(made)]
        run([*command, str(design.nodes[-1].shape[0])], folder, limits, log=Path(place) / "tool.log")
        return np.asarray(np.load(made, allow_pickle=False), np.float64)


def check(design: Design, found: Array, wanted: Array, what: str) -> None:
    """Raises `CellFailed` where a simulation is not the design's arithmetic to the bit."""
    if found.shape == wanted.shape and np.array_equal(found, wanted):
        return
    wrong = int((found != wanted).any(axis=1).sum()) if found.shape == wanted.shape else len(wanted)
    raise CellFailed(
        f"{what} differs from the design's own arithmetic in {wrong} of {len(wanted)} samples: its figures are of "
        f"another network ({len(design.nodes)} nodes)"
    )
