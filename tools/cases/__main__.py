"""`python -m tools.cases [--only TEXT] [--fast] [--jobs N] [--show]`: the table of the reported cases."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tools.cases.laws import WAITED, broken_laws
from tools.cases.run import Case, Outcome, load_case, run_case

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = Path(__file__).with_name("expected.toml")


def main() -> int:
    """Prints a line for each case and the sum; 1 when a case is wrong."""
    asked = arguments()
    folder = (ROOT / os.environ.get("PRESSBENCH_DATA", "../shared")).resolve() / "cases" / "reported"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there; set PRESSBENCH_DATA to the folder that has cases/reported")
        return 0
    expected = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))
    cases = [load_case(path.parent) for path in sorted(folder.glob("*/case.json")) if asked.only in path.parent.name]
    if asked.fast:
        cases = [case for case in cases if expected.get(case.name, {}).get("fast")]
    with ThreadPoolExecutor(asked.jobs) as pool:
        judge = partial(judge_case, show_all=asked.show, brief=asked.fast)
        verdicts = Counter(pool.map(judge, cases, [expected.get(case.name, {}) for case in cases]))
    print(f"{len(cases)} cases: {', '.join(f'{count} {verdict}' for verdict, count in sorted(verdicts.items()))}")
    return int(bool(verdicts["WRONG"]))


def judge_case(case: Case, expected: Mapping[str, Any], *, show_all: bool, brief: bool) -> str:
    """Runs a case and prints its line: "right", "WRONG", or "lawful": no law is broken, and no right answer is known."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pressbench-cases-") as work:
        outcomes = run_case(case, Path(work), expected.get("more", ()), borrow=expected.get("borrow", ()), brief=brief)
    faults = [*faults_of(outcomes, expected)]
    verdict = "WRONG" if faults else "right" if expected.get("command") else "lawful"
    lines = [f"{verdict:6}  {case.name:28} {time.monotonic() - begun:4.0f} s  {case.symptom}"]
    lines += [f"          {fault}" for fault in faults]
    print("\n".join([*lines, *(describe(outcomes) if show_all else ())]), flush=True)
    return verdict


def faults_of(outcomes: list[Outcome], expected: Mapping[str, Any]) -> Iterator[str]:
    """Broken laws, and what differs from the answer that was found right for this case."""
    for number, outcome in enumerate(outcomes):
        yield from (f"[{number}] {fault}" for fault in broken_laws(outcome))
    for key, wanted in expected.get("command", {}).items():
        number = int(key)
        if number < len(outcomes):
            yield from (f"[{number}] {fault}" for fault in differences(outcomes[number], wanted))
        else:
            yield f"[{number}] did not run"


def differences(outcome: Outcome, wanted: Mapping[str, Any]) -> Iterator[str]:
    """What one command should have left, and did not.

    `exit`: the code; `says`, `says_not`: texts of the output. `cells`: recipe -> status, or [status, texts of the
    reason]; "ok" is also right where only the time is inconclusive. `near`: recipe -> the most that
    `output_relative_rms` may be.
    """
    if "exit" in wanted and outcome.exit_code != wanted["exit"]:
        yield f"exit code {outcome.exit_code}, {wanted['exit']} is right"
    yield from (f"does not say {text!r}" for text in wanted.get("says", ()) if text not in outcome.output)
    yield from (f"says {text!r}" for text in wanted.get("says_not", ()) if text in outcome.output)
    rows = {cell["recipe"]: cell for cell in outcome.cells}
    for recipe, answer in wanted.get("cells", {}).items():
        status, *texts = (answer,) if isinstance(answer, str) else answer
        found = rows.get(recipe, {})
        if not is_status(found, status) or any(text not in found.get("reason", "") for text in texts):
            yield f"{recipe}: {found.get('status')} ({found.get('reason', '')[:200]}), right is {status} {texts}"
    for recipe, limit in wanted.get("near", {}).items():
        distance = rows.get(recipe, {}).get("output_relative_rms") or "nan"
        if not float(distance) <= limit:
            yield f"{recipe}: its outputs are {distance} of their spread away, at most {limit} is right"


def is_status(cell: Mapping[str, str], wanted: str) -> bool:
    """Whether a cell ended so; how busy this machine is decides nothing."""
    status = cell.get("status", "")
    reasons = [part for part in cell.get("reason", "").split("; ") if WAITED not in part]
    timed = status == "inconclusive" or (status == "untrusted" and not reasons)
    allowed = wanted.split(" or ")
    return status in allowed or (timed and "ok" in allowed)


def describe(outcomes: list[Outcome]) -> Iterator[str]:
    """Everything the commands left, for a reader who judges."""
    for number, outcome in enumerate(outcomes):
        yield f"     [{number}] {outcome.command} -> {outcome.exit_code}"
        yield from (f"         {line}" for line in outcome.output.strip().splitlines()[-30:])
        for cell in outcome.cells:
            columns = ("output_max_abs_err", "output_relative_rms", "top1_agreement", "accuracy")
            figures = " ".join(f"{key}={cell.get(key, '')[:8]}" for key in columns)
            yield f"         {cell['recipe']:10} {cell['status']:12} {figures}  {cell['reason'][:160]}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.cases", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--fast", action="store_true", help="only those marked fast in expected.toml, measured briefly")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time; figures of time mean less then")
    parser.add_argument("--show", action="store_true", help="print what every command said")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
