"""The cells of the GPU table: which network, batch and variant, in the order they matter, by the product's own line."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import bench
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure, Suite
from bench.config.target import BackendChoice, Target, load_target
from bench.errors import PressbenchError
from bench.line.artifacts import compile_cached
from bench.line.cell import RunState, run_cell
from bench.line.measure import find_meters
from bench.line.plan import Plan, PlannedCell, Request, cell_key, subject_of
from bench.line.prepare import Setting
from bench.machine import machine_facts, revision
from bench.models.registry import resolve
from bench.plugins import load
from bench.records import Record, Run
from bench.store import Store
from bench.types import Compressed, Conditions, Model, Recipe, Scalar

SEED = 0
HALF = {"lenet300_100": "neurons(amount=0.5)"}
PARTS = {"large": ("mobilenetv2", "resnet50", "alexnet"), "small": ("lenet300_100", "lenet5", "resnet8")}
EVERY_RECIPE = ("pytorch-cudagraph", "tensorrt")
DRY = {"large": ("mobilenetv2(width=0.35, size=64)",), "small": ("lenet300_100",)}
MEASURE = Measure(launches=1, pairs=1, blocks=20, width=0.005, warmup_s=0.6, time_s=1.5, profile_runs=0, limit_s=150.0)
DRY_MEASURE = Measure(launches=1, pairs=1, blocks=5, width=0.05, warmup_s=0.1, time_s=0.2, profile_runs=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cells that share a baseline: measured together, so that the pairs have both sides."""

    part: str
    plan: Plan
    title: str


def model_of(name: str) -> Model:
    """A reference network with seeded weights."""
    return resolve(name)


def recipes_of(name: str) -> list[Recipe]:
    """The baseline first. 2:4 comes with float16, the only type its kernels take."""
    texts = {
        "baseline": "",
        "float16": "float16()",
        "channels50": HALF.get(name, "channels(amount=0.5, round_to=8)"),
        "two-four-float16": "nm(n=2, m=4) + float16()",
    }
    return [parse_recipe(recipe, text) for recipe, text in texts.items()]


def target_of(dry: bool) -> Target:
    """The shipped target; a dry run puts the same labels on this machine's CPU."""
    target = load_target("cuda")
    if not dry:
        return target
    return replace(target, backend=tuple(replace(choice, options=_on_cpu(choice)) for choice in target.backend))


def _on_cpu(choice: BackendChoice) -> dict[str, Scalar]:
    if choice.name == "ort":
        return {"provider": "cpu"}
    options: dict[str, Scalar] = {**choice.options, "device": "cpu"}
    options.pop("sparse", None)
    return {**options, "mode": "eager"} if options.get("mode") == "cudagraph" else options


def groups(part: str, *, dry: bool) -> Iterator[Group]:
    """Everything that compiles last, batch 8 before it: what a short budget leaves out is what matters least."""
    names = (DRY if dry else PARTS)[part]
    batches = (1, 8) if dry else (1, 64, 8)
    ordered = [("pytorch-cudagraph", batch) for batch in batches[:2]] + [("pytorch-eager", b) for b in batches[:2]]
    ordered += [(label, batch) for label in ("pytorch-cudagraph", "pytorch-eager") for batch in batches[2:]]
    ordered += [("pytorch-compile", batch) for batch in batches]
    if not dry and load("backend", "trt")().probe().available:
        ordered += [("tensorrt", batch) for batch in batches]
    if dry or has_ort_for_cuda():
        ordered += [("ort-cuda", batch) for batch in batches]
    for label, batch in ordered:
        for name in names:
            yield group(part, name, label, batch, dry=dry)


