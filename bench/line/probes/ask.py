"""Asks a target for its roofline: which device and runtime it is, and the figures, unless the cache has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.compress.calibration import CalibrateOn
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure, check_condition
from bench.config.target import BackendChoice, Target
from bench.cost.roofline.bound import Roofline
from bench.errors import InvalidInput, Unsupported
from bench.line.measure import look_quickly, time_artifact
from bench.line.prepare import Setting, prepare
from bench.line.probes.board import make_board
from bench.line.probes.cuts import write_chain
from bench.line.probes.roofline import CHAIN_WIDTH, Place, Rig, choose_sizes, find_kept, find_or_measure
from bench.line.stages import load_backend
from bench.machine import machine_facts
from bench.models.registry import resolve
from bench.reach.open import Reaches, check_reach
from bench.types import Conditions, Progress

NO_CLOCK = {"emulated": "counts instructions and times nothing", "adb": "runs one file a process and keeps no samples"}
"""Reach -> why no roofline is measured through it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A roofline, and whether the cache had it."""

    roofline: Roofline
    kept: bool


def ask_roofline(
    target: Target,
    choice: BackendChoice,
    threads: int,
    *,
    cache: Path,
    folder: Path,
    progress: Progress,
    launches: int,
) -> Told:
    """The figures of a backend. What is built for it lies in `folder` and goes with it.

    Raises `InvalidInput` for a number of threads or a target or backend that times nothing, `Unsupported` for a backend
    that reads no ONNX file, and what building and running one raises.
    """
    check_askable(target, choice, threads)
    conditions = Conditions(threads=threads, device=target.first_device)
    first = folder / "one.onnx"
    write_chain(first, CHAIN_WIDTH, 1)
    with Reaches() as reaches:
        setting = Setting(
            target=target,
            cache=folder / "cache",
            folder=folder,
            progress=progress,
            measure=Measure(),
            calibrate=CalibrateOn(random=True),
            reaches=reaches,
        )
        prepared = prepare(resolve(str(first), None), parse_recipe("baseline", ""), choice, conditions, setting)
        assert prepared.bench is not None
        ran = time_artifact(look_quickly(prepared.bench), prepared.artifact)
        place = Place(target=target, choice=choice, threads=threads, device=ran.device, version=ran.version)
        if (kept := find_kept(cache, place)) is not None:
            return Told(roofline=kept, kept=True)
        local = machine_facts(Path("/")).get("l3_bytes", 0) if target.reach == "local" else 0
        accelerator = bool(ran.execution and ran.execution.device)
        rig = Rig(
            board=make_board(None, prepared.backend, choice, conditions, prepared.bench, setting),
            sizes=choose_sizes(accelerator=accelerator, cache_bytes=local),
            folder=folder,
            launches=launches,
            progress=progress,
        )
        found = find_or_measure(place, rig, cache)
    return Told(roofline=found, kept=False)


def check_askable(target: Target, choice: BackendChoice, threads: int) -> None:
    """Raises `InvalidInput` or `Unsupported` where no roofline can be measured, before anything is built."""
    check_condition("threads", [threads], "--threads")
    check_reach(target)
    if target.reach in NO_CLOCK:
        raise InvalidInput(f"target {target.name} {NO_CLOCK[target.reach]}: it has no roofline")
    backend = load_backend(choice.name)
    if backend.session is None:
        raise InvalidInput(f"backend {choice.title} estimates instead of measuring: it has no roofline")
    if "onnx" not in backend.accepts:
        raise Unsupported(
            f"backend {choice.title} reads no ONNX file, and the networks that a roofline is measured by are ONNX files"
        )
