"""Two stored runs beside each other: every cell that both have, measured again now or else from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.commands.report import open_existing
from bench.commands.temporary import owned_temporary_files
from bench.commands.versus.answer import make_layers, make_ratio
from bench.commands.versus.sides import Asked
from bench.errors import InvalidInput, PressbenchError, Unavailable
from bench.line.cell import RunState
from bench.line.measure import pair_launch
from bench.line.plan import Plan, Request
from bench.line.run import Surroundings, make_setting, plan_run
from bench.line.versus.again import prepare_cell
from bench.line.versus.kept import find_kept, keep
from bench.line.versus.layers import Beside, put_beside
from bench.line.versus.until import launch_until, summarize
from bench.models.catalogue import MODELS
from bench.models.registry import FILE_SUFFIXES
from bench.reach.open import Reaches
from bench.records import Record, Run
from bench.regress.environment import compare_environments, read_environment
from bench.regress.figures import BELIEVED, name_record
from bench.stats import Ratio
from bench.stats.latency import clean_medians
from bench.stats.ratio import ratio_apart
from bench.store import Store
from bench.types import Artifact, Clock, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A run and where it is kept."""

    run: Run
    store: Store
    results: Path

    @property
    def title(self) -> str:
        """Its id and when it began."""
        return f"run {self.run.run_id} of {self.run.started_at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """How runs are compared. `cells`: parts of the names of cells; all where empty. `measure`: False for the records.

    `asked`: when to stop, and by what effect it is judged.
    """

    results: Path
    url: str | None
    cells: tuple[str, ...]
    measure: bool
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of both runs. `way`: "side by side", "records" or "", where `note` says why there is no ratio."""

    cell: str
    way: str = ""
    found: Ratio | None = None
    note: str = ""
    reasons: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    layers: Beside | None = None


def names_run(text: str) -> bool:
    """Whether a text means a stored run, not a model: a results folder, a run in one, or the id of a run."""
    return not (text.endswith(FILE_SUFFIXES) or ":" in text or text.partition("(")[0] in MODELS)


def check_runs(sides: Sequence[str], given: Sequence[str]) -> None:
    """Raises `InvalidInput` for arguments that are not two runs, or options that a run has already."""
    if len(sides) != 2 or not all(map(names_run, sides)):
        raise InvalidInput(f"{' '.join(sides)}: name two model files or two runs, each a results folder or an id")
    if given:
        raise InvalidInput(f"{given[0]}: two runs have theirs already; leave it out, or choose cells with --cell")


def compare_runs(texts: Sequence[str], wished: Wished) -> tuple[dict[str, Any], str]:
    """The answer and its text. Raises `InvalidInput` for a run that does not exist, or two without a cell in common."""
    with ExitStack() as stack:
        a, b = (find_run(text, wished, stack) for text in texts)
        if a.run.run_id == b.run.run_id and a.store.where == b.store.where:
            raise InvalidInput(f"both sides are {a.title}")
        before, after = ({name_record(one): one for one in side.store.records(side.run.run_id)} for side in (a, b))
        shared = [name for name in after if name in before and chosen(name, wished.cells)]
        if not shared:
            apart = a.run.request.get("fleet") and b.run.request.get("fleet")
            why = ": each was measured on another board, and boards are not compared" if apart else ""
            named = " of that name" if wished.cells else ""
            raise InvalidInput(f"{a.title} and {b.title} have no cell in common{named}{why}")
        pairs = [(before[name], after[name]) for name in shared]
        rows = measure_rows(a, b, pairs, wished)
        lacking = {"a": [n for n in after if n not in before], "b": [n for n in before if n not in after]}
    return make_answer(a, b, rows, lacking, wished.asked.smallest_effect), describe(a, b, rows, lacking)


def chosen(name: str, parts: Sequence[str]) -> bool:
    """Whether a cell was asked for."""
    return not parts or any(part in name for part in parts)


