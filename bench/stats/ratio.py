"""Interleaved blocks of two models -> the ratio of their times, with an interval over launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.device.timing import PREEMPTED_NS
from bench.records import SMALLEST_EFFECT, PairLaunch
from bench.stats.intervals import MIN_LAUNCHES, Estimate, t_quantile, trimmed_interval
from bench.stats.verdict import Verdict, decide_verdict
from bench.types import Clock, Cost

MIN_CLEAN_BLOCKS = 5
"""Blocks without a preempted member a launch must keep; with fewer, the waits are subtracted, or all blocks count."""


BASES = ("clean", "corrected", "raw")
"""What the blocks of a launch are taken as, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of B over time of A: above 1 means B is slower. `low`..`high` holds 95 %.

    `blocks`: how many were used; `clean_share`: blocks without a preempted member over all, None where the
    kernel does not say. `basis`: of the worst launch: "clean", "corrected" where a launch kept too few clean blocks and
    the time that it waited for a CPU was subtracted, "raw" where that was not possible and all of its blocks were used
    as they are. `verdict`: as `decide_verdict` finds it from the interval.
    """

    ratio: float
    low: float | None
    high: float | None
    launches: int
    blocks: int
    clean_share: float | None
    verdict: Verdict
    basis: str = "clean"

    @property
    def speedup(self) -> Estimate:
        """Time of A over time of B: above 1 means B is faster."""
        low = None if self.high is None else 1 / self.high
        high = None if self.low is None else 1 / self.low
        return Estimate(value=1 / self.ratio, low=low, high=high, n=self.launches)


def ratio(pairs: Sequence[PairLaunch], smallest_effect: float = SMALLEST_EFFECT, *, threads: int = 1) -> Ratio:
    """How B compares with A from launches that ran them in (a, b, b, a) blocks in one process.

    Per block log((b1 + b2) / (a1 + a2)): the ABBA order cancels a linear drift. Per launch the
    median of its blocks. Over launches, the unit of repetition (Kalibera & Jones, ISMM 2013),
    `trimmed_interval`, which one wild launch of ten does not move; all on logarithms, so ratio(A, B) = 1 / ratio(B, A).
    `threads`: of the runtime. The waits are of one thread, so they are subtracted only where it is the only one.
    `smallest_effect`: the share that counts as faster or slower. ValueError: no blocks, clocks mixed, a duration that is not positive.
    """
    if len({pair.clock for pair in pairs}) > 1:
        raise ValueError("durations of different clocks are never compared")
    pairs = [pair for pair in pairs if len(pair.blocks_ns)]
    used = [choose_blocks(pair, threads) for pair in pairs]
    if not used:
        raise ValueError("the ratio of no blocks")
    logs = trimmed_interval([float(np.median(take_logs(blocks))) for blocks, _ in used])
    low = None if logs.low is None else float(np.exp(logs.low))
    high = None if logs.high is None else float(np.exp(logs.high))
    masks = [find_clean(pair) for pair in pairs if len(pair.waits_ns)]
    return Ratio(
        ratio=float(np.exp(logs.value)),
        low=low,
        high=high,
        launches=logs.n,
        blocks=sum(len(kept) for kept, _ in used),
        clean_share=float(np.concatenate(masks).mean()) if masks else None,
        verdict=decide_verdict(low, high, smallest_effect),
        basis=max((basis for _, basis in used), key=BASES.index),
    )


def ratio_apart(a: Sequence[float], b: Sequence[float], smallest_effect: float = SMALLEST_EFFECT) -> Ratio:
    """How B compares with A from medians of launches that were made at other times, in one unit.

    The difference of the mean logarithms with Welch's interval (B. L. Welch, Biometrika 34, 1947). It holds what chance
    did to the launches, and not what else changed between them: the `basis` is "records". Without an interval below 3
    launches of either. ValueError: no launches, or a median that is not positive.
    """
    if not a or not b or min(*a, *b) <= 0:
        raise ValueError("the ratio of no launches, or of times that are not positive")
    logs = [np.log(np.asarray(values, dtype=np.float64)) for values in (a, b)]
    middle, few = float(logs[1].mean() - logs[0].mean()), min(len(a), len(b))
    low = high = None
    if few >= MIN_LAUNCHES:
        half = _welch_half(logs[0], logs[1])
        low, high = float(np.exp(middle - half)), float(np.exp(middle + half))
    return Ratio(
        ratio=float(np.exp(middle)),
        low=low,
        high=high,
        launches=few,
        blocks=0,
        clean_share=None,
        verdict=decide_verdict(low, high, smallest_effect),
        basis="records",
    )


def _welch_half(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Half the 95 % interval of the difference of two means."""
    one, two = (float(values.var(ddof=1)) / len(values) for values in (a, b))
    if one + two == 0:
        return 0.0
    freedom = (one + two) ** 2 / (one**2 / (len(a) - 1) + two**2 / (len(b) - 1))
    return t_quantile(freedom) * float(np.sqrt(one + two))


def find_clean(pair: PairLaunch) -> NDArray[np.bool_]:
    """Which blocks have no preempted member; all of them where the kernel does not report waits."""
    if len(pair.waits_ns) == 0:
        return np.ones(len(pair.blocks_ns), dtype=np.bool_)
    if len(pair.waits_ns) != len(pair.blocks_ns):
        raise ValueError(f"{len(pair.waits_ns)} rows of waits for {len(pair.blocks_ns)} blocks")
    return np.asarray((np.asarray(pair.waits_ns) <= PREEMPTED_NS).all(axis=1))


def choose_blocks(pair: PairLaunch, threads: int) -> tuple[NDArray[np.float64], str]:
    """Rows of (a, b, b, a) nanoseconds, and their basis: those without a preempted member where 5 are left (or all are
    clean), else all less what each waited, else all as they are."""
    blocks, clean = np.asarray(pair.blocks_ns, dtype=np.float64), find_clean(pair)
    if clean.all() or clean.sum() >= MIN_CLEAN_BLOCKS:
        return blocks[clean], "clean"
    if threads == 1 and pair.clock is Clock.HOST:
        corrected = blocks - np.asarray(pair.waits_ns) / pair.loops
        corrected = corrected[(corrected > 0).all(axis=1)]  # a wait between two inferences belongs to neither
        if len(corrected) >= MIN_CLEAN_BLOCKS:
            return corrected, "corrected"
    return blocks, "raw"


def take_logs(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """log((b1 + b2) / (a1 + a2)) of each row."""
    if not (blocks > 0).all():
        raise ValueError("a block has a duration that is not positive")
    return np.asarray(np.log((blocks[:, 1] + blocks[:, 2]) / (blocks[:, 0] + blocks[:, 3])))


def promised_speedup(base: Cost | None, cost: Cost) -> float | None:
    """Nonzero MACs of the baseline over nonzero MACs of this; None where an operator of either cannot be counted."""
    if base is None or base.unknown or cost.unknown or not cost.nonzero_macs:
        return None
    return base.nonzero_macs / cost.nonzero_macs
