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
    own whose rows and columns add up to theirs, which is exact. What a layer costs unless its rank is lower is a variable that
    is at least this cost, less the largest it can be where the rank is lower: exact too, as limits only hold costs down. Raises `CellFailed` where the solver finds nothing in
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
        constraints=[*layout.ties(), *layout.guards(), *map(layout.limit, range(len(limits)))],
        options={"time_limit": SOLVE_S, "mip_rel_gap": 1e-6},
    )
    if found.status == INFEASIBLE:
        return None
    if found.x is None:
        raise CellFailed(f"the widths were not found in {SOLVE_S:g} s: {found.message}")
    return tuple(int(np.argmax(found.x[layout.starts[place] :][: len(one.widths)])) for place, one in enumerate(groups))


class _Layout:
    """Where each variable lies: the widths of all groups, then the pairs of widths of two groups that have a price, then a share
    of the largest cost for each layer that counts unless its rank is lower."""

    def __init__(self, groups: Sequence[Group], limits: Sequence[Limit]) -> None:
        self.limits = limits
        self.counts = [len(group.widths) for group in groups]
        self.starts = [sum(self.counts[:place]) for place in range(len(groups))]
        self.pairs: dict[tuple[int, int], int] = {}
        self.size = sum(self.counts)
        shared = {one.pair for limit in limits for one in limit.costs.unless}
        for pair in sorted(shared.union(*(limit.costs.pairs for limit in limits))):
            self.pairs[pair] = self.size
            self.size += self.counts[pair[0]] * self.counts[pair[1]]
        self.guarded = [
            (place, one) for place, limit in enumerate(limits) for one in limit.costs.unless if one.prices.max() > 0
        ]
        self.first_guard = self.size
        self.size += len(self.guarded)

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

    def guards(self) -> list[LinearConstraint]:
        """The share is at least the cost over the largest one, where the rank is whole, and at least 0."""
        found = []
        for place, (_, one) in enumerate(self.guarded):
            row: NDArray[np.float64] = np.zeros(self.size)
            row[self.pairs[one.pair] :][: one.prices.size] = one.prices.ravel() / one.prices.max()
            row[self.starts[one.rank] + one.last] = 1
            row[self.first_guard + place] = -1
            found.append(LinearConstraint(row, -np.inf, 1))
        return found

    def limit(self, place: int) -> LinearConstraint:
        """The cost of the choice is at most that limit."""
        limit = self.limits[place]
        row: NDArray[np.float64] = np.zeros(self.size)
        for group, prices in limit.costs.single.items():
            row[self.starts[group] :][: len(prices)] = prices
        for pair, table in limit.costs.pairs.items():
            row[self.pairs[pair] :][: table.size] = table.ravel()
        for guard, (of, one) in enumerate(self.guarded):
            if of == place:
                row[self.first_guard + guard] = one.prices.max()
        scale = max(float(np.abs(row).max(initial=0.0)), 1e-30)
        return LinearConstraint(row / scale, -np.inf, (limit.most - limit.costs.constant) / scale)
