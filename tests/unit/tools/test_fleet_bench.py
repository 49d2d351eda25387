"""What `make fleet-bench` computes and refuses, on events and records made by hand; the fleet itself is run by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_records import record

from bench.types import Conditions
from tools.fleet_bench.figures import find_figures, read_events
from tools.fleet_bench.runs import RECIPES, Asked, Cells, compare, tell_all

ASKED = Asked(name="one", models=[0])


def test_the_critical_path_is_the_larger_of_the_boards_share_and_the_longest_chain(tmp_path):
    def cell(board, model, recipe, ready, begun, ended):
        named = {"board": board, "model": model, "recipe": recipe, "pid": 1}
        return [
            {"kind": "made", "began": ready - 1, "at": ready, **named},
            {"kind": "busy", "began": begun, "at": ended, **named},
            {"kind": "cell", "began": ready - 1, "at": ended + 0.5, **named},
        ]

    events = [
        {"kind": "begun", "at": 0.0, "pid": 1},
        *cell("a", "m", "baseline", 11, 11, 21),
        *cell("a", "m", "half", 12, 22, 32),  # ready, and its board idles from 21 to 22
        *cell("b", "n", "baseline", 11, 11, 15),
        *cell("b", "n", "half", 18, 18, 22),  # not ready from 15 to 18
    ]
    path = tmp_path / "events"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"kind": "ce')  # killed in a line
    found = find_figures(read_events(path), 2)
    assert (found.cells, found.busy_s, found.wall_s, found.served_s) == (4, 7.0, 32.5, 22.5)
    assert found.critical_s == 1 + 20  # over (20 + 8) / 2
    assert found.waiting == pytest.approx(1 / 45)
    assert found.unready == pytest.approx((1 + 1 + 3) / 45)


def store(board: str = "a", **changed: object) -> dict:
    """A record of each cell, by place."""
    own = [record(key=f"{board}-{recipe}", baseline_key=f"{board}-baseline", **changed) for recipe in PLACES]
    on = Conditions(device=board)
    return {
        ("m", recipe): [replace(one, model="m", recipe=recipe, conditions=on)]
        for recipe, one in zip(PLACES, own, strict=True)
    }


PLACES = ["baseline", *RECIPES]


def test_a_cell_that_is_lost_doubled_or_other_than_undisturbed_is_named():
    expected = tell_all(Cells(status="finished", places=store()))
    assert compare(Cells(status="finished", places=store()), expected, ASKED) == []
    moved = store()
    moved["m", "baseline"] += store("b")["m", "baseline"]
    moved["m", "half"] = store("b")["m", "half"]
    assert compare(Cells(status="finished", places=moved), expected, ASKED) == []
    lost, doubled, alone = store(), store(), store()
    del lost["m", "half"]
    doubled["m", "half"] += store("b")["m", "half"]
    doubled["m", "baseline"] += store("b")["m", "baseline"]
    alone["m", "half"] = store("b")["m", "half"]
    for places, said in (
        (lost, "one: 4 of 5 cells are stored"),
        (doubled, "one: ('m', 'half') is stored 2 times"),
        (alone, "one: m / half has no baseline on its board"),
        (store(digest="other"), "one: ('m', 'half') is ("),
    ):
        wrong = compare(Cells(status="finished", places=places), expected, ASKED)
        assert any(line.startswith(said) for line in wrong), wrong
    assert compare(Cells(status="interrupted", places=store()), expected, ASKED) == ["one is interrupted"]