def has_ort_for_cuda() -> bool:
    """Whether the ONNX Runtime here was built for CUDA. One that does not load then is a skip with its reason."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def group(part: str, name: str, label: str, batch: int, *, dry: bool) -> Group:
    """One network by one backend at one batch: all recipes on the CUDA graph and TensorRT, the baseline elsewhere."""
    target, model = target_of(dry), model_of(name)
    choice = next(choice for choice in target.backend if choice.title == label)
    recipes = recipes_of(name) if label in EVERY_RECIPE else recipes_of(name)[:1]
    suite = Suite(
        name=f"gpu-{part}", models=(name,), batch=(batch,), seed=SEED, measure=DRY_MEASURE if dry else MEASURE
    )
    conditions = Conditions(batch=batch)
    subject = subject_of(model, None)
    keys = [cell_key(suite, target, subject, recipe, choice, conditions) for recipe in recipes]
    cells = tuple(
        PlannedCell(model=model, recipe=recipe, backend=choice, conditions=conditions, key=key, baseline_key=keys[0])
        for recipe, key in zip(recipes, keys, strict=True)
    )
    request = Request(target=target.name, suite=suite.name)
    plan = Plan(request=request, suite=suite, target=target, data=None, shifted_data=None, cells=cells)
    return Group(part=part, plan=plan, title=f"{name} {label} batch {batch}")


def prepare(wanted: Sequence[Group], cache: Path, workers: int) -> Iterator[str]:
    """Exports and casts everything in parallel, before the first measurement: no GPU time waits for it."""
    networks = {(cell.model.name, cell.recipe.name): cell for item in wanted for cell in item.plan.cells}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        yield from pool.map(_prepare_one, networks.values(), [cache] * len(networks))
        unique = {cell.key: cell for item in wanted for cell in item.plan.cells}
        yield from pool.map(_compile_one, unique.values(), [cache] * len(unique))


def _prepare_one(cell: PlannedCell, cache: Path) -> str:
    try:
        _compressed(cell, cache)
    except PressbenchError as error:
        return f"{cell.model.name} {cell.recipe.name}: {error}"
    return ""


def _compile_one(cell: PlannedCell, cache: Path) -> str:
    try:
        backend = load("backend", cell.backend.name)()
        compile_cached(backend, _compressed(cell, cache), cell.conditions, cell.backend.options, cache)
    except PressbenchError as error:
        return f"{cell.model.name} {cell.recipe.name} on {cell.backend.title}: {error}"
    return ""


def _compressed(cell: PlannedCell, cache: Path) -> Compressed:
    return compress(cell.model, cell.recipe, data=None, cache=cache, seed=SEED, progress=_silent)


def left(wanted: Sequence[Group], store: Store) -> list[Group]:
    """The groups the store does not have in full: a group cut off in its middle is measured again from its baseline."""
    done = {name: store.done_keys(name) for name in {item.plan.suite.name for item in wanted}}
    return [item for item in wanted if any(cell.key not in done[item.plan.suite.name] for cell in item.plan.cells)]


def measure(wanted: Sequence[Group], store: Store, cache: Path, until: float) -> Iterator[str]:
    """Measures until the clock says `until`; a line for each cell and for what is left."""
    meters = find_meters(wanted[0].plan.target)
    for number, item in enumerate(wanted):
        run_id = item.plan.suite.name
        store.begin_run(_run(item.plan))
        if time.monotonic() > until:
            yield f"budget over: {len(wanted) - number} groups left, from {item.title} on; run again to go on"
            return
        with tempfile.TemporaryDirectory(prefix="pressbench-gpu-") as folder:
            setting = Setting(
                target=item.plan.target,
                cache=cache,
                folder=Path(folder),
                progress=_silent,
                measure=item.plan.suite.measure,
                seed=item.plan.suite.seed,
                meters=meters,
            )
            state = RunState(plan=item.plan, run_id=run_id, setting=setting)
            for cell in item.plan.cells:
                begun = time.monotonic()
                record = run_cell(cell, state)
                store.add(record)
                yield f"{_line(record)} [{time.monotonic() - begun:.0f} s]"
    for run_id in {item.plan.suite.name for item in wanted}:
        store.finish_run(run_id, "finished", _now())


def _line(record: Record) -> str:
    reasons = "; ".join(record.reasons)
    return f"{record.model} {record.backend} {record.recipe} batch {record.conditions.batch}: {record.status.value} {reasons}"


def _run(plan: Plan) -> Run:
    return Run(
        run_id=plan.suite.name,
        started_at=_now(),
        target=plan.target.name,
        suite=plan.suite.name,
        machine=machine_facts(Path("/")),
        version=bench.__version__,
        revision=revision(Path(bench.__file__).parent),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _silent(_what: str, _done: float) -> None:
    return
