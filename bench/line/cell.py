"""One cell: prepare, run, check the outputs, compare with the baseline -> a record, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from bench.device.outputs import Output
from bench.device.stored import as_array
from bench.errors import BoardLost, DiskFull, PressbenchError, full_disk_ends
from bench.line.findings import CellFindings, Checked, Compared, assemble, gather_evidence
from bench.line.judged.assess import assess, count_changed
from bench.line.judged.baseline import find_baseline_error, find_chance, find_difference
from bench.line.judged.distance import find_far, match_outputs, measure_own_spread
from bench.line.judged.evaluation import Evaluation, keep_clean
from bench.line.judged.notes import describe_noise, describe_uncompared, explain_chance, explain_missing
from bench.line.measure import Findings, Outputs
from bench.line.plan import Plan, PlannedCell
from bench.line.prepare import Prepared, Setting, count_cost, prepare
from bench.line.reader import read_again
from bench.line.trust import Verdict, decide, decide_error, find_pair_distrust
from bench.records import Record
from bench.types import Artifact, Clock, Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the compressed cells of the same model and conditions are compared with.

    `absent`: why nothing can be compared with it; "" if it was measured. `distrust`: why it is untrusted itself, and
    with it every speed-up over it. `uncounted`: its operators without a counting rule. `judged_on`: what its
    inputs were, in words.
    """

    absent: str = ""
    artifact: Artifact | None = None
    outputs: Outputs | None = None
    accuracy: float | None = None
    distrust: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    judged_on: str = ""


