"""`pressbench targets`, `backends` and `recipes`: what there is and what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cache import check_writable
from bench.commands.backend_check import try_backend
from bench.commands.boards import clean_board, look_at_board
from bench.commands.meters import meter_state
from bench.commands.temporary import owned_temporary_files
from bench.compress.recipe import describe
from bench.config.strict_toml import shipped
from bench.config.suite import PACKAGE, load_suite
from bench.config.target import Target, load_target, targets
from bench.errors import InvalidInput, PressbenchError, Unavailable
from bench.line.options import check_target_options
from bench.plugins import available, load
from bench.reach.open import Reaches, is_elsewhere
from bench.report.text_table import text_table
from bench.types import Backend, Probe, Scalar

Answer = tuple[Any, Any]
"""What `--json` prints, and what the terminal shows."""


def list_targets() -> Answer:
    """Every shipped target: its backends and meters."""
    found = targets()
    rows = [(t.name, t.reach, ", ".join(c.title for c in t.backend), t.description) for t in found.values()]
    return {"targets": [asdict(target) for target in found.values()]}, text_table(
        ("target", "reach", "backends", ""), rows
    )


def check_target(name: str, cache: Path) -> tuple[Any, Any, int]:
    """Whether the target can be reached, its meters opened, and each of its backends really runs a small network.

    With the exit code. Raises `Unavailable` naming what does not, `InvalidInput` for an option that a backend does not have.
    """
    target = load_target(name)
    check_target_options(target)
    check_writable(cache)
    with Reaches() as reaches, owned_temporary_files() as folder:
        if is_elsewhere(target):
            return _check_board(target, cache, folder, reaches)
        checks = [("reach", target.reach, _reach_state(target, device, reaches)) for device in target.devices or ("",)]
        tried = [(choice.title, try_backend(target, choice, cache, folder, reaches)) for choice in target.backend]
    checks += [("backend", title, probe) for title, probe in tried]
    checks += [("meter", meter, meter_state(meter, target.meter_options.get(meter, {}))) for meter in target.meters]
    lacking = [check for check in checks if check[0] != "meter" and not check[2].available]
    rows = [(kind, name, *_words(probe)) for kind, name, probe in checks]
    if lacking:
        reasons: dict[str, list[str]] = {}
        for kind, title, probe in lacking:
            reasons.setdefault(" ".join(_words(probe)).strip(), []).append(f"{kind} {title}")
        raise Unavailable(f"target {name}: " + "; ".join(f"{', '.join(who)}: {why}" for why, who in reasons.items()))
    answer = [{"kind": kind, "name": title, **asdict(probe)} for kind, title, probe in checks]
    return {"target": name, "checks": answer}, text_table(("", "name", "state", "how to get it"), rows), 0


def _check_board(target: Target, cache: Path, folder: Path, reaches: Reaches) -> tuple[Any, Any, int]:
    """One table of everything on the board, whatever is missing; exit code 3 when a backend does not run there."""
    reach = reaches.find(target, "")
    rows: list[dict[str, Any]] = [{"kind": "reach", "name": target.reach, "state": reach.describe()}]
    rows += look_at_board(target, reach)
    failed = False
    for choice in target.backend:
        probe = try_backend(target, choice, cache, folder, reaches)
        failed |= not probe.available and not choice.optional
        lacking = "" if probe.available else probe.reason
        rows.append({"kind": "backend", "name": choice.title, "state": probe.version, "lacking": lacking})
    shown = [[row.get(key, "") for key in ("kind", "name", "state", "lacking", "remedy")] for row in rows]
    table = text_table(("", "name", "state", "missing or in the way", "what helps"), shown)
    return {"target": target.name, "checks": rows}, table, Unavailable.exit_code if failed else 0


def list_backends() -> Answer:
    """Probes every registered backend; with the files it takes and a target's options for it."""
    found = {name: _offer(name) for name in sorted(available("backend"))}
    rows = [
        (name, f"{', '.join(takes)}\n" + "\n".join(map(_choice, options.items())), *_words(probe))
        for name, (probe, takes, options) in found.items()
    ]
    answer = {
        "backends": [
            {
                "name": name,
                **asdict(probe),
                "accepts": list(takes),
                "options": {key: list(options[key]) for key in options},
            }
            for name, (probe, takes, options) in found.items()
        ]
    }
    return answer, text_table(("backend", "takes, options", "state", "how to get it"), rows)


def list_recipes() -> Answer:
    """Every compressor, then the recipes of every shipped suite."""
    steps = describe()
    suites = {name: dict(load_suite(name).recipes) for name in shipped(PACKAGE)}
    rows = [
        (step.name, "\n".join(f"{name}={default}" for name, default, _ in step.arguments), step.summary, step.source)
        for step in steps
    ]
    answer = {"steps": [asdict(step) for step in steps], "suites": suites}
    return answer, text_table(("step", "arguments", "what it does", "source"), rows)


def _choice(option: tuple[str, tuple[Scalar, ...]]) -> str:
    """An option as a target's file has it, the default first; `...` for free text or a number."""
    key, values = option
    return f"{key} = {' | '.join(map(json.dumps, values)) or '...'}"


def _offer(name: str) -> tuple[Probe, tuple[str, ...], Mapping[str, tuple[Scalar, ...]]]:
    """What a backend's probe says, the files it takes, its options; no more than why where it cannot be loaded."""
    try:
        backend: Backend = load("backend", name)()
    except PressbenchError as error:
        return Probe(available=False, reason=str(error)), (), {}
    return backend.probe(), backend.accepts, backend.options


def clean_target(name: str) -> Answer:
    """Removes what runs have left on a board. Raises `InvalidInput` for a target that is not one."""
    target = load_target(name)
    if not is_elsewhere(target):
        raise InvalidInput(
            f"targets clean {name}: nothing is sent to it, its reach is {target.reach!r}, not 'ssh' or 'adb'"
        )
    with Reaches() as reaches:
        done = clean_board(target, reaches.find(target, ""))
    left = f"; left there, because it is not ours: {', '.join(done['left'])}" if done["left"] else ""
    text = f"{done['freed'] / 1e6:.1f} MB removed from the board{left}"
    return {"target": name, "freed_bytes": done["freed"], "left": done["left"]}, text


def _reach_state(target: Target, device: str, reaches: Reaches) -> Probe:
    try:
        return Probe(available=True, version=reaches.find(target, device).describe())
    except Unavailable as error:
        return Probe(available=False, reason=str(error))


def _words(probe: Probe) -> tuple[str, str]:
    return (probe.version or "available", "") if probe.available else (f"missing: {probe.reason}", probe.remedy)
