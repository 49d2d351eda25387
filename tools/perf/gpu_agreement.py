"""Is the harness right about a GPU? Against triton's do_bench, NVML's counter read by hand, and torch by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backends.pytorch.compile import PytorchBackend
from backends.pytorch.session import PytorchSession
from bench.compress.pipeline import compress
from bench.device.energy import energy_windows
from bench.device.events import EnergyRead
from bench.device.job import Limits
from bench.device.session import Session
from bench.device.timing import RunQueue, measure
from bench.errors import Unavailable
from bench.line.artifacts import compile_cached
from bench.types import Clock, Conditions, Json, Model, Recipe

from .gpu_cells import SEED, model_of

ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison: ours against a reference, in the same unit. `limit` None: shown, not judged."""

    name: str
    ours: float
    theirs: float
    unit: str
    limit: float | None
    note: str = ""

    @property
    def difference(self) -> float:
        """Ours over the reference, less one."""
        return self.ours / self.theirs - 1

    @property
    def holds(self) -> bool:
        """Within the limit."""
        return self.limit is None or abs(self.difference) <= self.limit

    def row(self) -> dict[str, Json]:
        """For the JSON."""
        return {
            "name": self.name, "ours": self.ours, "theirs": self.theirs, "unit": self.unit, "limit": self.limit,
            "difference": self.difference, "holds": self.holds, "note": self.note,
        }  # fmt: skip


class Product(nn.Module):
    """One square matrix product."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        return y


def product(input_shape: tuple[int, ...]) -> nn.Module:
    """Factory of `Product` at the size of its input."""
    return Product(input_shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the checks run."""

    cache: Path
    dry: bool

    def open(self, model: Model, recipe_precision: str, batch: int, mode: str = "cudagraph") -> Session:
        """A session of the product, made the product's way."""
        options: dict[str, Any] = {"precision": recipe_precision, "device": "cuda", "mode": mode}
        if self.dry:
            options |= {"device": "cpu", "mode": "eager"}
        source = compress(
            model, Recipe(name="baseline"), data=None, cache=self.cache, seed=SEED, progress=lambda _what, _done: None
        )
        artifact = compile_cached(PytorchBackend(), source, Conditions(batch=batch), options, self.cache)
        return PytorchSession.open(artifact.path, threads=1, batch=batch, options=options, precision=artifact.precision)


def checks(stage: Stage) -> Iterator[Check]:
    """All of them; a machine without triton or a meter says so in the note of what is then missing."""
    large = "resnet8" if stage.dry else "resnet50"
    for name, batch, limit in ((large, 4 if stage.dry else 64, 0.02), ("mobilenetv2", 1 if stage.dry else 64, 0.02)):
        session = stage.open(model_of(name), "float32", batch)
        yield against_do_bench(f"{name} float32 batch {batch}", session, _feed(session), limit)
        if name == large and not stage.dry:
            yield from energy(f"{name} float32 batch {batch}", session, _feed(session))
        session.close()
    session = stage.open(model_of("lenet5"), "float32", 1)
    yield against_do_bench(
        "lenet5 float32 batch 1 (shorter than a launch: shown, not judged)", session, _feed(session), None
    )
    session.close()
    yield matrix_product(stage)


