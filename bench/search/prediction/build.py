"""The predictor of a search: a latency table where there is time for one, checked on random networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.errors import BoardLost, CellFailed, DiskFull, InvalidInput, Unavailable
from bench.line.prepare import Setting
from bench.search.goal import LATENCY, LUTS
from bench.search.groups import Space
from bench.search.nouns import Choice, whole_choice
from bench.search.prediction.board import Timer, draw_choices
from bench.search.prediction.branches import find_kinds, without_one
from bench.search.prediction.counted import Counter
from bench.search.prediction.predict import Predictor, Timed, fit_in_turn, price
from bench.search.prediction.table import Grid, measure_layers

TABLE_SHARE = 0.4
"""Of the time that is left when it begins, at most, for the latency table and for networks without one branch."""
SURE = 0.1
"""Of that time, after which the rest of the table is expected to take as long as what is done."""
INSTEAD = {"table": "the table counts", "macs": "multiply-accumulates take its place"}
Networks = Callable[[Space, Sequence[Choice], str, float], Sequence[float]]
"""(space, choices, steps without training, cost of the uncompressed network) -> the costs of the choices, untrained."""
NAMES = {LATENCY: "latency", LUTS: "LUTs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Builds the predictor of a space. `untrained`: the steps after the narrowing that do not train. `cost`: the column
    that is predicted, `whole` its figure of the uncompressed network. `time_s`: what the search has left."""

    space: Space
    timer: Timer | Counter
    untrained: str
    cost: str
    whole: float
    time_s: float
    setting: Setting
    note: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic

    def build(self) -> Predictor:
        """By the table, or by multiply-accumulates: each is noted with its error.

        Networks by which a table is not believed are timed once more: another load can have been the reason. A table that is not
        believed then is not kept: the next search times it.
        """
        began = self.clock()
        grids = self._grids(self.timer) if isinstance(self.timer, Timer) else {}
        left = TABLE_SHARE * self.time_s - (self.clock() - began)
        whole = (whole_choice(self.space.groups), self.whole)
        shortened = self._shorten(self.timer.networks, left) if grids else []
        checked = self._check(self.timer.networks)
        found = fit_in_turn(self.space, grids, whole, checked, shortened)
        if isinstance(self.timer, Timer) and (doubts := [one for one in found if one.by == "table" and one.why]):
            self.note(f"{doubts[0].why}: the networks are timed once more")
            again = partial(self.timer.networks, again=True)
            shortened = [
                one for choice, _ in shortened for one in self._time(again, [choice], "a network without a branch")
            ]
            checked = self._check(again)
            found = fit_in_turn(self.space, grids, whole, checked, shortened)
            if any(one.by == "table" and one.why for one in found):
                self.timer.forget_layers(self.space)
        for one in found:
            self.note(
                f"{NAMES[self.cost]} by {one.by}: error {one.median_error:.1%} (median), {one.worst_error:.1%} "
                f"(worst) on {len(checked)} random networks, each predicted from the others"
            )
            if one.why:
                instead = "whole candidates are measured" if one is found[-1] else INSTEAD[found[-1].by]
                self.note(f"{one.why}: {instead}")
        return found[-1]

    def _grids(self, timer: Timer) -> Mapping[str, Grid]:
        """The latency table; {} where there is none, with a note."""
        if all(layer.shape is None for layer in self.space.layers):
            self.note("no latency table: no layer of this network can be cut out")
            return {}
        most = TABLE_SHARE * self.time_s
        try:
            found = measure_layers(
                self.space,
                timer.board(),
                cache=self.setting.cache,
                folder=self.setting.folder,
                progress=self.setting.progress,
                late=expect_late(most, self.clock),
            )
        except (BoardLost, DiskFull):
            raise
        except (InvalidInput, CellFailed, Unavailable) as error:
            self.note(f"no latency table: {error}")
            return {}
        if not found:
            self.note(
                f"no latency table: it would take longer than {most:.0f} s, {TABLE_SHARE:.0%} of the time that is left"
            )
        elif not price(self.space, found)[0].of(whole_choice(self.space.groups)):
            self.note("no latency table: no layer takes longer here than the call of a network")
            return {}
        return found

    def _shorten(self, networks: Networks, most_s: float) -> list[Timed]:
        """The network without one branch of each kind, and its costs; [] where that would take longer than `most_s` seconds."""
        kinds, found = find_kinds(self.space), list[Timed]()
        late = expect_late(most_s, self.clock)
        for place, kind in enumerate(kinds):
            if late(place / len(kinds)):
                self.note(
                    "what goes with a branch besides its layers is not timed: table and branches would take longer than "
                    f"{TABLE_SHARE * self.time_s:.0f} s, {TABLE_SHARE:.0%} of the time that is left"
                )
                return []
            branch = self.space.groups[kind[0]].branch
            found += self._time(
                networks, [without_one(self.space, kind)], f"the network without the branch of {branch}"
            )
        return found

    def _check(self, networks: Networks) -> list[Timed]:
        """Random networks and their costs."""
        return self._time(networks, draw_choices(self.space, self.setting.seed), "no random network")

    def _time(self, networks: Networks, choices: Sequence[Choice], what: str) -> list[Timed]:
        """Networks and their costs; [] where they cannot be found, which is noted of `what`."""
        try:
            costs = networks(self.space, choices, self.untrained, self.whole)
        except (BoardLost, DiskFull):
            raise
        except (InvalidInput, CellFailed, Unavailable) as error:
            self.note(f"{what} was not measured: {error}")
            return []
        return list(zip(choices, costs, strict=True))


def expect_late(most_s: float, clock: Callable[[], float]) -> Callable[[float], bool]:
    """Whether something takes longer than `most_s` seconds, or will: asked with the share that is done, 0 to 1.

    From a tenth of the time on the rest is expected to go as fast as what was done since it was first asked.
    """
    began = clock()
    first: tuple[float, float] | None = None

    def late(done: float) -> bool:
        nonlocal first
        now = clock()
        first = first or (now, done)
        since, known = now - first[0], done - first[1]
        whole = now - began + since * (1 - done) / known if known > 0 else 0.0
        return now - began > most_s or (since > SURE * most_s and whole > most_s)

    return late
