"""The latency table of a target: each layer cut out, run there at sampled widths, in turns with a fixed reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.cache import find_or_make, forget, key
from bench.line.probes.board import Board
from bench.line.probes.cuts import Shape, write_chain, write_cut
from bench.line.probes.roofline import CHAIN, CHAIN_WIDTH
from bench.records import PairLaunch
from bench.search.groups import Space
from bench.search.nouns import Layer, Side
from bench.stats import ratio
from bench.types import Artifact, Json, Progress

SAMPLED = 4
"""Widths that are run on each side of a layer. Those between are interpolated."""
REFERENCE = Shape(window=(16, 16), kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
REFERENCE_WIDTH = 32
VERSION = 2
"""Of what an entry of the cache means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Times of one layer in ms: a row for each of `inputs`, a column for each of `outputs`. Depthwise: one row."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: NDArray[np.float64]

    def at(self, inputs: int, outputs: int) -> float:
        """Interpolated, linear on each side."""
        rows = [float(np.interp(outputs, self.outputs, row)) for row in self.ms]
        return rows[0] if len(rows) == 1 else float(np.interp(inputs, self.inputs, rows))


def measure_layers(
    space: Space, board: Board, *, cache: Path, folder: Path, progress: Progress, late: Callable[[float], bool]
) -> Mapping[str, Grid]:
    """Layer -> its times without those of a call, for all that can be cut out. Layers alike are timed once, and kept for other
    networks.

    {} as soon as `late` says so, asked before each layer with the share of the cuts that are timed. Raises what building
    and running a file raises.
    """
    reference = board.build(_write(folder, REFERENCE, REFERENCE_WIDTH, REFERENCE_WIDTH), "")
    call = _time_call(board, reference, cache, folder)
    timed = [(layer, *_widths(layer, space)) for layer in space.layers if layer.shape is not None]
    cuts = {(layer.shape, inputs, outputs): len(inputs) * len(outputs) for layer, inputs, outputs in timed}
    total, done = sum(cuts.values()), 0
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...], Mapping[str, Json]]] = {}
    for layer, inputs, outputs in timed:
        if late(done / total):
            return {}
        progress("latency table", done / total)
        found[layer.name] = inputs, outputs, _entry(layer, inputs, outputs, board, reference, cache, folder)
        done += cuts.pop((layer.shape, inputs, outputs), 0)  # layers alike are timed once
    reference_ms = float(np.median([entry["reference_ms"] for _, _, entry in found.values()])) if found else 0.0
    return {
        name: Grid(inputs=inputs, outputs=outputs, ms=np.maximum(0.0, np.array(entry["ratios"]) - call) * reference_ms)
        for name, (inputs, outputs, entry) in found.items()
    }


def forget_layers(space: Space, identity: Json, cache: Path) -> None:
    """Removes the table of these layers from the cache, so that another search times them."""
    forget(cache, "tables", _name_of_call(identity))
    for layer in space.layers:
        if layer.shape is not None:
            forget(cache, "tables", _name(identity, layer.shape, *_widths(layer, space)))


def _name_of_call(identity: Json) -> str:
    return key(version=VERSION, board=identity, chain=[CHAIN_WIDTH, CHAIN])


def _name(identity: Json, shape: Shape, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> str:
    return key(version=VERSION, board=identity, shape=asdict(shape), inputs=inputs, outputs=outputs)


def _widths(layer: Layer, space: Space) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The widths that are run on both sides. A depthwise layer has as many inputs as outputs, which 0 stands for."""
    depthwise = layer.shape is not None and layer.shape.depthwise
    return (0,) if depthwise else _sampled(layer.inputs, space), _sampled(layer.outputs, space)


def _sampled(side: Side, space: Space) -> tuple[int, ...]:
    """Numbers of channels from the fewest to all: those that a group's widths give, at most `SAMPLED`."""
    groups = {group: space.groups[group] for group in side.per}
    narrowest = {place: group.whole - group.widths[group.kept[0]] for place, group in groups.items()}
    given = {
        side.at({place: group.whole - group.widths[kept]}) for place, group in groups.items() for kept in group.kept
    }
    known = sorted({side.whole, side.at(narrowest), *given})
    places = np.unique(np.linspace(0, len(known) - 1, SAMPLED).round().astype(int))
    return tuple(known[place] for place in places)


def _entry(
    layer: Layer,
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    board: Board,
    reference: Artifact,
    cache: Path,
    folder: Path,
) -> Mapping[str, Json]:
    """The times of one layer over those of the reference, and the reference's own, from the cache or measured now."""
    shape = layer.shape
    assert shape is not None
    name = _name(board.identity, shape, inputs, outputs)

    def make(_folder: Path) -> Mapping[str, Json]:
        files = [_write(folder, shape, one or other, other) for one in inputs for other in outputs]
        launches = board.compare(reference, [board.build(file, "") for file in files])
        ratios = [ratio([launch]).ratio for launch in launches]
        starts = range(0, len(ratios), len(outputs))
        return {
            "ratios": [ratios[start : start + len(outputs)] for start in starts],
            "reference_ms": reference_ms(launches),
        }

    return find_or_make(cache, "tables", name, make).facts


def _time_call(board: Board, reference: Artifact, cache: Path, folder: Path) -> float:
    """What calling a network takes besides its layers, over the time of the reference: a layer that is cut out has a call of its
    own, in a network all layers have one. From the cache, or measured now by one small layer and a chain of them."""

    def make(_folder: Path) -> Mapping[str, Json]:
        files = {layers: folder / f"chain-{layers}.onnx" for layers in (1, CHAIN)}
        for layers, file in files.items():
            write_chain(file, CHAIN_WIDTH, layers)
        launches = board.compare(reference, [board.build(file, "") for file in files.values()])
        one, chain = (ratio([launch]).ratio for launch in launches)
        return {"ratio": max(0.0, one - (chain - one) / (CHAIN - 1))}

    return float(find_or_make(cache, "tables", _name_of_call(board.identity), make).facts["ratio"])


def reference_ms(launches: Sequence[PairLaunch]) -> float:
    """The median time of the first file of comparisons."""
    return float(np.median([[block[0], block[3]] for launch in launches for block in launch.blocks_ns])) / 1e6


def _write(folder: Path, shape: Shape, inputs: int, outputs: int) -> Path:
    path = folder / f"cut-{key(shape=asdict(shape), inputs=inputs, outputs=outputs)[:16]}.onnx"
    if not path.exists():
        write_cut(path, shape, inputs, outputs)
    return path
