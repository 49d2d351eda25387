"""Whether a cell keeps the budget of its target: pass, fail or unknown, from the figures of its row."""

from __future__ import annotations

from collections.abc import Mapping

KEPT = "pass"
MEASURED_BY: Mapping[str, tuple[str, float]] = {
    "latency_p50_ms": ("latency_p50_ms", 1.0),
    "latency_p99_ms": ("latency_p99_ms", 1.0),
    "memory_mb": ("memory_peak_bytes", 1e-6),
    "energy_mj": ("energy_per_inference_mj", 1.0),
    "file_kb": ("file_bytes", 1e-3),
    "lut": ("lut", 1.0),
    "accuracy_drop_pp": ("accuracy_drop_pp", 1.0),
    "score_drop": ("score_drop", 1.0),
}
"""Budget -> the column of cells.csv that it limits, and the factor from the column's unit to the budget's."""


def judge_budget(limits: Mapping[str, float], row: Mapping[str, str | float | None]) -> str | None:
    """`pass`, `fail: ...` naming each figure over its limit, or `unknown: ...` where a limited figure is missing.

    None without limits. One figure over its limit fails the cell whatever else is missing.
    """
    if not limits:
        return None
    spent = {name: _spend(name, row) for name in limits}
    over = [
        f"{name} {used:.6g} of {limits[name]:g}"
        for name, used in spent.items()
        if used is not None and used > limits[name]
    ]
    missing = [name for name, used in spent.items() if used is None]
    if over:
        return f"fail: {', '.join(over)}"
    if not missing:
        return KEPT
    hint = ""
    if "accuracy_drop_pp" in missing and row.get("score") is not None:
        hint = f" (the score is {row.get('score_name')}, not accuracy: limit it by score_drop)"
    return f"unknown: no figure for {', '.join(missing)}{hint}"


def _spend(name: str, row: Mapping[str, str | float | None]) -> float | None:
    column, factor = MEASURED_BY.get(name, (name, 1.0))
    value = row.get(column)
    return None if value is None or isinstance(value, str) else value * factor
