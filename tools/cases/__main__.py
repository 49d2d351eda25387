"""`python -m tools.cases [--only TEXT] [--fast] [--show]`: the table of the reported cases."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.cases.laws import broken_laws
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
    verdicts = Counter(judge_case(case, expected.get(case.name, {}), show_all=asked.show) for case in cases)
    print(f"{len(cases)} cases: {', '.join(f'{count} {verdict}' for verdict, count in sorted(verdicts.items()))}")
    return int(bool(verdicts["WRONG"]))


def judge_case(case: Case, expected: Mapping[str, Any], *, show_all: bool) -> str:
    """Runs a case and prints its line: "right", "WRONG", or "lawful": no law is broken, and no right answer is known."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pressbench-cases-") as work:
        outcomes = run_case(case, Path(work))
    faults = [*faults_of(outcomes, expected)]
    verdict = "WRONG" if faults else "right" if expected.get("command") else "lawful"
    print(f"{verdict:6}  {case.name:28} {time.monotonic() - begun:4.0f} s  {case.symptom}", flush=True)
    for fault in faults:
        print(f"          {fault}", flush=True)
    if show_all:
        show(outcomes)
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
    """`exit`: the code; `says`, `says_not`: texts of the output; `cells`: recipe -> status, or [status, text of the reason]."""
    if "exit" in wanted and outcome.exit_code != wanted["exit"]:
        yield f"exit code {outcome.exit_code}, {wanted['exit']} is right"
    yield from (f"does not say {text!r}" for text in wanted.get("says", ()) if text not in outcome.output)
    yield from (f"says {text!r}" for text in wanted.get("says_not", ()) if text in outcome.output)
    rows = {cell["recipe"]: cell for cell in outcome.cells}
    for recipe, answer in wanted.get("cells", {}).items():
        status, text = (answer, "") if isinstance(answer, str) else answer
        found = rows.get(recipe, {})
        if found.get("status") not in status.split(" or ") or text not in found.get("reason", ""):
            yield f"{recipe}: {found.get('status')} ({found.get('reason', '')[:100]}), right is {status} {text!r}"


def show(outcomes: list[Outcome]) -> None:
    """Everything the commands left, for a reader who judges."""
    for number, outcome in enumerate(outcomes):
        print(f"     [{number}] {outcome.command} -> {outcome.exit_code}")
        print("\n".join(f"         {line}" for line in outcome.output.strip().splitlines()[-30:]))
        for cell in outcome.cells:
            figures = " ".join(
                f"{key}={cell.get(key, '')[:8]}" for key in ("output_max_abs_err", "top1_agreement", "accuracy")
            )
            print(f"         {cell['recipe']:10} {cell['status']:12} {figures}  {cell['reason'][:160]}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.cases", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--fast", action="store_true", help="only those marked fast in expected.toml")
    parser.add_argument("--show", action="store_true", help="print what every command said")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
