"""Which share of the uncompressed cost to aim at next: a bisection that begins where the answer is expected."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

STEP = 0.8
"""How much tighter each step is, where nothing else is said."""
CLOSE = 1.06
"""Two shares whose quotient is below this are not told apart."""


@dataclass(slots=True, kw_only=True)
class Walk:
    """Looks for the border between shares that pass and shares that fail.

    `tightest`: small shares fail and the smallest that passes is wanted, if it is below `ceiling`. Otherwise large shares
    fail, and the largest that passes is wanted, at most `ceiling`. `step`: how much tighter the next one is while none fails,
    or none passes.
    """

    tightest: bool
    start: float
    ceiling: float = 1.0
    step: float = STEP
    passed: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)

    def add(self, share: float, *, passes: bool) -> None:
        """What a share did."""
        (self.passed if passes else self.failed).append(share)

    def next(self) -> float | None:
        """The share to try now; None where the border is known closely enough."""
        if not self.passed and not self.failed:
            return self.start
        low, high = self._bounds()
        if low is None:
            return high * self.step
        return None if high / low < CLOSE else math.sqrt(low * high)

    def _bounds(self) -> tuple[float | None, float]:
        """The border lies between them; no lower one where nothing small enough was tried."""
        if self.tightest:
            return max(self.failed, default=None), min(self.passed, default=self.ceiling)
        return max(self.passed, default=None), min(self.failed, default=self.ceiling)
