"""What goes with a residual branch besides its layers: found from networks that lack one branch each, and added up."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from test_search_build import Clock, make_builder

from bench.errors import CellFailed
from bench.line.probes.cuts import Shape
from bench.search.allocate import Limit, allocate
from bench.search.groups import Space
from bench.search.nouns import Choice, Group, Layer, Side, whole_choice
from bench.search.prediction.board import Timer
from bench.search.prediction.branches import find_kinds, without_one
from bench.search.prediction.costs import add_up
from bench.search.prediction.predict import Timed, fit, fit_in_turn
from bench.search.prediction.table import Grid

SHAPE = Shape(rows=(7,))
GROUPS = (
    Group(layers=("stem",), widths=(4, 8, 16), losses=(3.0, 1.0, 0.0)),
    Group(layers=("up0",), widths=(0, 8, 16, 32), losses=(1.0, 0.9, 0.4, 0.0), branch="down0"),
    Group(layers=("up1",), widths=(0, 8, 16, 32), losses=(1.1, 1.0, 0.5, 0.0), branch="down1"),
    Group(layers=("in2",), widths=(0, 4, 8), losses=(0.4, 0.3, 0.0), branch="out2"),
)


def linear(name: str, inputs: Side, outputs: Side) -> Layer:
    return Layer(name=name, inputs=inputs, outputs=outputs, shape=SHAPE, weights=inputs.whole * outputs.whole)


def pair(first: str, last: str, place: int) -> tuple[Layer, Layer]:
    """The two layers of a branch, which reads and writes the first group's channels."""
    stream, inner = Side(whole=16, per={0: 1.0}), Side(whole=GROUPS[place].whole, per={place: 1.0})
    return linear(first, stream, inner), linear(last, inner, stream)


LAYERS = (
    linear("stem", Side(whole=3), Side(whole=16, per={0: 1.0})),
    *pair("up0", "down0", 1),
    *pair("up1", "down1", 2),
    *pair("in2", "out2", 3),
)
SPACE = Space(groups=GROUPS, layers=LAYERS, fixed={})
GRIDS = {
    layer.name: Grid(
        inputs=(1, layer.inputs.whole),
        outputs=(1, layer.outputs.whole),
        ms=np.outer((1, layer.inputs.whole), (1, layer.outputs.whole)) / 100.0,
    )
    for layer in LAYERS
}
WHOLE = whole_choice(GROUPS)
BESIDES = (0.0, 1.5, 1.5, -0.25)
"""Milliseconds that go with each branch besides its layers; what the last one leaves costs more than its layers say."""
DRAWN = ((0, 3, 2, 1), (1, 0, 3, 2), (2, 2, 1, 2), (1, 1, 0, 0), (2, 3, 3, 1), (0, 2, 2, 2))


def truth(choice: Choice) -> float:
    """A fifth slower than the table says, a constant, and what goes with each branch."""
    table = add_up(LAYERS, GROUPS, lambda layer, i, o: GRIDS[layer.name].at(i, o)).of(choice)
    gone = [more for group, place, more in zip(GROUPS, choice, BESIDES, strict=True) if group.branch and not place]
    return 6.0 + 1.2 * table - sum(gone)


def timed(choices) -> list[Timed]:
    return [(choice, truth(choice)) for choice in choices]


SHORTENED = timed(without_one(SPACE, kind) for kind in find_kinds(SPACE))


def test_branches_whose_widths_change_the_same_layers_alike_are_of_one_kind():
    assert find_kinds(SPACE) == ((1, 2), (3,))
    assert [choice for choice, _ in SHORTENED] == [(2, 0, 3, 2), (2, 3, 3, 0)]
    other = replace(LAYERS[4], shape=Shape(rows=(9,)))
    assert find_kinds(replace(SPACE, layers=(*LAYERS[:4], other, *LAYERS[5:]))) == ((1,), (2,), (3,))


def test_networks_without_several_branches_are_predicted_and_cost_more_where_a_branch_leaves_more_than_it_takes():
    found = fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), timed(DRAWN), SHORTENED)
    every = list(product(*(range(len(group.widths)) for group in GROUPS)))
    assert [found.predict(choice) for choice in every] == pytest.approx([truth(choice) for choice in every])
    assert found.errors == pytest.approx([0.0] * len(DRAWN), abs=1e-9)
    plain = fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), timed(DRAWN))
    none = (2, 0, 0, 2)
    assert abs(plain.predict(none) - truth(none)) > 0.1 * truth(none)


def test_a_kind_that_was_not_timed_has_no_price_of_its_own():
    (first, *_) = SHORTENED
    found = fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), timed(DRAWN), [first])
    plain = fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), timed(DRAWN))
    last = (2, 3, 3, 0)

    def saved(predictor):
        return predictor.costs.of(WHOLE) - predictor.costs.of(last)

    assert saved(found) == pytest.approx(saved(plain))


