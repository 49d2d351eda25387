"""What holds for every case: no traceback, no silent garbage, a refusal that names its cause."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tools.cases.run import Outcome

TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^\w*(?:Error|Exception): ", re.MULTILINE)
AGREES = 0.5
"""Below this share of equal first classes, outputs without labels are not those of the same network."""
KNOWN_EXITS = {0, 2, 3, 4}
WAITED = "samples ran without waiting for a CPU"
"""In the reason of a cell that was measured while this machine was busy."""


def broken_laws(outcome: Outcome) -> Iterator[str]:
    """What is wrong with an outcome whatever the case: one line each."""
    if outcome.exit_code not in KNOWN_EXITS and outcome.command.startswith("pressbench"):
        yield f"exit code {outcome.exit_code}"
    if outcome.command.startswith("pressbench") and TRACEBACK.search(outcome.output):
        yield "a traceback or a bare error on the terminal"
    for cell in outcome.cells:
        yield from broken_laws_of_cell(cell)


def broken_laws_of_cell(cell: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a row of cells.csv."""
    name, status, reason = cell["recipe"], cell["status"], cell["reason"]
    if TRACEBACK.search(reason):
        yield f"{name}: a Python error for a reason: {reason[:80]}"
    if status in {"failed", "skipped", "untrusted", "inconclusive"} and not reason:
        yield f"{name}: {status} without a reason"
    agreement, accuracy = cell.get("top1_agreement", ""), cell.get("accuracy", "")
    if status == "ok" and agreement and not accuracy and float(agreement) < AGREES:
        yield f"{name}: ok, and agrees with its reference on {float(agreement):.0%} of the inputs"
