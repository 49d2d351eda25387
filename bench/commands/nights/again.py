"""The suspects of the newest run of a target, measured again beside their last good files."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from bench.commands.progress import Watch
from bench.commands.temporary import owned_temporary_files
from bench.line.plan import Request
from bench.line.run import Surroundings, make_setting, plan_run
from bench.line.versus.again import Pair, measure_again
from bench.line.versus.kept import keep
from bench.line.versus.until import Patience
from bench.reach.open import Reaches
from bench.records import PairLaunch, Run
from bench.regress.again import Suspect
from bench.store import Remeasured, Store

WIDTH = 0.4
"""Half width of the ratio's interval, as a part of the smallest effect. At 0.5 one equal file of 20 is inconclusive; at
0.4 one of 300: its ratio lies over 3 standard errors away."""
LONGEST_S = 120.0
"""Seconds for one pair of files."""


def make_patience(smallest_effect: float) -> Patience:
    """When the launches of a suspect end."""
    return Patience(width=WIDTH * smallest_effect, time_s=LONGEST_S)


def keep_files(store: Store, run: Run, results: Path, cache: Path) -> list[str]:
    """Keeps the deployed file of every cell of a run; why one could not be. Raises as `bench.line.versus.kept.keep`."""
    digests = {record.digest: record for record in store.records(run.run_id) if record.digest}
    missing = keep(results, cache, digests)
    return [f"{digests[digest].model}, {digests[digest].recipe}: {why}" for digest, why in missing.items()]


def measure_suspects(
    store: Store,
    run: Run,
    suspects: tuple[Suspect, ...],
    *,
    results: Path,
    cache: Path,
    watch: Watch,
    smallest_effect: float,
    budget_s: float,
) -> int:
    """Measures the suspects of a run and stores each as it ends; how many had launches.

    Raises `InvalidInput` where the run's request cannot be planned any more.
    """
    if not suspects:
        return 0
    named: dict[Pair, Suspect] = {(one.tonight.cell, one.good.digest, one.tonight.digest): one for one in suspects}
    measured = 0

    def stored(pair: Pair, launches: tuple[PairLaunch, ...], threads: int, reason: str) -> None:
        nonlocal measured
        measured += bool(launches)
        key, good, tonight = pair
        cell = named[pair].series.key.cell
        store.add_remeasured(
            Remeasured(
                run_id=run.run_id,
                key=key,
                cell=cell,
                good=good,
                tonight=tonight,
                threads=threads,
                reason=reason,
                pairs=launches,
            )
        )

    plan = plan_run(TypeAdapter(Request).validate_python(dict(run.request)), cache)
    patience = make_patience(smallest_effect)
    with owned_temporary_files() as folder, Reaches() as reaches:
        around = Surroundings(store=store, cache=cache, folder=folder, progress=watch.progress, on_cell=watch.on_cell)
        setting = make_setting(plan, around, reaches)
        measure_again(list(named), plan, setting, results, patience, budget_s, stored, smallest_effect)
    return measured
