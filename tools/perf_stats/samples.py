"""Real samples, measured once and kept: launches of the smoke suite, and files run side by side.

FOLDER/pressbench.db   one run of the smoke suite with `LAUNCHES` launches a cell
FOLDER/equal-N.json    a network beside a file of other weights, as fast
FOLDER/slower-N.json   the same network beside one with a wider layer, about 2 % slower

Each of these parts is kept as soon as it is measured: what is interrupted goes on there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from bench.commands.compare import measure_files
from bench.commands.progress import watching
from bench.commands.run import run_suite
from bench.config.strict_toml import locate
from bench.config.suite import PACKAGE
from bench.line.plan import Request
from bench.line.versus.until import Patience
from bench.paths import cache_folder
from bench.records import PairLaunch, Record
from bench.store import Store

LAUNCHES = 20
PARTS, PAIRS = 4, 30
"""Launches of a part."""
BLOCKS = 20
"""Of a launch; a suite has 40 by default."""
DEPTH, CHANNELS, WIDER, SIZE = 18, 128, 20, 16
"""1x1 convolutions of 128 channels at 16 x 16; the middle one of the slower file has 148."""
EQUAL, SLOWER = "equal", "slower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Launches of two files side by side, in order, and the seconds that one took."""

    pairs: tuple[PairLaunch, ...]
    launch_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Everything that was measured. `cells`: records with `LAUNCHES` launches each."""

    cells: tuple[Record, ...]
    equal: Beside
    slower: Beside


def find_samples(folder: Path) -> Samples:
    """The samples in the folder; what is missing is measured first (about ten minutes)."""
    folder.mkdir(parents=True, exist_ok=True)
    equal = join([find_part(folder, f"{EQUAL}-{part}", wider=0, seed=1) for part in range(PARTS)])
    slower = join([find_part(folder, f"{SLOWER}-{part}", wider=WIDER, seed=0) for part in range(PARTS)])
    with Store.open(folder / "pressbench.db") as store:
        if not any(run.status == "finished" for run in store.runs()):
            measure_suite(folder, resume=any(run.status == "interrupted" for run in store.runs()))
        cells = tuple(record for record in store.records() if record.launches)
    return Samples(cells=cells, equal=equal, slower=slower)


def find_part(folder: Path, name: str, *, wider: int, seed: int) -> Beside:
    """A part that is there, or measured now."""
    place = folder / f"{name}.json"
    if not place.exists():
        print(f"measuring {name}", file=sys.stderr, flush=True)
        half = place.with_suffix(".part")
        half.write_bytes(TypeAdapter(Beside).dump_json(measure_beside(folder, wider, seed)))
        half.rename(place)
    return TypeAdapter(Beside).validate_json(place.read_bytes())


def join(parts: Sequence[Beside]) -> Beside:
    """All launches of the parts."""
    seconds = sum(part.launch_s * len(part.pairs) for part in parts)
    pairs = tuple(pair for part in parts for pair in part.pairs)
    return Beside(pairs=pairs, launch_s=seconds / len(pairs))


def measure_suite(folder: Path, *, resume: bool) -> None:
    """Runs the smoke suite with more launches than a night has, or continues an interrupted run of it."""
    text = locate("suite", "smoke", PACKAGE).read_text(encoding="utf-8")
    suite = folder / "smoke-long.toml"
    suite.write_text(f"{text}time_s = 0.3\n", encoding="utf-8")
    with watching(sys.stderr) as watch:
        run_suite(
            Request(target="cpu", suite=str(suite), launches=LAUNCHES),
            results=folder,
            url=None,
            resume=resume,
            report=False,
            cache=cache_folder(os.environ),
            watch=watch,
        )


def measure_beside(folder: Path, wider: int, seed: int) -> Beside:
    """`PAIRS` launches of the network beside another, as `pressbench nightly` runs a changed file."""
    before, after = folder / "good.onnx", folder / f"tonight-{wider}-{seed}.onnx"
    write_network(before, wider=0, seed=0)
    write_network(after, wider=wider, seed=seed)
    done = measure_files(
        target="cpu",
        backend=None,
        a=before,
        b=after,
        blocks=BLOCKS,
        patience=Patience(width=0.001, launches=PAIRS),
        threads=1,
        batch=1,
        cache=cache_folder(os.environ),
        progress=lambda _what, _done: None,
    )
    return Beside(pairs=done.pairs, launch_s=done.seconds / len(done.pairs))


def write_network(path: Path, *, wider: int, seed: int) -> None:
    """The ONNX file of the network; its middle layer has `wider` more channels."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    widths = [CHANNELS] * (DEPTH + 1)
    widths[DEPTH // 2] += wider
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU()]
    for before, after in zip([CHANNELS, *widths], widths, strict=False):
        layers += [nn.Conv2d(before, after, 1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, SIZE, SIZE),), str(path), dynamo=False, input_names=["x"])