@pytest.mark.parametrize("share", [0.35, 0.4, 0.55])
def test_the_allocation_counts_what_goes_with_a_branch(share):
    found = fit(SPACE, GRIDS, (WHOLE, truth(WHOLE)), timed(DRAWN), SHORTENED)
    most = share * truth(WHOLE)
    chosen = allocate(GROUPS, [Limit(costs=found.costs, most=found.most(most))])

    def loss(choice: Choice) -> float:
        return sum(group.losses[place] for group, place in zip(GROUPS, choice, strict=True))

    every = product(*(range(len(group.widths)) for group in GROUPS))
    ideal = min(loss(choice) for choice in every if truth(choice) <= most)
    assert chosen is not None
    assert truth(chosen) <= most + 1e-9
    assert loss(chosen) == pytest.approx(ideal)


def test_multiply_accumulates_stay_without_what_goes_with_a_branch():
    wrong = {name: replace(grid, ms=grid.ms[::-1]) for name, grid in GRIDS.items()}
    found = fit_in_turn(SPACE, wrong, (WHOLE, truth(WHOLE)), timed(DRAWN), SHORTENED)
    (macs,) = (one for one in found if one.by == "macs")
    plain = fit(SPACE, {}, (WHOLE, truth(WHOLE)), timed(DRAWN))
    assert (macs.errors, macs.predict((2, 0, 0, 2))) == (plain.errors, plain.predict((2, 0, 0, 2)))


def built(monkeypatch, *, table_s=0.0, network_s=0.0, broken=(), grids=GRIDS, first=1.0):
    """The predictor, what is noted and the choices that are timed; `first`: a factor of the networks without a branch, the first
    time that they are timed."""
    noted: list[str] = []
    asked: list[Choice] = []
    clock = Clock()

    class Formula(Timer):
        def __init__(self):
            pass

        def board(self):
            return None

        def forget_layers(self, space):
            noted.append("the table is forgotten")

        def networks(self, space, choices, untrained, whole_ms, *, again=False):
            del space, untrained, whole_ms
            asked.extend(choices)
            clock.now += network_s * len(choices)
            if {*choices} & {*broken}:
                raise CellFailed("no such operator")
            return [truth(one) * (first if len(choices) == 1 and not again else 1.0) for one in choices]

    def measure(*_, **__):
        clock.now += table_s
        return grids

    found = make_builder(monkeypatch, measure, SPACE, Formula(), truth(WHOLE), noted, clock).build()
    return found, noted, asked


def test_one_network_of_each_kind_of_branch_is_timed_and_the_error_is_that_of_random_ones(monkeypatch):
    found, noted, asked = built(monkeypatch)
    assert asked[:2] == [choice for choice, _ in SHORTENED]
    assert [one for one in noted if "error 0.0% (median), 0.0% (worst) on 6 random networks" in one]
    assert found.predict((2, 0, 0, 0)) == pytest.approx(truth((2, 0, 0, 0)))


def test_branches_are_given_up_where_they_and_the_table_take_too_long_and_without_a_table(monkeypatch):
    _, noted, asked = built(monkeypatch, table_s=30.0, network_s=6.0)
    assert noted[0] == (
        "what goes with a branch besides its layers is not timed: table and branches would take longer than 40 s, 40% of the "
        "time that is left"
    )
    assert asked[1] != SHORTENED[1][0]
    assert noted[1].endswith("the networks are timed once more"), "but not those that were given up"
    assert len([one for one in noted if "besides its layers" in one]) == 1
    assert asked.count(SHORTENED[0][0]) == 1
    _, noted, asked = built(monkeypatch, table_s=20.0, network_s=6.0)
    assert not [one for one in noted if "besides its layers" in one]
    _, _, asked = built(monkeypatch, grids={})
    assert not {*asked} & {choice for choice, _ in SHORTENED}


def test_a_branch_without_which_the_network_does_not_run_is_named_and_the_others_count(monkeypatch):
    last = SHORTENED[1][0]
    found, noted, _ = built(monkeypatch, broken=[last])
    assert noted[0] == "the network without the branch of out2 was not measured: no such operator"
    assert found.predict((2, 0, 0, 2)) == pytest.approx(truth((2, 0, 0, 2)), rel=0.05)


def test_branches_that_another_load_disturbed_are_timed_once_more(monkeypatch):
    found, noted, _ = built(monkeypatch, first=4.0)
    assert noted[0].endswith("the networks are timed once more")
    assert "the table is forgotten" not in noted
    assert found.predict((2, 0, 0, 0)) == pytest.approx(truth((2, 0, 0, 0)))