BOARD_LOST = "board_lost"
"""The fact of a record whose cell ended because its board went away: a resumed run measures it again."""
NOT_MEASURED = Baseline(absent="its baseline was not measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A cell as the host leaves it to be measured: all that needs no device."""

    prepared: Prepared
    cost: Cost


def make_ready(cell: PlannedCell, state: RunState) -> Ready:
    """All that the host does before a cell is measured. Needs nothing of the cells before it."""
    setting = setting_of(cell, state)
    prepared = prepare(cell.model, cell.recipe, cell.backend, cell.conditions, setting)
    cost = count_cost(prepared, setting)
    predict_once(cell, state, prepared.evaluation)
    return Ready(prepared=prepared, cost=cost)


def setting_of(cell: PlannedCell, state: RunState) -> Setting:
    """The run's setting with the data set of the cell."""
    shifted = state.setting.shifted_data if cell.data is not None else None
    return replace(state.setting, data=cell.data, shifted_data=shifted)


def predict_once(cell: PlannedCell, state: RunState, evaluation: Evaluation) -> None:
    """Outputs of the uncompressed network, once per model, where there are inputs to predict from."""
    if _predicts(evaluation) and cell.model.name not in state.references:
        setting = setting_of(cell, state)
        state.references[cell.model.name] = setting.stages.predict_reference(
            cell.model,
            evaluation.clean_inputs,
            data=setting.data_for(cell.model),
            cache=setting.cache,
            seed=setting.seed,
            progress=setting.progress,
        )


def _predicts(evaluation: Evaluation) -> bool:
    return bool(evaluation.inputs) and not evaluation.drawn


@dataclass(slots=True, kw_only=True)
class RunState:
    """What the cells of one run share. `baselines` (by key) and `references` (by model) are filled as it goes.

    `make_ready`: another one where cells are made ready ahead of the measuring.
    """

    plan: Plan
    run_id: str
    setting: Setting
    baselines: dict[str, Baseline] = field(default_factory=dict)
    references: dict[str, Outputs | None] = field(default_factory=dict)
    make_ready: Callable[[PlannedCell, RunState], Ready] = make_ready


def run_cell(cell: PlannedCell, state: RunState) -> Record:
    """The only place where an error becomes a record, so that the run goes on. Raises only `DiskFull`."""
    started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    found, lost = None, False
    try:
        with full_disk_ends(f"{cell.model.name}, {cell.recipe.name}, {cell.backend.title}"):
            found = find_everything(cell, state)
            verdict = decide(gather_evidence(found, cell, state.setting.target))
    except DiskFull:
        raise
    except Exception as error:  # noqa: BLE001 - one cell's bug must not take the others with it
        found, verdict = None, decide_error(error)
        lost = isinstance(error, BoardLost)
    if is_baseline(cell):
        state.baselines[cell.key] = make_baseline(found, verdict)
    record = assemble(
        cell, state.plan, found, verdict, run_id=state.run_id, started_at=started_at, cache=state.setting.cache
    )
    return replace(record, facts={**record.facts, BOARD_LOST: True}) if lost else record


def is_baseline(cell: PlannedCell) -> bool:
    """Whether other cells are compared with this one."""
    return cell.key == cell.baseline_key


def find_everything(cell: PlannedCell, state: RunState) -> CellFindings:
    """All stages of one cell, one after another."""
    setting, ready = state.setting, state.make_ready(cell, state)
    prepared = ready.prepared
    baseline = state.baselines.get(cell.baseline_key, NOT_MEASURED)
    found = CellFindings(
        prepared=prepared,
        cost=ready.cost,
        ran=run_prepared(cell, prepared, setting),
        baseline_uncounted=() if is_baseline(cell) else baseline.uncounted,
    )
    if found.ran.outputs is not None:
        evaluation = replace(prepared.evaluation, reference=find_reference(cell, state, prepared.evaluation))
        checked = check_outputs(cell, found.ran, evaluation, baseline)
        if is_baseline(cell) and evaluation.reference is None:
            own = [one.own_spread for one in checked.quality.outputs] if checked.quality else []
            others = find_others(cell, state, evaluation) or read_again(cell, prepared, setting)
            wrong = find_difference(found.ran.outputs, others, own, evaluation.classes)
            checked = replace(checked, baseline_error=wrong)
        found = replace(found, checked=checked)
    bench = prepared.bench
    if bench is None or is_baseline(cell) or bench.reach.counts or not bench.measure.pairs:
        return found
    return replace(found, compared=compare_with_baseline(baseline, found, setting))


def run_prepared(cell: PlannedCell, prepared: Prepared, setting: Setting) -> Findings:
    """Runs the deployed file, or asks a backend without a session for its estimate."""
    if prepared.bench is None:
        return simulate(cell, prepared)
    setting.progress("measure", 0.0)
    return setting.stages.run(prepared.bench, prepared.artifact)


def simulate(cell: PlannedCell, prepared: Prepared) -> Findings:
    """A backend's own estimate, and the outputs of one that infers."""
    backend, artifact = prepared.backend, prepared.artifact
    outputs, notes = None, tuple[str, ...]()
    if backend.infers:
        inputs = tuple(map(as_array, prepared.evaluation.inputs))
        named = backend.infer(artifact, inputs, cell.backend.options)
        outputs = tuple(Output(name=name, rows=rows) for name, rows in named.items())
        notes = backend.explain_outputs(artifact, inputs)
    simulation = backend.simulate(artifact, cell.conditions, cell.backend.options)
    noted = {str(column): str(reason) for column, reason in simulation.notes.get("missing", {}).items()}
    return Findings(
        clock=Clock.SIMULATED,
        device=simulation.source,
        version=backend.probe().version,
        simulation=simulation,
        outputs=outputs,
        notes=notes,
        missing={
            **({} if outputs else {"accuracy": f"{simulation.source} estimates cost, it runs no inference"}),
            **noted,
        },
    )


def find_reference(cell: PlannedCell, state: RunState, evaluation: Evaluation) -> Outputs | None:
    """The predicted outputs of the uncompressed network; without them, those of the measured baseline."""
    known = state.references[cell.model.name] if _predicts(evaluation) else None
    if known is not None or is_baseline(cell):
        return known
    outputs = state.baselines.get(cell.baseline_key, NOT_MEASURED).outputs
    return None if outputs is None else keep_clean(outputs, evaluation)


def check_outputs(cell: PlannedCell, ran: Findings, evaluation: Evaluation, baseline: Baseline) -> Checked:
    """Outputs against the labels and the reference. Raises `CellFailed` as `assess`.

    Where the network draws random numbers, only a difference beyond that of two runs of its uncompressed file counts.
    """
    assert ran.outputs is not None
    own = measure_own_spread(ran.outputs if is_baseline(cell) else baseline.outputs or ())
    evaluation = replace(evaluation, own_spread=own)
    quality = assess(ran.outputs, evaluation)
    if not is_baseline(cell):
        lost, gained = count_changed(ran.outputs, baseline.outputs or (), evaluation)
        quality = replace(quality, lost=lost, gained=gained)
    missing = explain_missing(ran.outputs, quality, evaluation)
    if is_baseline(cell):
        wrong = find_baseline_error(quality, evaluation)
        chance = find_chance(cell.model, quality, evaluation)
        notes = (*describe_noise(quality), *([chance] if chance else []), *evaluation.notes)
        return Checked(quality=quality, missing=missing, baseline_error=wrong, notes=notes)
    guesses = explain_chance(quality.accuracy, baseline.accuracy, evaluation)
    unjudged = evaluation.reference is None and quality.accuracy is None and quality.score is None
    alone = f"nothing says whether its outputs are right: {baseline.absent}" if unjudged else ""
    said = (*describe_noise(quality), *describe_uncompared(quality, evaluation), guesses, alone, *evaluation.notes)
    return Checked(
        quality=quality,
        missing=missing,
        far=find_far(quality.outputs, match_outputs(ran.outputs, evaluation.reference or ())),
        notes=tuple(filter(None, said)),
    )


def find_others(cell: PlannedCell, state: RunState, evaluation: Evaluation) -> dict[str, Outputs]:
    """Outputs of the other backends of this run for the same uncompressed file and inputs, by backend."""
    beside = {one.backend.title: state.baselines.get(one.key) for one in state.plan.cells if is_beside(cell, one)}
    return {
        title: one.outputs
        for title, one in beside.items()
        if one is not None and one.outputs is not None and not one.distrust and one.judged_on == evaluation.source
    }


def is_beside(cell: PlannedCell, other: PlannedCell) -> bool:
    """Whether the other one is the baseline of the same model in the same conditions on another backend."""
    same = (other.model, other.conditions) == (cell.model, cell.conditions)
    return same and is_baseline(other) and other.key != cell.key


def compare_with_baseline(baseline: Baseline, found: CellFindings, setting: Setting) -> Compared:
    """Interleaved launches of baseline and cell. An error here costs only the comparison: the cell is measured."""
    bench, artifact = found.prepared.bench, found.prepared.artifact
    assert bench is not None
    if baseline.absent or baseline.artifact is None:
        return Compared(missing=baseline.absent)
    setting.progress("compare with the baseline", 0.0)
    try:
        with full_disk_ends("the comparison"):
            pairs = setting.stages.compare(bench, baseline.artifact, artifact)
    except (DiskFull, BoardLost):
        raise
    except PressbenchError as error:
        return Compared(missing=f"the comparison failed: {error}")
    return Compared(
        pairs=pairs,
        baseline_distrust=tuple(f"its baseline is untrusted: {reason}" for reason in baseline.distrust),
        distrust=find_pair_distrust(pairs, baseline.distrust, found.ran.distrust),
    )


def make_baseline(found: CellFindings | None, verdict: Verdict) -> Baseline:
    """What the next cells need of a baseline that has ended."""
    absent = f"its baseline {verdict.status.value}: {'; '.join(verdict.reasons)}"
    if found is None:
        return Baseline(absent=absent)
    outputs = found.ran.outputs
    wrong, quality = found.checked.baseline_error, found.checked.quality
    return Baseline(
        absent="" if outputs is not None or found.ran.launches else absent,
        artifact=found.prepared.artifact,
        outputs=outputs,
        accuracy=quality.accuracy if quality else None,
        distrust=(*found.ran.distrust, *([wrong] if wrong else [])),
        uncounted=found.cost.unknown,
        judged_on=found.prepared.evaluation.source,
    )
