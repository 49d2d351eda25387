"""The noun of triage: what was decided about one alarm of `pressbench regress`."""

from __future__ import annotations

from dataclasses import dataclass

EXPECTED = "expected"
STATES = ("new", "acknowledged", EXPECTED, "fixed")
"""`acknowledged`: known, with a note. `expected`: it stays. `fixed`: the next nights should not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """One decision. `series`, `kind` and `run_id` (of the first night) say which change it is about."""

    alarm: str
    series: str
    kind: str
    run_id: str
    state: str
    note: str
    changed_at: str
