"""One cell: compress, compile, measure, check, compare -> a record, whatever happens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from bench.compress.pipeline import compress, reference
from bench.cost.count import cost_of
from bench.errors import DiskFull, PressbenchError, Unavailable, Unsupported, Untrusted, full_disk_ends
from bench.line.artifacts import compiled
from bench.line.measure import Bench, Findings, Outputs, measure_pairs, run_artifact
from bench.line.plan import Cell, Plan
from bench.line.quality import Evaluation, baseline_error, evaluation, judge, no_accuracy, unfit
from bench.line.trust import distrust_of_pairs, distrusted, doubted, doubts_of, doubts_of_pairs, within_budget
from bench.models.train import predict
from bench.plugins import load
from bench.reach.base import Reach
from bench.reach.open import open_reach
from bench.records import Record
from bench.types import Artifact, Backend, Clock, Compressed, Cost, Progress, Status

SKIPS = (Unsupported, Unavailable)
"""What cannot be on this target: stored as a skip, not as a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the compressed cells of the same model and conditions are compared with.

    `distrust`: why it is untrusted itself, and with it every speed-up over it.
    """

    artifact: Artifact
    outputs: Outputs
    distrust: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Bookkeeping:
    """What cells of one run share; filled as it goes. `folder` holds the inputs sent to workers."""

    plan: Plan
    run_id: str
    cache: Path
    folder: Path
    progress: Progress
    baselines: dict[str, Baseline | str] = field(default_factory=dict)
    references: dict[str, np.ndarray | None] = field(default_factory=dict)
    uncounted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    meters: tuple[str, ...] = ()


def run_cell(cell: Cell, book: Bookkeeping) -> Record:
    """The one place where an error becomes a record: the line goes on. Raises `DiskFull` alone."""
    record = _blank(cell, book)
    try:
        with full_disk_ends(f"{cell.model.name}, {cell.recipe.name}, {cell.backend.title}"):
            record = _measured(cell, book, record)
    except DiskFull:
        raise
    except SKIPS as error:
        record = replace(record, status=Status.SKIPPED, reasons=(str(error),))
    except Untrusted as error:
        record = replace(record, status=Status.UNTRUSTED, reasons=(str(error),))
    except PressbenchError as error:
        record = replace(record, status=Status.FAILED, reasons=(str(error),))
    except Exception as error:  # noqa: BLE001 - one cell's bug must not take the others with it
        record = replace(record, status=Status.FAILED, reasons=(f"{type(error).__name__}: {error}",))
    if cell.key == cell.baseline_key and cell.key not in book.baselines:
        book.baselines[cell.key] = f"its baseline {record.status.value}: {'; '.join(record.reasons)}"
    return record


def _blank(cell: Cell, book: Bookkeeping) -> Record:
    return Record(
        run_id=book.run_id,
        key=cell.key,
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        target=book.plan.target.name,
        device=cell.conditions.device,
        backend=cell.backend.title,
        backend_version="",
        model=cell.model.name,
        recipe=cell.recipe.name,
        recipe_text=cell.recipe.text,
        conditions=cell.conditions,
        status=Status.OK,
        data=book.plan.data.name if book.plan.data else "",
        baseline_key=cell.baseline_key,
    )


def _measured(cell: Cell, book: Bookkeeping, record: Record) -> Record:
    backend: Backend = load("backend", cell.backend.name)()
    source = compress(
        cell.model,
        cell.recipe,
        data=book.plan.data,
        cache=book.cache,
        seed=book.plan.suite.seed,
        progress=book.progress,
        data_asked=book.plan.request.data is not None,
    )
    book.progress("compile", 0.0)
    artifact = compiled(backend, source, cell.conditions, cell.backend.options, book.cache)
    cost = count_cost(source, artifact)
    record = replace(
        record,
        digest=artifact.digest,
        cost=cost,
        precision=artifact.precision,
        missing=_uncounted(cell, book, cost),
        reasons=(str(left),) if (left := source.notes.get("outside_layers")) else (),
        facts={"compress": dict(source.notes), "compile": dict(artifact.facts)},
    )
    if backend.session is None:
        return _simulated(cell, backend, artifact, record)
    reach = open_reach(book.plan.target.reach, cell.conditions.device)
    record = replace(record, device=reach.describe())
    judged = _evaluation(cell, book, source)
    stand = _bench(cell, book, backend.session, reach, judged)
    book.progress("measure", 0.0)
    found = run_artifact(stand, artifact)
    record = _with_findings(record, found)
    record = _checked(cell, book, record, found, judged, artifact)
    return record if reach.counts else _compared(cell, book, record, stand, artifact)


def count_cost(source: Compressed, artifact: Artifact) -> Cost:
    """Of the deployed file where it can be read, of the graph it was made from where it cannot.

    `nonzero_macs` is the graph's before quantization: a weight that rounds to zero is no promise.
    """
    readable = artifact.path.suffix in {".onnx", ".tflite"}
    graph = source.files.get("onnx") or source.files["tflite"]
    counted = cost_of(artifact.path if readable else graph)
    promise = cost_of(graph) if source.quant else counted
    return replace(
        counted,
        file_bytes=artifact.path.stat().st_size,
        entropy_bytes=source.entropy_bytes,
        nonzero_macs=promise.nonzero_macs,
        unknown=tuple(sorted({*counted.unknown, *promise.unknown})),
    )


def _uncounted(cell: Cell, book: Bookkeeping, cost: Cost) -> dict[str, str]:
    """Columns that would be sums without the operators the counter has no rule for, and which operators those are."""
    book.uncounted[cell.key] = cost.unknown
    baseline = book.uncounted.get(cell.baseline_key, ())
    if cost.unknown:
        return dict.fromkeys(("macs", "flops", "promised_speedup"), f"no rule counts {', '.join(cost.unknown)}")
    return {"promised_speedup": f"no rule counts its baseline's {', '.join(baseline)}"} if baseline else {}


def _simulated(cell: Cell, backend: Backend, artifact: Artifact, record: Record) -> Record:
    simulation = backend.simulate(artifact, cell.conditions, cell.backend.options)
    said = {str(column): str(reason) for column, reason in simulation.notes.get("missing", {}).items()}
    return replace(
        record,
        clock=Clock.SIMULATED,
        device=simulation.source,
        backend_version=backend.probe().version,
        simulation=simulation,
        missing={**record.missing, "accuracy": f"{simulation.source} estimates cost, it runs no inference", **said},
    )


def _evaluation(cell: Cell, book: Bookkeeping, source: Compressed) -> Evaluation:
    """A file whose input is not the data set's is measured on drawn inputs, without an accuracy."""
    plan = book.plan
    found = evaluation(
        plan.data,
        plan.shifted_data,
        shifts=plan.suite.shifts,
        seed=plan.suite.seed,
        limit=plan.target.accuracy_samples,
        unfit=unfit(source, plan.data),
    )
    if found.x is None:
        return found
    size = found.parts[0][1]
    if cell.model.name not in book.references:
        module = reference(cell.model, data=plan.data, cache=book.cache, seed=plan.suite.seed, progress=book.progress)
        book.references[cell.model.name] = None if module is None else predict(module, found.x[:size])
    return replace(found, reference=book.references[cell.model.name])


