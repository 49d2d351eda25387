"""The roofline of a target: what a backend reaches there on small networks of our own, kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, sqrt
from pathlib import Path
from statistics import median

from bench.cache import find_or_make, key, read
from bench.config.target import BackendChoice, Target
from bench.cost.roofline.bound import CALL, FACT, NODE, Roofline, as_facts, name_size, read_roofline
from bench.errors import CellFailed, InvalidInput, Untrusted
from bench.line.probes.board import Board
from bench.line.probes.cuts import Shape, write_chain, write_cut
from bench.records import PairLaunch
from bench.stats.latency import keep_clean
from bench.types import Artifact, Progress

VERSION = 1
"""Of what an entry of the cache means."""
LAUNCHES = 3
SETTLED = 0.1
"""A figure has settled where the second fastest process is slower by no more than this share."""
CHAIN, CHAIN_WIDTH = 64, 16
"""Layers of the chain that shows what one more node costs, and its channels."""
PRECISIONS = {"int8": "int8(samples=4)", "float16": "float16()", "bfloat16": "bfloat16()"}
"""Precision beside float32 -> the recipe that asks for it."""
SHORTEST_S = 1e-9
"""The least that a difference of two times can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the networks are. `window`: side of the input of the two convolutions. `around`, `pointwise`: channels
    of the 3x3 and of the 1x1 one. `weights`: bytes of the matrices that a vector is multiplied with, ascending."""

    window: int
    around: int
    pointwise: int
    weights: tuple[int, ...]


CPU = Sizes(window=16, around=192, pointwise=512, weights=(2**18, 2**22, 2**26))
ACCELERATOR = Sizes(window=56, around=512, pointwise=2048, weights=(2**22, 2**26, 2**28))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a roofline holds for: one backend of a target on so many threads, on the device and with the version that ran."""

    target: Target
    choice: BackendChoice
    threads: int
    device: str
    version: str

    @property
    def name(self) -> str:
        """Of its entry in the cache."""
        return key(
            version=VERSION,
            device=self.device,
            settings=asdict(self.target.settings),
            pin=self.target.pin,
            backend=self.choice.name,
            runtime=self.version,
            options=sorted(map(str, self.choice.options.items())),
            threads=self.threads,
        )


@dataclass(slots=True, kw_only=True)
class Found:
    """Figures as they are measured: name -> the value of each process; and why others are absent.

    What disturbs a process only slows it, so the fastest one's value counts.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """One process's value."""
        self.values.setdefault(name, []).append(value)

    def by_speed(self, name: str) -> list[float]:
        """The values, the fastest first."""
        return sorted(self.values[name], reverse=name not in {NODE, CALL})

    def best(self, name: str) -> float:
        """Of the fastest process."""
        return self.by_speed(name)[0]

    def lag(self, name: str) -> float:
        """By which share the second fastest process is slower; 0 for one process."""
        first, *others = self.by_speed(name)
        if not others:
            return 0.0
        least, most = sorted((first, others[0]))
        return (most - least) / max(least, SHORTEST_S)

    def is_settled(self, names: Iterable[str]) -> bool:
        """Whether the two fastest processes agree on these figures."""
        return all(self.lag(name) <= SETTLED for name in names)

    def unsettled(self) -> dict[str, str]:
        """Figure -> by how much the second fastest process is slower, for those that did not settle."""
        lags = {name: self.lag(name) for name in self.values}
        return {
            name: f"the second fastest process was {100 * lag:.0f} % slower"
            for name, lag in lags.items()
            if lag > SETTLED
        }


def find_kept(cache: Path, place: Place) -> Roofline | None:
    """The roofline that was measured for this place before."""
    kept = read(cache, "tables", place.name)
    return read_roofline(kept.facts) if kept else None


