"""What a search is asked for: budgets, the drop that is allowed, what is minimized, how long it may take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.config.target import Budget
from bench.errors import InvalidInput, unknown
from bench.report.budget import MEASURED_BY

LATENCY, LUTS = "latency_p50_ms", "lut"
"""What a search makes smaller: columns of cells.csv."""
UNITS = {LATENCY: " ms", LUTS: " LUTs"}
"""As they are written behind a figure."""
ALIASES = {"latency_ms": LATENCY}
DROPS = ("accuracy_drop_pp", "score_drop")
"""Limits of quality. `--max-drop` sets one of them."""
MOST_MARGIN = 0.5
"""Part of that limit which the drop's standard error takes at most: few samples leave something to choose."""
ERROR = "output_relative_rms"
"""The limit of quality where there are no labels: a column of cells.csv."""
MINIMIZED: Mapping[str, str] = {
    "latency": LATENCY,
    "energy": "energy_per_inference_mj",
    "size": "file_bytes",
    "memory": "memory_peak_bytes",
    "lut": LUTS,
}
"""Value of --minimize -> column of cells.csv."""
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
ENERGY = ("energy_mj", "energy_per_inference_mj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`limits`: of resources, by the keys of `[budget]`. `quality`: of DROPS or ERROR, at most one for a search.

    `minimize`: a key of MINIMIZED; "" for the best quality within the limits. `cost`: the column that the search makes
    smaller to get there, its limit's name too: the latency, or the LUTs of a target that only simulates.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    minimize: str = ""
    cost: str = LATENCY

    @property
    def wants_energy(self) -> bool:
        """Whether a choice depends on energy."""
        return self.minimize == "energy" or "energy_mj" in self.limits

    def over(self, row: Mapping[str, str | float | None], error: float = 0.0) -> dict[str, float]:
        """Limit -> figure over limit, for each that a row exceeds; infinite where it has no such figure.

        `error`: the standard error of the drop, in the limit's unit. It is added to the drop, up to MOST_MARGIN of the limit.
        """
        found = {}
        for name, most in {**self.limits, **self.quality}.items():
            column, factor = MEASURED_BY.get(name, (name, 1.0))
            value = row.get(column)
            used = math.inf if value is None or isinstance(value, str) else value * factor
            if name in DROPS:
                used += self.margin(error)
            if used > most:
                found[name] = used
        return found

    def margin(self, error: float) -> float:
        """What counts on top of a drop with that standard error, in its unit; nothing where no drop is limited."""
        most = next((self.quality[name] for name in DROPS if name in self.quality), 0.0)
        return min(error, MOST_MARGIN * most)

    def most(self, name: str) -> float:
        """A limit."""
        return {**self.limits, **self.quality}[name]

    def excess(self, over: Mapping[str, float]) -> dict[str, float]:
        """Limit -> its figure over it, for those that are exceeded; infinite for a limit of 0."""
        return {name: used / self.most(name) if self.most(name) else math.inf for name, used in over.items()}


def parse_budgets(texts: Sequence[str], target: Budget) -> dict[str, float]:
    """KEY=NUMBER of `--budget`, over those of the target. Raises `InvalidInput` naming the option's text."""
    found: dict[str, float] = {}
    known = [name for name in Budget.__dataclass_fields__ if name not in (*DROPS, "__pydantic_config__")]
    for text in texts:
        key, equals, value = text.partition("=")
        name = ALIASES.get(key, key)
        if name in DROPS:
            raise InvalidInput(f"--budget {text}: the drop is limited by --max-drop")
        if name not in known:
            raise unknown("--budget", key, {*known, *ALIASES})
        if name in found:
            raise InvalidInput(f"--budget {key} is given twice")
        found[name] = read_number(value if equals else "", f"--budget {text}: write KEY=NUMBER, as latency_ms=5")
    return {**{name: most for name, most in target.limits().items() if name not in DROPS}, **found}


def read_number(text: str, why: str) -> float:
    """A number above 0. Raises `InvalidInput` with `why`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InvalidInput(f"{why}; the number is above 0")
    return value


def parse_time(text: str) -> float:
    """Seconds of `90`, `90s`, `30m` or `2h`. Raises `InvalidInput` for anything else and for no time at all."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise InvalidInput(f"--time {text}: a time above 0, as 90s, 30m or 2h")
    return seconds