def find_run(text: str, wished: Wished, stack: ExitStack) -> Stored:
    """The newest run of a results folder, the run of `FOLDER/ID`, or the one of that id in --results or --database.

    Raises `InvalidInput` where there is none.
    """
    folder, wanted, url = Path(text), "", None
    if not folder.is_dir():
        inside = (folder.parent / "pressbench.db").is_file() and folder.parent != Path()
        folder, wanted, url = (folder.parent, folder.name, None) if inside else (wished.results, text, wished.url)
    store = stack.enter_context(open_existing(folder, url))
    runs = store.runs()
    found = [run for run in runs if run.run_id == wanted or not wanted]
    if not found:
        latest = f"; the latest is {runs[-1].run_id}" if runs else ": none is stored yet"
        raise InvalidInput(f"{store.where} has no run {wanted or 'at all'}{latest}")
    return Stored(run=found[-1], store=store, results=folder)


def measure_rows(a: Stored, b: Stored, pairs: Sequence[tuple[Record, Record]], wished: Wished) -> list[Row]:
    """Every pair of cells: side by side where both files are kept and differ, else from the records."""
    with owned_temporary_files() as folder, Reaches() as reaches:
        state: RunState | str = "measuring was left out (--records)"
        if wished.measure:
            state = plan_again(b, folder, reaches, wished)
        return [compare_cell(a, b, one, two, state, folder, wished) for one, two in pairs]


def plan_again(b: Stored, folder: Path, reaches: Reaches, wished: Wished) -> RunState | str:
    """The plan of B's run, to measure its cells again; or why there is none."""
    if b.run.request.get("fleet"):
        return "runs on a fleet are compared from their records, board by board"
    try:
        plan: Plan = plan_run(TypeAdapter(Request).validate_python(dict(b.run.request)), wished.asked.cache)
        around = Surroundings(
            store=b.store,
            cache=wished.asked.cache,
            folder=folder,
            progress=wished.asked.progress,
            on_cell=lambda *_: None,
        )
        return RunState(plan=plan, run_id="", setting=make_setting(plan, around, reaches))
    except (PressbenchError, ValueError) as error:
        return f"{b.title} cannot be planned any more: {error}"


def compare_cell(
    a: Stored, b: Stored, before: Record, after: Record, state: RunState | str, folder: Path, wished: Wished
) -> Row:
    """One cell. A failure to measure it falls back to the records and is said. One that B lost has that for a reason, and one
    that is not believed."""
    name = name_record(after)
    for title, record in (("A", before), ("B", after)):
        if record.status not in BELIEVED:
            note = f"{title} is {record.status.value}: {'; '.join(record.reasons) or 'no reason kept'}"
            worse = Status.UNTRUSTED in (before.status, after.status) or before.status in BELIEVED
            return Row(cell=name, note=note, reasons=(f"{name}: {note}",) if worse else ())
    apart = [] if before.device == after.device else [f"device {before.device} -> {after.device}"]
    changed = (*apart, *compare_environments(read_environment(a.run, before), read_environment(b.run, after)))
    layers = put_beside(before.profile, after.profile) if before.profile and after.profile else None
    try:
        if before.digest and before.digest == after.digest:
            raise Unavailable("both runs have the same file")
        if isinstance(state, str):
            raise Unavailable(state)
        files = [
            find_file(side.results, record.digest, folder, wished.asked.cache)
            for side, record in ((a, before), (b, after))
        ]
        found, reasons = measure_files(files, after.key, state, wished)
    except PressbenchError as error:
        return from_records(name, before, after, str(error), changed, layers, wished.asked.smallest_effect)
    return Row(cell=name, way="side by side", found=found, reasons=tuple(reasons), changed=changed, layers=layers)


def find_file(results: Path, digest: str, folder: Path, cache: Path) -> Artifact:
    """A deployed file by its content: kept beside the results, or still in the cache. Raises `Unavailable`."""
    if not digest:
        raise Unavailable("the record does not say which file ran")
    try:
        return find_kept(results, digest)
    except Unavailable as error:
        if missing := keep(folder / "kept", cache, [digest]):
            raise Unavailable(f"{error}; {missing[digest]}") from None
        return find_kept(folder / "kept", digest)


