"""When a latency table is given up, and what is said then."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_search_loop import GRIDS, SPACE, WHOLE, truth

from bench.search.goal import LATENCY
from bench.search.prediction import build
from bench.search.prediction.board import Timer
from bench.search.prediction.build import Builder, expect_late


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("asked", "late"),
    [
        ([(0.0, 0.0), (2.0, 0.1), (10.0, 0.5)], [False, False, False]),  # as fast as it must be
        ([(0.0, 0.0), (0.9, 0.001), (2.1, 0.05)], [False, False, True]),  # after a tenth of the time: 40 s in all
        ([(9.0, 0.0), (9.5, 0.1), (10.5, 0.4)], [False, False, False]),  # the reference took long, layers do not
        ([(9.0, 0.0), (12.0, 0.1)], [False, True]),
        ([(0.0, 0.0), (20.1, 0.99)], [False, True]),
    ],
)
def test_what_will_take_too_long_is_known_after_a_tenth_of_its_time(asked, late):
    clock = Clock()
    expected = expect_late(20.0, clock)
    found = []
    for clock.now, done in asked:
        found.append(expected(done))
    assert found == late


def make_builder(monkeypatch, measure, space, timer, whole, noted, clock) -> Builder:
    """One that has 100 s. `measure`: gives the table's times."""
    monkeypatch.setattr(build, "measure_layers", measure)
    return Builder(
        space=space,
        timer=timer,
        untrained="",
        cost=LATENCY,
        whole=whole,
        time_s=100.0,
        setting=SimpleNamespace(cache=None, folder=None, progress=lambda *_: None, seed=1),
        note=noted.append,
        clock=clock,
    )


def built(monkeypatch, measure, space=SPACE, off=lambda place: 1.0, again=1.0):
    """What is noted, and the predictor, of a timer that is right, but for a factor of each network the first time, and for one
    of all the second time."""
    noted: list[str] = []

    class Right(Timer):
        def __init__(self):
            pass

        def board(self):
            return None

        def forget_layers(self, space):
            noted.append(f"{len(space.layers)} layers are forgotten")

        def networks(self, space, choices, untrained, whole_ms, **more):
            del space, untrained, whole_ms
            factors = [again if more.get("again") else off(place) for place in range(len(choices))]
            return [truth(choice) * factor for choice, factor in zip(choices, factors, strict=True)]

    return make_builder(monkeypatch, measure, space, Right(), truth(WHOLE), noted, Clock()).build(), noted


def test_the_table_is_taken_where_it_is_right_and_its_error_is_noted(monkeypatch):
    found, noted = built(monkeypatch, lambda *_, late, **__: {} if late(0.0) else GRIDS)
    assert (found.by, found.why) == ("table", "")
    assert [one for one in noted if "latency by table: error 0.0% (median)" in one]


def test_a_table_that_is_given_up_and_one_that_cannot_be_are_said_and_not_in_the_same_words(monkeypatch):
    found, noted = built(monkeypatch, lambda *_, **__: {})
    assert found.by == "macs"
    assert noted[0] == "no latency table: it would take longer than 40 s, 40% of the time that is left"
    nothing = {name: replace(grid, ms=0 * grid.ms) for name, grid in GRIDS.items()}
    found, noted = built(monkeypatch, lambda *_, **__: nothing)
    assert found.by == "macs"
    assert noted[0] == "no latency table: no layer takes longer here than the call of a network"
    by_noise = {
        name: replace(grid, ms=np.where(np.arange(grid.ms.size).reshape(grid.ms.shape), 0.0, 1e-6))
        for name, grid in GRIDS.items()
    }
    found, noted = built(monkeypatch, lambda *_, **__: by_noise)
    assert (found.by, noted[0].partition(":")[0]) == ("macs", "no latency table"), (
        "the uncompressed network costs nothing by it"
    )
    whole = replace(SPACE, layers=tuple(replace(layer, shape=None) for layer in SPACE.layers))
    _, noted = built(monkeypatch, lambda *_, **__: pytest.fail("nothing can be timed"), whole)
    assert noted[0] == "no latency table: no layer of this network can be cut out"


def disturbed(place: int) -> float:
    return (1.0, 1.6, 0.7, 1.3)[place % 4]


def test_networks_that_another_load_disturbed_are_timed_once_more(monkeypatch):
    found, noted = built(monkeypatch, lambda *_, **__: GRIDS, off=disturbed)
    assert (found.by, found.why) == ("table", "")
    assert noted[0].endswith("the networks are timed once more")
    assert "error 0.0% (median)" in noted[1]


def test_a_table_that_is_not_believed_a_second_time_is_not_timed_a_third_time(monkeypatch):
    _, noted = built(monkeypatch, lambda *_, **__: GRIDS, off=disturbed, again=3.0)
    assert len([one for one in noted if "once more" in one]) == 1
    assert not [one for one in noted if "error 0.0%" in one]
    assert f"{len(SPACE.layers)} layers are forgotten" in noted, "the next search times them"
