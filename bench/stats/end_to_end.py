"""Rounds of pre-processing, inference and post-processing -> medians and the share of what is around the inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench.device.timing import PREEMPTED_NS
from bench.records import EndToEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Medians over launches of each launch's median, in ms; `share`: of pre- and post-processing, 0 to 1."""

    whole_ms: float
    before_ms: float
    after_ms: float
    share: float


def split_time(launches: Sequence[EndToEnd]) -> Parts | None:
    """None without rounds. Leaves out rounds that waited for a CPU, unless all of a launch did."""
    found = [_split(one) for one in launches if one.infer_ns]
    if not found:
        return None
    whole, before, after, share = (median(column) for column in zip(*found, strict=True))
    return Parts(whole_ms=whole / 1e6, before_ms=before / 1e6, after_ms=after / 1e6, share=share)


def _split(one: EndToEnd) -> tuple[float, float, float, float]:
    rounds = np.array([one.before_ns, one.infer_ns, one.after_ns], dtype=np.float64)
    if one.waits_ns:
        calm = np.array(one.waits_ns) <= PREEMPTED_NS
        rounds = rounds[:, calm] if calm.any() else rounds
    whole = rounds.sum(axis=0)
    share = float((rounds[0] + rounds[2]).sum() / whole.sum())
    return float(np.median(whole)), float(np.median(rounds[0])), float(np.median(rounds[2])), share