def measure_files(files: Sequence[Artifact], key: str, state: RunState, wished: Wished) -> tuple[Ratio, list[str]]:
    """Both files in the cell of B's run: their ratio, and why it must not be believed."""
    cells = {cell.key: cell for cell in state.plan.cells}
    if key not in cells:
        raise InvalidInput("the suite has no such cell any more")
    bench = prepare_cell(cells[key], state).bench
    assert bench is not None
    done = launch_until(
        lambda number: pair_launch(bench, files[0], files[1], number),
        wished.asked.patience,
        threads=bench.conditions.threads,
        smallest_effect=wished.asked.smallest_effect,
        progress=lambda share: wished.asked.progress("compare", share),
    )
    return done.ratio, summarize(done.pairs)[1]


def from_records(
    name: str, before: Record, after: Record, why: str, changed: tuple[str, ...], layers: Beside | None, effect: float
) -> Row:
    """The ratio of what both runs stored, with the note that it was not interleaved; or why there is none."""
    note = f"not interleaved: {why}"
    if Clock.SIMULATED in (before.clock, after.clock) or before.clock is not after.clock:
        return Row(cell=name, note="estimated or timed by other clocks: no ratio", changed=changed, layers=layers)
    one, two = (clean_medians(record.launches, record.clock) for record in (before, after))
    if not one or not two:
        return Row(cell=name, note=f"{note}; and no samples are stored", changed=changed, layers=layers)
    found = ratio_apart(one, two, effect)
    return Row(cell=name, way="records", found=found, note=note, changed=changed, layers=layers)


def make_answer(
    a: Stored, b: Stored, rows: Sequence[Row], lacking: Mapping[str, Sequence[str]], effect: float
) -> dict[str, Any]:
    """For `--json`. `reasons`: of all cells; `verdicts`: what `--fail-on` looks at."""
    cells = [row_json(row, effect) for row in rows]
    return {
        "a": a.title,
        "b": b.title,
        "smallest_effect": effect,
        "cells": cells,
        "only_in_b": list(lacking["a"]),
        "only_in_a": list(lacking["b"]),
        "verdicts": sorted({row.found.verdict for row in rows if row.found}),
        "reasons": list(dict.fromkeys(reason for row in rows for reason in row.reasons)),
    }


def row_json(row: Row, effect: float) -> dict[str, Any]:
    """One cell."""
    return {
        "cell": row.cell,
        "way": row.way,
        **(make_ratio(row.found, effect) if row.found else {"verdict": None}),
        "note": row.note,
        "reasons": list(row.reasons),
        "environment": list(row.changed),
        **make_layers(row.layers),
    }


def describe(a: Stored, b: Stored, rows: Sequence[Row], lacking: Mapping[str, Sequence[str]]) -> str:
    """For the terminal."""
    lines = [f"A: {a.title}", f"B: {b.title}"]
    for row in rows:
        lines += [f"{row.cell}: {describe_row(row)}", *(f"  untrusted: {reason}" for reason in row.reasons)]
        lines += [f"  changed: {fact}" for fact in row.changed if row.found]
        if row.found and row.found.verdict in ("slower", "faster"):
            lines += [f"  {line}" for line in describe_operators(row.layers)]
    for side, other in (("B", "a"), ("A", "b")):
        lines += [f"only in {side}: {name}" for name in lacking[other]]
    return "\n".join(lines)


def describe_row(row: Row) -> str:
    """The ratio with how it was found, or why there is none."""
    found = row.found
    if found is None:
        return row.note
    interval = f" ({found.low:.4f} .. {found.high:.4f}, 95 %)" if found.low is not None else ""
    way = "measured now, side by side" if row.way == "side by side" else f"from the records, {row.note}"
    return f"B takes {found.ratio:.4f} times as long as A{interval}: {found.verdict}; {way}"


def describe_operators(layers: Beside | None, most: int = 3) -> list[str]:
    """The operators that changed most, of the profiles in the records."""
    if layers is None:
        return []
    return [
        f"{row.operator}: {row.a_us:.1f} us of {row.a_count} -> {row.b_us:.1f} us of {row.b_count} (profiles of the runs)"
        for row in layers.operators[:most]
    ]
