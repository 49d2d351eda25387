"""`pressbench compare`: the ratio of the times of two model files, measured interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.compress.pipeline import compress
from bench.config.suite import Measure
from bench.config.target import BackendChoice, Target, load_target
from bench.errors import InvalidInput, unknown
from bench.line.artifacts import compiled
from bench.line.measure import Bench, find_meters, pair_launch
from bench.models.registry import resolve
from bench.plugins import load
from bench.reach.open import open_reach
from bench.records import PairLaunch
from bench.stats import ratio
from bench.types import Artifact, Backend, Conditions, Json, Progress, Recipe

ENOUGH = 0.01
"""Half width of the ratio's interval below which more launches tell nothing new."""
EXTRA_LAUNCHES = 10


def compare_files(
    *,
    target: str,
    backend: str | None,
    a: Path,
    b: Path,
    launches: int,
    blocks: int,
    threads: int,
    batch: int,
    cache: Path,
    progress: Progress,
) -> dict[str, Json]:
    """Launches of ABBA blocks; a few more when the interval is still wider than +-1 %, never fewer."""
    goal = load_target(target)
    choice = _choice(goal, backend)
    adapter: Backend = load("backend", choice.name)()
    if adapter.session is None:
        raise InvalidInput(f"backend {choice.title} estimates instead of measuring: nothing to compare")
    conditions = Conditions(batch=batch, threads=threads, device=goal.devices[0] if goal.devices else "")
    artifacts = [_as_is(path, adapter, conditions, choice, cache, progress) for path in (a, b)]
    bench = Bench(
        reach=open_reach(goal.reach, conditions.device),
        session=adapter.session,
        conditions=conditions,
        measure=Measure(blocks=blocks, warmup_s=0.2),
        options=choice.options,
        meters=find_meters(goal),
        pin=goal.pin,
    )
    done: list[PairLaunch] = []
    while len(done) < launches or (len(done) < launches + EXTRA_LAUNCHES and _wide(done)):
        progress("compare", len(done) / (launches + EXTRA_LAUNCHES))
        done.append(pair_launch(bench, artifacts[0], artifacts[1], len(done)))
    return _answer(done)


def _answer(done: list[PairLaunch]) -> dict[str, Json]:
    found = ratio(done)
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "launches": found.launches,
        "blocks": found.blocks,
        "clean_share": found.clean_share,
        "basis": found.basis,
        "unsteady": sum(not pair.steady for pair in done),
        "reasons": list(dict.fromkeys(reason for pair in done for reason in pair.distrust)),
    }


def _wide(done: list[PairLaunch]) -> bool:
    found = ratio(done)
    return found.low is None or found.high is None or (found.high - found.low) / 2 > ENOUGH


def _choice(target: Target, backend: str | None) -> BackendChoice:
    if backend is None:
        return target.backend[0]
    known: Mapping[str, BackendChoice] = {choice.title: choice for choice in target.backend}
    if backend not in known:
        raise unknown(f"backend of target {target.name}", backend, known)
    return known[backend]


def _as_is(
    path: Path, adapter: Backend, conditions: Conditions, choice: BackendChoice, cache: Path, progress: Progress
) -> Artifact:
    model = resolve(str(path), None)
    source = compress(model, Recipe(name="baseline"), data=None, cache=cache, seed=0, progress=progress)
    return compiled(adapter, source, conditions, choice.options, cache)
