"""Does a backend of a target really run? Asks it, with a network of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure
from bench.config.target import BackendChoice, Target
from bench.errors import PressbenchError
from bench.line.artifacts import compiled
from bench.line.measure import Bench, run_artifact
from bench.models.registry import resolve
from bench.plugins import load
from bench.reach.open import open_reach
from bench.types import Backend, Conditions, Probe

NETWORK = "lenet300_100(width=0.1)"
QUICK = Measure(launches=1, pairs=0, time_s=0.1, warmup_s=0.1, profile_runs=0, limit_s=120)


def try_backend(target: Target, choice: BackendChoice, cache: Path) -> Probe:
    """Compiles, sends and runs it once on the target's first device; the reason where that does not go."""
    conditions = Conditions(device=target.devices[0] if target.devices else "")
    try:
        backend: Backend = load("backend", choice.name)()
        found = backend.probe()
        if not found.available:
            return found
        recipe = parse_recipe("trial", "" if backend.session else "int8()")
        source = compress(resolve(NETWORK, None), recipe, data=None, cache=cache, seed=0, progress=_quiet)
        artifact = compiled(backend, source, conditions, choice.options, cache)
        if backend.session is None:
            return Probe(available=True, version=backend.simulate(artifact, conditions, choice.options).source)
        stand = Bench(
            reach=open_reach(target.reach, conditions.device),
            session=backend.session,
            conditions=conditions,
            measure=QUICK,
            options=choice.options,
            pin=target.pin,
        )
        measured = run_artifact(stand, artifact)
    except PressbenchError as error:
        return Probe(available=False, reason=str(error))
    return Probe(available=not measured.distrust, version=measured.version, reason="; ".join(measured.distrust))


def _quiet(_what: str, _done: float) -> None:
    return None
