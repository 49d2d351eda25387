"""The spread between boards of one SKU, and that no history or comparison mixes two boards."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from fake_records import record, run
from nights import FIRST, cell, figures, night

from bench.commands.versus.runs import Wished, compare_runs
from bench.commands.versus.sides import Asked
from bench.errors import InvalidInput
from bench.line.versus.until import Patience
from bench.records import Launch, Run
from bench.regress.history import read_history
from bench.regress.missing import find_missing
from bench.report.page import render_page
from bench.report.spread import find_spreads
from bench.store import Store
from bench.types import Clock, Conditions, Status


def on(board: str, milliseconds: float, **changes):
    """The record of a board: three launches that scatter by 0.1 %."""
    launches = tuple(
        Launch(samples_ns=tuple(int(1e6 * milliseconds * (1 + 0.001 * step)) + place for place in range(9)))
        for step in (-1, 0, 1)
    )
    named = {"key": f"lenet5/{board}", "digest": "same", "device": f"{board} (Orin)", "launches": launches}
    return record(**{**named, "conditions": Conditions(device=board), **changes})


def test_the_same_file_on_each_board_has_its_ratio_to_the_first_with_an_interval():
    (found,) = find_spreads([on("b", 1.05), on("a", 1.0), on("c", 1.0)])
    assert [unit.board for unit in found.units] == ["a", "b", "c"]
    first, slow, alike = found.units
    assert first.ratio is None
    assert slow.ratio.low < 1.05 < slow.ratio.high
    assert slow.verdict == "slower"
    assert alike.verdict in {"same", "inconclusive"}
    assert "1.05×" in slow.words
    json.dumps(asdict(found))


def test_few_launches_claim_nothing():
    few = [replace(one, launches=one.launches[:2]) for one in (on("a", 1.0), on("b", 2.0))]
    (found,) = find_spreads(few)
    assert found.units[1].verdict == "inconclusive"
    assert "too few launches" in found.units[1].words


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "another"},
        {"status": Status.UNTRUSTED},
        {"clock": Clock.SIMULATED},
        {"conditions": Conditions(device="b", batch=8)},
        {"run_id": "another"},
        {"launches": ()},
    ],
)
def test_what_is_not_the_same_file_in_the_same_conditions_is_no_spread(other):
    assert find_spreads([on("a", 1.0), on("b", 1.0, **other)]) == []


def test_a_run_without_a_fleet_has_no_spread():
    assert find_spreads([on("", 1.0, key="x"), on("", 1.0, key="y")]) == []


def test_the_page_shows_the_boards_with_their_names_escaped():
    page = render_page([on("a", 1.0), on("b<i>", 1.05)], [run()])
    assert "Boards of one kind" in page
    assert "b&lt;i&gt;" in page
    assert "b<i>" not in page
    assert "Boards of one kind" not in render_page([on("a", 1.0)], [run()])


def fleet_night(number: int, **asked) -> Run:
    return night(number, request={"fleet": "fleet.toml", "sku": "orin", "tags": [], "each": False, **asked})


def of_board(of: Run, board: str, milliseconds: float):
    return cell(of, milliseconds, conditions=Conditions(device=board), device=f"{board} (Orin)", key=board)


def test_two_boards_are_never_one_series():
    nights = [fleet_night(place) for place in range(4)]
    measured = [(one, [of_board(one, "ab"[place % 2], 1 + place / 100)]) for place, one in enumerate(nights)]
    history = read_history(figures(measured))
    latencies = [series for key, series in history.series.items() if key.metric == "latency"]
    assert [len(series.points) for series in latencies] == [2, 2]
    assert {key.conditions for key in history.series} == {"b1 t1 on a", "b1 t1 on b"}


@pytest.mark.parametrize(("asked", "alarms"), [({}, False), ({"each": True}, True), ({"sku": None}, True)])
def test_a_cell_that_another_free_board_measured_is_not_missing(asked, alarms):
    nights = [fleet_night(place, **asked) for place in range(4)]
    boards = ["a", "a", "a", "b"]
    measured = [(one, [of_board(one, boards[place], 1 + place / 100)]) for place, one in enumerate(nights)]
    history = read_history(figures(measured))
    assert bool(find_missing(history)) == alarms


def test_a_run_of_one_target_and_a_run_on_a_fleet_are_not_nights_of_each_other():
    """A single board after three nights of a fleet lacks nothing that it had."""
    fleet = [fleet_night(place) for place in range(3)]
    alone = night(3)
    nights = [(one, [of_board(one, "a", 1 + place / 100)]) for place, one in enumerate(fleet)]
    history = read_history(figures([*nights, (alone, [cell(alone, 1.0)])]))
    assert find_missing(history) == []


def test_two_runs_whose_cells_are_on_different_boards_are_not_compared(tmp_path):
    with Store.open(tmp_path / "pressbench.db") as store:
        for number, board in enumerate("ab"):
            store.begin_run(fleet_night(number))
            store.add(of_board(fleet_night(number), board, 1.0))
            store.finish_run(fleet_night(number).run_id, "finished", FIRST.isoformat())
    asked = Asked(
        target="", patience=Patience(width=0.01), smallest_effect=0.01, cache=tmp_path, progress=lambda *_: None
    )
    wished = Wished(results=tmp_path, url=None, cells=(), measure=False, asked=asked)
    with pytest.raises(InvalidInput, match="no cell in common: each was measured on another board"):
        compare_runs([fleet_night(0).run_id, fleet_night(1).run_id], wished)