def _bench(cell: Cell, book: Bookkeeping, session: str, reach: Reach, judged: Evaluation) -> Bench:
    feed = evaluate = None
    if judged.x is not None:
        batch = np.resize(judged.x, (cell.conditions.batch, *judged.x.shape[1:]))
        feed = _stored(book.folder / f"feed-{cell.conditions.batch}.npz", batch)
        evaluate = _stored(book.folder / "evaluate.npz", judged.x)
    return Bench(
        reach=reach,
        session=session,
        conditions=cell.conditions,
        measure=book.plan.suite.measure,
        options=cell.backend.options,
        meters=book.meters,
        feed=feed,
        evaluate=evaluate,
        seed=book.plan.suite.seed,
        pin=book.plan.target.pin,
    )


def _stored(path: Path, x: np.ndarray) -> Path:
    if not path.exists():
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{"0": x})
    return path


def _with_findings(record: Record, found: Findings) -> Record:
    return replace(
        doubted(distrusted(record, found.distrust), doubts_of(found.launches)),
        clock=found.clock,
        device=found.device,
        simulation=found.simulation,
        backend_version=found.version,
        launches=found.launches,
        profile=found.profile,
        execution=found.execution,
        facts={**record.facts, **found.facts},
        missing={**record.missing, **found.missing},
    )


def _checked(
    cell: Cell, book: Bookkeeping, record: Record, found: Findings, judged: Evaluation, artifact: Artifact
) -> Record:
    """Outputs against the labels and the reference; the baseline's become the reference where there is none."""
    assert found.outputs is not None
    is_baseline = cell.key == cell.baseline_key
    if judged.reference is None and not is_baseline:
        known = book.baselines.get(cell.baseline_key)
        judged = replace(judged, reference=known.outputs[0] if isinstance(known, Baseline) else None)
    quality = judge(found.outputs, judged)
    why = no_accuracy(found.outputs, judged)
    missing = {**record.missing, **({"accuracy": why} if why else {})}
    record = replace(record, quality=quality, missing=missing)
    if is_baseline:
        wrong = [error] if (error := baseline_error(quality, judged)) else []
        record = distrusted(record, wrong)
        distrust = (*found.distrust, *wrong)
        book.baselines[cell.key] = Baseline(artifact=artifact, outputs=found.outputs, distrust=distrust)
    return within_budget(book.plan.target, record)


def _compared(cell: Cell, book: Bookkeeping, record: Record, stand: Bench, artifact: Artifact) -> Record:
    """Interleaved with the baseline, unless it is the baseline or has none to be compared with."""
    if cell.key == cell.baseline_key or not stand.measure.pairs:
        return record
    known = book.baselines.get(cell.baseline_key, "its baseline was not measured")
    if isinstance(known, str):
        return replace(record, missing={**record.missing, "speedup": known})
    book.progress("compare with the baseline", 0.0)
    try:
        with full_disk_ends("the comparison"):
            pairs = measure_pairs(stand, known.artifact, artifact)
    except DiskFull:
        raise
    except PressbenchError as error:  # the cell itself is measured: only the comparison is lost
        return replace(record, missing={**record.missing, "speedup": f"the comparison failed: {error}"})
    distrust = [f"its baseline is untrusted: {reason}" for reason in known.distrust]
    distrust += distrust_of_pairs(pairs, known.distrust, record.reasons)
    record = distrusted(replace(record, pairs=pairs), distrust)
    return doubted(record, doubts_of_pairs(pairs))
