"""From a table to whole networks: the prediction, its stated error, and its correction by what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

from bench.search.groups import Space
from bench.search.nouns import Choice, Costs, Layer, Side, whole_choice
from bench.search.prediction.branches import Kind, count_gone, find_kinds, with_branches, without_one
from bench.search.prediction.costs import add_up, count_weights
from bench.search.prediction.table import Grid

Timed = tuple[Choice, float]
"""A choice and what the whole network costs: its latency in ms, or its LUTs."""
MEDIAN_BOUND, WORST_BOUND = 0.05, 0.15
"""A prediction with larger errors is not believed."""
RECENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """What a choice costs is `offset` + `slope` x its price. `by`: "table" or "macs", what the costs are.

    `errors`: relative error for each network that was measured to check it, each predicted from the others. `why`: why
    it is not believed, and whole candidates are measured; "" if it is.
    """

    costs: Costs
    offset: float
    slope: float
    by: str
    errors: tuple[float, ...] = ()
    why: str = ""

    def predict(self, choice: Choice) -> float:
        """What a choice costs."""
        return self.offset + self.slope * self.costs.of(choice)

    def most(self, cost: float) -> float:
        """The largest price of a choice that costs at most that."""
        return (cost - self.offset) / self.slope

    def corrected(self, seen: Sequence[Timed]) -> Predictor:
        """Without the bias of the last networks that were measured."""
        if not seen:
            return self
        return replace(self, offset=self.offset + float(np.median([ms - self.predict(c) for c, ms in seen[-RECENT:]])))

    def scaled(self, ratio: float) -> Predictor:
        """For networks that all take `ratio` times as long."""
        return replace(self, offset=self.offset * ratio, slope=self.slope * ratio)

    @property
    def median_error(self) -> float:
        """Of the networks that checked it."""
        return float(np.median(self.errors)) if self.errors else float("inf")

    @property
    def worst_error(self) -> float:
        """Of the networks that checked it."""
        return max(self.errors, default=float("inf"))

    @property
    def share_of_bounds(self) -> float:
        """The larger of both errors over its bound: at most 1 is believed."""
        return max(self.median_error / MEDIAN_BOUND, self.worst_error / WORST_BOUND)


def fit(
    space: Space, grids: Mapping[str, Grid], whole: Timed, checked: Sequence[Timed], shortened: Sequence[Timed] = ()
) -> Predictor:
    """The line through measured networks. `whole`: the uncompressed one; `checked`: random ones; `shortened`: each without one
    branch, which shows what goes with a branch of its kind besides its layers.

    Without a table (`grids` empty) the costs are multiply-accumulates. Both are believed within the bounds only.
    """
    costs, by = price(space, grids, space.step)
    lacking = [choice for choice, _ in shortened]
    kinds = [kind for kind in find_kinds(space) if without_one(space, kind) in lacking]

    def line(points: Sequence[Timed]) -> Predictor:
        slope, offset, prices = _line(costs, kinds, points)
        priced = with_branches(space, costs, kinds, [one / slope for one in prices])
        return Predictor(costs=priced, offset=offset, slope=slope, by=by)

    errors = []
    for place, (choice, ms) in enumerate(checked):
        others = [whole, *checked[:place], *checked[place + 1 :], *shortened]
        errors.append(abs(line(others).predict(choice) - ms) / ms)
    found = replace(line([whole, *checked, *shortened]), errors=tuple(errors))
    return replace(found, why=_explain(found))


def fit_in_turn(
    space: Space, grids: Mapping[str, Grid], whole: Timed, checked: Sequence[Timed], shortened: Sequence[Timed] = ()
) -> tuple[Predictor, ...]:
    """By the table, and where that is not believed by multiply-accumulates: they do not scatter. The last one counts: that
    with the smaller errors."""
    by_table = fit(space, grids, whole, checked, shortened)
    if not (grids and by_table.why):
        return (by_table,)
    both = (by_table, fit(space, {}, whole, checked))
    return both if both[1].share_of_bounds <= by_table.share_of_bounds else both[::-1]


def by_macs(space: Space, whole_ms: float) -> Predictor:
    """Times in proportion to multiply-accumulates, believed: what a search without a target goes by."""
    costs, by = price(space, {})
    return Predictor(costs=costs, offset=0.0, slope=whole_ms / costs.of(whole_choice(space.groups)), by=by)


def price(space: Space, grids: Mapping[str, Grid], step: int = 1) -> tuple[Costs, str]:
    """The costs of all choices by the table, or without one by MACs, of whole steps: kernels that take 8 channels at a time
    save nothing by 4."""
    if not grids:

        def macs(layer: Layer, inputs: int, outputs: int) -> float:
            return _macs(layer, _fill(layer.inputs, inputs, step), _fill(layer.outputs, outputs, step))

        return add_up(space.layers, space.groups, macs), "macs"
    timed = [layer for layer in space.layers if layer.name in grids]
    return add_up(timed, space.groups, lambda layer, inputs, outputs: grids[layer.name].at(inputs, outputs)), "table"


def _fill(side: Side, channels: int, step: int) -> int:
    """Whole steps, at most what it had; a side that no group changes stays."""
    return min(side.whole, ceil(channels / step) * step) if side.per else channels


def _macs(layer: Layer, inputs: int, outputs: int) -> float:
    shape = layer.shape
    places = (
        1 if shape is None else prod(size / stride for size, stride in zip(shape.window, shape.stride, strict=False))
    )
    return count_weights(layer, inputs, outputs) * places


def _line(costs: Costs, kinds: Sequence[Kind], points: Sequence[Timed]) -> tuple[float, float, list[float]]:
    """Slope, offset, and what more each kind of branch costs where it goes, by least squares. Through the first point and the
    origin, and 0 for a branch, where the slope means nothing."""
    x, y = np.array([costs.of(choice) for choice, _ in points]), np.array([ms for _, ms in points])
    scale = x.max()
    known = np.column_stack([x / scale, *np.array([count_gone(kinds, choice) for choice, _ in points], float).T])
    means = known.mean(axis=0)
    slope, *prices = np.linalg.lstsq(known - means, y - y.mean(), rcond=None)[0]
    if slope <= 0:
        return float(y[0] / x[0]), 0.0, [0.0] * len(kinds)
    return float(slope / scale), float(y.mean() - means @ [slope, *prices]), [float(one) for one in prices]


def _explain(found: Predictor) -> str:
    by = "the table" if found.by == "table" else "the prediction by multiply-accumulates"
    if not found.errors:
        return f"no random network checked {by}"
    if found.share_of_bounds > 1:
        return (
            f"{by} is off by {found.median_error:.1%} (median) and {found.worst_error:.1%} (worst) on "
            f"{len(found.errors)} random networks; the bounds are {MEDIAN_BOUND:.0%} and {WORST_BOUND:.0%}"
        )
    return ""
