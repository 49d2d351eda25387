"""Simpler rules and Apache Otava on the series that `pressbench nightly` judges.

PRESSBENCH_OTAVA names a Python that has apache-otava, whose pins clash with ours.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.regress.judge import RECENT

Values = NDArray[np.float64]
OTAVA = """
import json, sys
from otava.analysis import compute_change_points
print(json.dumps([[int(c.index) for c in compute_change_points(s)[0]] for s in json.load(sys.stdin)]))
"""


def over_threshold(values: Values) -> int | None:
    """Tonight over 5 % from last night."""
    return len(values) - 1 if abs(np.log(values[-1] / values[-2])) > np.log(1.05) else None


def over_quartiles(values: Values) -> int | None:
    """rustc-perf's rule: tonight's change beyond the third quartile of earlier changes by 3 times their range."""
    changes = np.abs(np.diff(np.log(values)))
    first, third = np.quantile(changes[:-1], [0.25, 0.75])
    return len(values) - 1 if changes[-1] > third + 3 * (third - first) else None


RULES: Mapping[str, Callable[[Values], int | None]] = {
    "fixed 5 % threshold": over_threshold,
    "rustc-perf: Q3 + 3 IQR": over_quartiles,
}


def apply_rules(series: Sequence[Values]) -> dict[str, list[int | None]]:
    """Rule -> for each series the night of its newest change, None where it sees none in the newest 14."""
    found = {name: [rule(values) for values in series] for name, rule in RULES.items()}
    python = os.environ.get("PRESSBENCH_OTAVA")
    if python:
        found["Apache Otava"] = run_otava(python, series)
    return found


def run_otava(python: str, series: Sequence[Values]) -> list[int | None]:
    """The newest change point of each series, by its defaults."""
    given = json.dumps([values.tolist() for values in series])
    answer = subprocess.run([python, "-I", "-c", OTAVA], input=given, capture_output=True, text=True, check=True)
    return [
        max((place for place in points if place >= len(values) - RECENT), default=None)
        for values, points in zip(series, json.loads(answer.stdout), strict=True)
    ]
