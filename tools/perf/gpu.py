"""`make gpu`: everything about a GPU in one go, on a machine that has one. `--dry-run` tries the script on the CPU.

python -m tools.perf.gpu --out DIR [--part agreement|large|small|all] [--budget-s 420] [--state DIR]

Each part can be run again: what the state folder holds is not measured twice, what the budget cut
off is continued. Writes agreement.json, gpu.csv and gpu.md to DIR, and prints them. Ends with status 1
when a check is over its limit; a dry run's figures are not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bench.device.meters.nvml import Nvml
from bench.errors import Unavailable
from bench.machine import machine_facts
from bench.store import Store
from bench.types import Json

from .gpu_agreement import Stage, checks
from .gpu_cells import Group, groups, left, measure, prepare
from .gpu_table import as_csv, as_markdown, rows

PARTS = ("agreement", "large", "small")


def main() -> None:
    asked = arguments()
    if not asked.dry_run and not torch.cuda.is_available():
        sys.exit(
            "no NVIDIA GPU answers to torch here: nvidia-smi must list one (--dry-run tries the script on the CPU)"
        )
    state, out = asked.state.resolve(), asked.out.resolve()
    state.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + asked.budget_s
    wanted = PARTS if asked.part == "all" else (asked.part,)
    try:
        if "agreement" in wanted:
            agree(state, dry=asked.dry_run)
        cells = [group for part in wanted if part != "agreement" for group in groups(part, dry=asked.dry_run)]
        measure_cells(cells, state, until, asked.budget_s)
    finally:
        found = report(state, out)
    if (over := missed(found)) and not asked.dry_run:
        sys.exit("over the limit: " + "; ".join(over))


def measure_cells(cells: Sequence[Group], state: Path, until: float, budget_s: float) -> None:
    """What the store does not hold yet."""
    if not cells:
        return
    with Store.open(state / "pressbench.db") as store:
        cells = left(cells, store)
        if not cells:
            return
        for line in prepare(cells, state / "cache", max(1, min(12, (os.cpu_count() or 1) - 1))):
            say(line, since=until - budget_s)
        for line in measure(cells, store, state / "cache", until):
            say(line, since=until - budget_s)


def missed(found: Sequence[Mapping[str, Json]]) -> list[str]:
    """The checks that are over their limit, with by how much."""
    return [f"{check['name']} {check['difference']:+.2%}" for check in found if not check["holds"]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.perf.gpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--budget-s", type=float, default=1e9)
    parser.add_argument("--state", type=Path, default=Path("out/gpu"))
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def agree(state: Path, *, dry: bool) -> None:
    found = []
    for check in checks(Stage(cache=state / "cache", dry=dry)):
        found.append(check.row())
        say(
            f"{check.name}: {check.ours:.5g} against {check.theirs:.5g} {check.unit}, {check.difference:+.2%}. {check.note}"
        )
        (state / "agreement.json").write_text(json.dumps(found, indent=1))


def report(state: Path, out: Path) -> list[Mapping[str, Json]]:
    """From all there is in the state folder, whatever part ran now. Gives the checks."""
    kept = state / "agreement.json"
    found = json.loads(kept.read_text()) if kept.exists() else []
    with Store.open(state / "pressbench.db") as store:
        records = store.records()
    table = rows(records)
    (out / "agreement.json").write_text(json.dumps(found, indent=1))
    (out / "gpu.csv").write_text(as_csv(table))
    (out / "gpu.md").write_text(as_markdown(machine(), found, table))
    say((out / "gpu.md").read_text())
    return found


def machine() -> Mapping[str, Json]:
    """The host, the GPU and the versions."""
    facts = dict(machine_facts(Path("/")))
    facts |= {"torch": torch.__version__, "cuda": torch.version.cuda, "date": time.strftime("%Y-%m-%d")}
    if torch.cuda.is_available():
        facts |= {"cudnn": torch.backends.cudnn.version(), "gpu": torch.cuda.get_device_name()}
    try:
        facts["nvml"] = dict(Nvml.open(Path("/")).condition().notes)
    except Unavailable as error:
        facts["nvml"] = f"missing: {error}"
    return facts


def say(text: str, since: float | None = None) -> None:
    if text:
        print(f"[{time.monotonic() - since:4.0f} s] {text}" if since is not None else text, flush=True)


if __name__ == "__main__":
    main()