def against_do_bench(name: str, session: Session, feed: Mapping[str, np.ndarray], limit: float | None) -> Check:
    """Medians of the product's loop and of do_bench on the same captured call, in turns; the middle of three."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_median_ms(session, feed))
        theirs.append(_do_bench_ms(session, feed))
    note = f"ours {_texts(ours)}, theirs {_texts(theirs)} ms in turns"
    return Check(
        name=f"do_bench: {name}", ours=float(np.median(ours)), theirs=float(np.median(theirs)), unit="ms", limit=limit,
        note=note,
    )  # fmt: skip


def _median_ms(session: Session, feed: Mapping[str, np.ndarray]) -> float:
    device = session.device_ns if session.clock is Clock.DEVICE else None
    queue = RunQueue(Path("/"))
    timed = measure(session.bind(feed), queue, Limits(time_s=3.0, width=0.001), device=device)
    queue.close()
    samples = timed.samples.device_ns if device else timed.samples.elapsed_ns
    return float(np.median(samples)) / 1e6


def _do_bench_ms(session: Any, feed: Mapping[str, np.ndarray]) -> float:
    if session.clock is not Clock.DEVICE:  # a dry run: a bare loop stands in
        return _bare_ms(session.bind(feed))
    from triton.testing import do_bench

    return float(do_bench(session.work(session.tensors(feed)), warmup=200, rep=1500, return_mode="median"))


def _bare_ms(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(30):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds)) * 1e3


def matrix_product(stage: Stage) -> Check:
    """A large bfloat16 product through the product's line and through only torch.mm, in turns."""
    size = 256 if stage.dry else 8192
    model = Model(
        name=f"product{size}", factory=f"{__package__}.gpu_agreement:product", input_shape=(size,), classes=size
    )
    session = stage.open(model, "bfloat16", size)
    feed = _feed(session)
    ours, alone = [], []
    for _ in range(ROUNDS):
        ours.append(_median_ms(session, feed))
        alone.append(_torch_alone_ms(size, "cpu" if stage.dry else "cuda"))
    session.close()
    middle = float(np.median(ours))
    note = (
        f"{2 * size**3 / middle / 1e9:.0f} TFLOP/s through the harness; ours {_texts(ours)}, torch {_texts(alone)} ms"
    )
    return Check(
        name=f"bfloat16 product {size}^3 against only torch", ours=middle, theirs=float(np.median(alone)), unit="ms",
        limit=0.05, note=note,
    )  # fmt: skip


def _torch_alone_ms(size: int, device: str) -> float:
    """The same call as the network makes: float32 in and out, the product in bfloat16."""
    x = torch.rand(size, size, device=device)
    weight = torch.rand(size, size, device=device).to(torch.bfloat16)

    def call() -> torch.Tensor:
        return torch.nn.functional.linear(x.to(torch.bfloat16), weight).float()

    if device == "cpu":
        return _bare_ms(call)
    times = []
    for _ in range(200):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times[50:]))


def energy(name: str, session: Session, feed: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """Joules of one inference by the product's window, idle not subtracted, and by NVML's counter read by hand."""
    from bench.device.meters.nvml import Nvml

    try:
        meter = Nvml.open(Path("/"))
    except Unavailable as error:
        yield Check(name=f"energy: {name}", ours=1, theirs=1, unit="J", limit=None, note=f"not compared: {error}")
        return
    run, ours, hand = session.bind(feed), [], []
    distrust: tuple[str, ...] = ()
    _busy(run, 3.0)
    for _ in range(ROUNDS):
        (read,) = energy_windows([meter], run, 5.0)
        if not isinstance(read, EnergyRead):
            raise Unavailable(read.reason)
        ours.append(read.window.joules / read.window.inferences)
        hand.append(_by_hand(run, 5.0))
        distrust = read.distrust
    note = f"ours {_texts(ours)}, by hand {_texts(hand)} J in turns; distrust {list(distrust)}"
    yield Check(
        name=f"energy: {name}", ours=float(np.median(ours)), theirs=float(np.median(hand)), unit="J per inference",
        limit=0.03, note=note,
    )  # fmt: skip


def _by_hand(run: Callable[[], object], seconds: float) -> float:
    """The counter around a plain loop, as one would write it with nothing but pynvml."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    done = _busy(run, seconds)
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1e3 / done


def _busy(run: Callable[[], object], seconds: float) -> int:
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        run()
        done += 1
    return done


def _feed(session: Session) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(SEED)
    return {spec.name: generator.random(spec.shape, dtype=np.float32) for spec in session.inputs()}


def _texts(values: list[float]) -> str:
    return "/".join(f"{value:.5g}" for value in values)
