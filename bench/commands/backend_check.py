"""Does a backend of a target really run? Asks it, with a network of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

from bench.compress.calibration import CalibrateOn
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure
from bench.config.target import BackendChoice, Target
from bench.errors import PressbenchError
from bench.line.measure import run_artifact
from bench.line.prepare import Setting, prepare
from bench.line.stages import load_backend
from bench.models.registry import resolve
from bench.reach.open import Reaches, is_elsewhere
from bench.types import Conditions, Probe

NETWORK = "lenet300_100(width=0.1)"
QUICK = Measure(launches=1, pairs=0, time_s=0.1, warmup_s=0.1, profile_runs=0, limit_s=120)


def try_backend(target: Target, choice: BackendChoice, cache: Path, folder: Path, reaches: Reaches) -> Probe:
    """Compiles, sends and runs the network once on the target's first device; the reason if one of these fails."""
    conditions = Conditions(device=target.first_device)
    calibrate = CalibrateOn(random=True)  # what is asked is whether it runs, not what it answers
    setting = Setting(
        target=target,
        cache=cache,
        folder=folder,
        progress=_ignore,
        measure=QUICK,
        calibrate=calibrate,
        reaches=reaches,
    )
    try:
        backend = load_backend(choice.name)
        found = backend.probe()
        if not found.available and not is_elsewhere(target):
            return found
        recipe = parse_recipe("trial", "" if backend.session or backend.infers else "int8()")
        prepared = prepare(resolve(NETWORK, None), recipe, choice, conditions, setting)
        if prepared.bench is None:
            simulation = backend.simulate(prepared.artifact, conditions, choice.options)
            return Probe(available=True, version=simulation.source)
        measured = run_artifact(prepared.bench, prepared.artifact)
    except PressbenchError as error:
        return Probe(available=False, reason=str(error))
    return Probe(available=not measured.distrust, version=measured.version, reason="; ".join(measured.distrust))


def _ignore(_what: str, _done: float) -> None:
    return None
