"""What the stages of one cell found, and the record that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.compress.notes import (
    FACTORIZED,
    LAYOUT,
    NOT_FACTORIZED,
    NOT_SEPARABLE,
    OUTSIDE_LAYERS,
    ROUNDED,
    SEPARABLE,
    Notes,
    reasons,
)
from bench.config.target import Target
from bench.cost.roofline.bound import FACT, as_facts
from bench.line.measure import Findings
from bench.line.plan import Plan, PlannedCell
from bench.line.prepare import Prepared
from bench.line.probes.roofline import Place, find_kept
from bench.line.trust import (
    Evidence,
    Verdict,
    find_busy_machine,
    find_coarse_meter,
    find_doubts,
    find_drift,
    find_pair_doubts,
)
from bench.line.wording import name_users_file, title_of
from bench.models.layouts import describe_layout
from bench.models.training.trained_networks import describe_weights
from bench.records import PairLaunch, Quality, Record
from bench.types import Cost, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A deployed file's outputs against labels and reference; empty for a backend that runs no inference.

    `missing`: CSV column -> why it is empty. `baseline_error`: why an uncompressed file must not be believed.
    `far`: why a compressed file's outputs are not those of its network. `notes`: what does not change the status.
    """

    quality: Quality | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    baseline_error: str = ""
    far: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The interleaved comparison with the baseline. `missing`: why there is none although one was wanted."""

    pairs: tuple[PairLaunch, ...] = ()
    missing: str = ""
    baseline_distrust: tuple[str, ...] = ()
    distrust: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFindings:
    """Everything that the stages of one cell found. `baseline_uncounted`: operators of its baseline without a rule."""

    prepared: Prepared
    cost: Cost
    ran: Findings
    checked: Checked = field(default_factory=Checked)
    compared: Compared = field(default_factory=Compared)
    baseline_uncounted: tuple[str, ...] = ()


def describe_file(prepared: Prepared) -> tuple[str, ...]:
    """What a user must know of the deployed file.

    That another share of channels went than was asked for, that calibration samples were turned, which layers a step did
    not replace, that the file grew, or that it has another opset than the network it is made from, and what its backend
    notes.
    """
    facts, notes = prepared.artifact.facts, prepared.source.notes
    said = ("the file grew", facts.get("file_grew")), ("its opset was raised", facts.get("opset_raised"))
    noted = (str(note) for note in facts.get("notes", ()))
    made = (str(notes[name]) for name in (ROUNDED, LAYOUT) if notes.get(name))
    left = _describe_left(notes)
    return (*made, *left, *(f"{what} from {change}" for what, change in said if change), *noted)


def _describe_left(notes: Notes) -> tuple[str, ...]:
    """Which layers no step replaced although one was asked to."""
    done = {*notes.get(FACTORIZED, ()), *notes.get(SEPARABLE, ())}
    left = {**notes.get(NOT_FACTORIZED, {}), **notes.get(NOT_SEPARABLE, {})}
    left = {name: reason for name, reason in left.items() if name not in done}
    return (f"layers that were not replaced: {reasons(left)}",) if left else ()


def gather_evidence(found: CellFindings, cell: PlannedCell, target: Target) -> Evidence:
    """What the cell's status depends on."""
    launches, clock = found.ran.launches, found.ran.clock
    outside = str(found.prepared.source.notes.get(OUTSIDE_LAYERS, ""))
    return Evidence(
        notes=(
            *filter(None, (cell.chosen, describe_layout(cell.model), outside)),
            *found.checked.notes,
            *found.ran.notes,
            *describe_file(found.prepared),
            *find_coarse_meter(launches),
        ),
        made_wrong=found.prepared.source.distrust,
        fallbacks=(*found.ran.distrust, *find_drift(launches, clock)),
        doubts=find_doubts(launches, clock),
        baseline_error=found.checked.baseline_error,
        far_from_reference=found.checked.far,
        busy_machine=find_busy_machine(launches, clock, target.min_clean_share),
        baseline_distrust=found.compared.baseline_distrust,
        pair_distrust=found.compared.distrust,
        pair_doubts=find_pair_doubts(found.compared.pairs),
    )


def assemble(
    cell: PlannedCell,
    plan: Plan,
    found: CellFindings | None,
    verdict: Verdict,
    *,
    run_id: str,
    started_at: str,
    cache: Path,
) -> Record:
    """The record of a cell; without findings (an error ended it), what was asked and why there is nothing else."""
    title = title_of(cell.model)
    identity = Record(
        run_id=run_id,
        key=cell.key,
        started_at=started_at,
        target=plan.target.name,
        device=cell.conditions.device,
        backend=cell.backend.title,
        backend_version="",
        model=cell.model.name,
        recipe=cell.recipe.name,
        recipe_text=cell.recipe.text,
        conditions=cell.conditions,
        status=verdict.status,
        reasons=tuple(name_users_file(reason, cache, title) for reason in verdict.reasons),
        data=cell.data.name if cell.data else "",
        weights=describe_weights(cell.model, cell.data, plan.suite.seed),
        baseline_key=cell.baseline_key,
        smallest_effect=plan.suite.measure.smallest_effect,
        budget=plan.target.budget.limits(),
    )
    if found is None:
        return identity
    place = Place(
        target=plan.target,
        choice=cell.backend,
        threads=cell.conditions.threads,
        device=found.ran.device,
        version=found.ran.version,
    )
    kept = find_kept(cache, place)
    return _fill(identity, found, cache, title, {FACT: as_facts(kept)} if kept else {})


def _fill(identity: Record, found: CellFindings, cache: Path, title: str, facts: Mapping[str, Json]) -> Record:
    prepared, ran = found.prepared, found.ran
    missing = _explain_missing(found)
    return replace(
        identity,
        clock=ran.clock,
        device=ran.device,
        backend_version=ran.version,
        digest=prepared.artifact.digest,
        inputs="" if ran.launches and ran.outputs is None else prepared.evaluation.source,
        calibration=prepared.source.calibrated_on,
        cost=found.cost,
        launches=ran.launches,
        pairs=found.compared.pairs,
        quality=found.checked.quality,
        simulation=ran.simulation,
        profile=ran.profile,
        precision=prepared.artifact.precision,
        execution=ran.execution,
        missing={column: name_users_file(reason, cache, title) for column, reason in missing.items()},
        facts={"compress": dict(prepared.source.notes), "compile": dict(prepared.artifact.facts), **ran.facts, **facts},
    )


def _explain_missing(found: CellFindings) -> dict[str, str]:
    """CSV column -> why it is empty."""
    missing = {**_explain_uncounted(found.cost, found.baseline_uncounted), **found.ran.missing, **found.checked.missing}
    if found.compared.missing:
        missing["speedup"] = found.compared.missing
    return missing


def _explain_uncounted(cost: Cost, of_baseline: tuple[str, ...]) -> Mapping[str, str]:
    """Columns whose sums would leave out operators without a counting rule, and which operators those are."""
    if cost.unknown:
        return dict.fromkeys(("macs", "flops", "promised_speedup"), f"no rule counts {', '.join(cost.unknown)}")
    return {"promised_speedup": f"no rule counts its baseline's {', '.join(of_baseline)}"} if of_baseline else {}
