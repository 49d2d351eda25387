"""A cheap look at one candidate before its trial: what it costs without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.compress.interface import Quantizer
from bench.compress.recipe import parse_recipe
from bench.compress.train.distill import Distill
from bench.compress.train.finetune import Finetune
from bench.errors import BoardLost, CellFailed, DiskFull, InvalidInput, Unavailable
from bench.search.asked import Asked
from bench.search.groups import Space
from bench.search.nouns import Choice
from bench.search.pace import Pace
from bench.search.prediction.board import Timer
from bench.search.prediction.counted import Counter
from bench.search.strategies.interface import Tried, cost_of

PART = 0.25
"""Of the longest trial: where a look takes longer, it costs more than it saves, unless it ends one candidate in four."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Times whole untrained candidates of a search, where that is short beside a trial. `whole`: the uncompressed network.
    `pace`: hears how long a look takes. `is_stored`: whether the trial of a choice and family is.

    A search that is continued makes the same choices, however long its trials and looks take now: what was tried is stored, and the
    cache keeps the figure of what was looked at.
    """

    space: Space
    timer: Timer | Counter
    asked: Asked
    whole: Tried
    pace: Pace
    is_stored: Callable[[Choice, str], bool]
    note: Callable[[str], None]

    def cost(self, choice: Choice, family: str) -> float | None:
        """The latency in ms, with the family; None where weights decide the cost too, as LUTs, where a look takes too long, and
        where it fails."""
        if isinstance(self.timer, Counter) or not (keeps_kernels(self.asked.then or "") and keeps_kernels(family)):
            return None
        began, steps = self.pace.spent_s(), " + ".join(filter(None, (self.asked.untrained, family)))
        late = self.pace.look_s > PART * self.pace.usual_s
        if self.is_stored(choice, family) or (late and not self.timer.is_known(self.space, choice, steps)):
            return None
        try:
            (found,) = self.timer.networks(self.space, [choice], steps, cost_of(self.whole))
        except (BoardLost, DiskFull):
            raise
        except (InvalidInput, CellFailed, Unavailable) as error:
            self.note(f"a candidate was not timed before its training: {error}")
            return None
        self.pace.add_look(began)
        return found


def keeps_kernels(steps: str) -> bool:
    """Whether weights do not decide what runs after these steps: each one only trains, or is the runtime's own quantization.

    Others may remove channels by what was trained, as `iterative`, or choose bits by it, as `mixed_int8`.
    """
    return all(isinstance(step, (Distill, Finetune, Quantizer)) for step in parse_recipe("steps", steps).steps)
