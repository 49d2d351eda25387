"""Which width each group gets: the least expected loss within limits, by integer programming (HiGHS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from bench.errors import CellFailed
from bench.search.nouns import Choice, Costs, Group

SOLVE_S = 60.0
"""How long one allocation may take."""
INFEASIBLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What choices cost of one resource, and the most they may."""

    costs: Costs
    most: float


def allocate(groups: Sequence[Group], limits: Sequence[Limit]) -> Choice | None:
    """The choice of least total loss that keeps every limit; None where no choice does.

    A binary variable for each width of a group, one of which is taken. A product of two of them is a variable of its
    own whose rows and columns add up to theirs, which is exact. Raises `CellFailed` where the solver finds nothing in
    time.
    """
    layout = _Layout(groups, limits)
    losses = np.concatenate([np.asarray(group.losses, np.float64) for group in groups])
    scale = max(float(losses.max(initial=0.0)), 1e-30)
    price = np.zeros(layout.size)
    price[: len(losses)] = losses / scale
    whole = np.zeros(layout.size)
    whole[: len(losses)] = 1
    found = milp(
        price,
        integrality=whole,
        bounds=Bounds(0, 1),
        constraints=[*layout.ties(), *(layout.limit(one) for one in limits)],
        options={"time_limit": SOLVE_S, "mip_rel_gap": 1e-6},
    )
    if found.status == INFEASIBLE:
        return None
    if found.x is None:
        raise CellFailed(f"the widths were not found in {SOLVE_S:g} s: {found.message}")
    return tuple(int(np.argmax(found.x[layout.starts[place] :][: len(one.widths)])) for place, one in enumerate(groups))


class _Layout:
    """Where each variable lies: the widths of all groups, then the pairs of widths of two groups that have a price."""

    def __init__(self, groups: Sequence[Group], limits: Sequence[Limit]) -> None:
        self.counts = [len(group.widths) for group in groups]
        self.starts = [sum(self.counts[:place]) for place in range(len(groups))]
        self.pairs: dict[tuple[int, int], int] = {}
        self.size = sum(self.counts)
        for pair in sorted({pair for limit in limits for pair in limit.costs.pairs}):
            self.pairs[pair] = self.size
            self.size += self.counts[pair[0]] * self.counts[pair[1]]

    def ties(self) -> list[LinearConstraint]:
        """One width of each group is taken, and pairs are those of the widths taken."""
        rows: list[tuple[list[int], list[float]]] = []
        totals: list[float] = []
        for start, count in zip(self.starts, self.counts, strict=True):
            rows.append((list(range(start, start + count)), [1.0] * count))
            totals.append(1.0)
        for (one, two), start in self.pairs.items():
            grid = np.arange(start, start + self.counts[one] * self.counts[two]).reshape(self.counts[one], -1)
            for group, lines in ((one, grid), (two, grid.T)):
                for place, line in enumerate(lines):
                    rows.append(([*line.tolist(), self.starts[group] + place], [1.0] * len(line) + [-1.0]))
                    totals.append(0.0)
        places = [(row, column) for row, (columns, _) in enumerate(rows) for column in columns]
        values = [value for _, some in rows for value in some]
        matrix = coo_array((values, tuple(zip(*places, strict=True))), shape=(len(rows), self.size)).tocsr()
        return [LinearConstraint(matrix, totals, totals)]

    def limit(self, limit: Limit) -> LinearConstraint:
        """The cost of the choice is at most the limit."""
        row: NDArray[np.float64] = np.zeros(self.size)
        for group, prices in limit.costs.single.items():
            row[self.starts[group] :][: len(prices)] = prices
        for pair, table in limit.costs.pairs.items():
            row[self.pairs[pair] :][: table.size] = table.ravel()
        scale = max(float(np.abs(row).max(initial=0.0)), 1e-30)
        return LinearConstraint(row / scale, -np.inf, (limit.most - limit.costs.constant) / scale)