def find_or_measure(place: Place, rig: Rig, cache: Path) -> Roofline:
    """The roofline of a place, from the cache or measured now.

    Raises what building and running a float32 file raises, and of a narrower one what does not refuse its precision.
    """

    def make(_folder: Path) -> Mapping[str, object]:
        return {FACT: as_facts(measure_roofline(place, rig))}

    found = read_roofline(find_or_make(cache, "tables", place.name, make, rig.progress).facts)
    if found is None:
        raise CellFailed(f"the roofline in the cache is of another kind: remove {cache / 'tables' / place.name}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """How the networks are made and timed: in `launches` fresh processes for each figure, up to twice as many until it
    settles. `folder`: for the files."""

    board: Board
    sizes: Sizes
    folder: Path
    launches: int
    progress: Progress

    def processes(self, names: Sequence[str], found: Found) -> Iterator[int]:
        """The number of each process that these figures need."""
        for number in range(2 * self.launches):
            if number >= self.launches and found.is_settled(names):
                return
            self.progress(f"roofline: {names[0]}", min(number / self.launches, 1.0))
            yield number


def measure_roofline(place: Place, rig: Rig) -> Roofline:
    """Every figure: the fastest of the clean medians of fresh processes."""
    found = Found()
    time_small(rig, found)
    time_large(rig, found)
    return Roofline(
        device=place.device,
        backend=place.choice.title,
        version=place.version,
        threads=place.threads,
        macs_per_s={name: found.best(name) for name in ("float32", *PRECISIONS) if name in found.values},
        bandwidth=tuple((size, found.best(name_size(size))) for size in rig.sizes.weights),
        node_s=max(0.0, found.best(NODE)),
        call_s=max(0.0, found.best(CALL)),
        absent=found.absent,
        unsettled=found.unsettled(),
    )


def time_small(rig: Rig, found: Found) -> None:
    """One node in turns with a chain of them, and with matrices that caches hold."""
    *cached, _ = rig.sizes.weights
    one, chain = (build_chain(rig, layers) for layers in (1, CHAIN))
    matrices = [build_matrix(rig, size) for size in cached]
    for _ in rig.processes([NODE, CALL, *map(name_size, cached)], found):
        first, *others = rig.board.compare(one, [chain, *matrices])
        node = (take_side(first, "b") - take_side(first, "a")) / (CHAIN - 1)
        found.add(NODE, node)
        found.add(CALL, take_side(first, "a") - node)
        for size, launch in zip(cached, others, strict=True):
            reading = max(take_side(launch, "b") - take_side(launch, "a"), SHORTEST_S)
            found.add(name_size(size), size / reading)


def time_large(rig: Rig, found: Found) -> None:
    """Two large convolutions in each precision, and a matrix that no cache holds."""
    around, pointwise = build_convolutions(rig, "")
    largest = rig.sizes.weights[-1]
    matrix = build_matrix(rig, largest)
    for _ in rig.processes(["float32", name_size(largest)], found):
        first, second = rig.board.compare(around, [pointwise, matrix])
        found.add("float32", fastest(rig.sizes, take_side(first, "a"), take_side(first, "b")))
        found.add(name_size(largest), largest / take_side(second, "b"))
    for name in PRECISIONS:
        try_precision(name, around, rig, found)


def try_precision(name: str, around: Artifact, rig: Rig, found: Found) -> None:
    """Both convolutions in a narrower precision, or why there is no figure: the backend refuses it, or falls back and
    would measure another precision. The answer is kept, so what may pass is raised: a busy board, a full disk, a worker
    that died.
    """
    try:
        time_precision(name, around, rig, found)
    except (InvalidInput, Untrusted) as error:
        found.values.pop(name, None)
        found.absent[name] = str(error)


def time_precision(name: str, around: Artifact, rig: Rig, found: Found) -> None:
    """Both convolutions in a narrower precision. Raises `Untrusted` for a fallback, and what building and running raises."""
    artifacts = build_convolutions(rig, PRECISIONS[name])
    for _ in rig.processes([name], found):
        both = rig.board.compare(around, artifacts)
        if fallen := [reason.removeprefix("B: ") for launch in both for reason in launch.distrust]:
            raise Untrusted(fallen[0])
        found.add(name, fastest(rig.sizes, *(take_side(launch, "b") for launch in both)))


def fastest(sizes: Sizes, around_s: float, pointwise_s: float) -> float:
    """The multiply-accumulates per second of the faster of both convolutions."""
    pixels = sizes.window**2
    return max(9 * pixels * sizes.around**2 / around_s, pixels * sizes.pointwise**2 / pointwise_s)


def take_side(launch: PairLaunch, side: str) -> float:
    """Seconds of one inference of side "a" or "b": the median of its clean durations, of all where none is clean."""
    columns = (0, 3) if side == "a" else (1, 2)
    samples = [block[column] for block in launch.blocks_ns for column in columns]
    waits = [row[column] for row in launch.waits_ns for column in columns]
    clean, _ = keep_clean(samples, waits)  # type: ignore[arg-type]
    return float(median(clean if len(clean) else samples)) / 1e9


def choose_sizes(*, accelerator: bool, cache_bytes: int = 0) -> Sizes:
    """`cache_bytes`: of the largest cache that is known; the last matrix is twice as large, up to 256 MiB."""
    if accelerator:
        return ACCELERATOR
    largest = min(max(CPU.weights[-1], 2 * cache_bytes), 2**28)
    return Sizes(window=CPU.window, around=CPU.around, pointwise=CPU.pointwise, weights=(*CPU.weights[:-1], largest))


def build_chain(rig: Rig, layers: int) -> Artifact:
    """Small linear layers, one after another."""
    file = rig.folder / f"chain-{layers}.onnx"
    write_chain(file, CHAIN_WIDTH, layers)
    return rig.board.build(file, "")


def build_matrix(rig: Rig, weight_bytes: int) -> Artifact:
    """A vector times a square matrix of float32."""
    file, side = rig.folder / f"matrix-{weight_bytes}.onnx", ceil(sqrt(weight_bytes / 4))
    write_cut(file, Shape(), side, side)
    return rig.board.build(file, "")


def build_convolutions(rig: Rig, recipe: str) -> list[Artifact]:
    """The 3x3 and the 1x1 one."""
    found = []
    for kernel, channels in ((3, rig.sizes.around), (1, rig.sizes.pointwise)):
        file, window, pad = rig.folder / f"conv{kernel}.onnx", (rig.sizes.window,) * 2, (kernel // 2,) * 2
        shape = Shape(window=window, kernel=(kernel, kernel), stride=(1, 1), padding=pad, dilation=(1, 1))
        write_cut(file, shape, channels, channels)
        found.append(rig.board.build(file, recipe))
    return found
