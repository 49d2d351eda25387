"""The newest night of a history: what is called a regression, and what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from nights import FIRST, MACHINE, cell, figures, fill, history, night, quiet, several, stepped
from sqlalchemy import text

from bench.errors import InvalidInput
from bench.records import Quality, Score
from bench.regress.alarms import Kind
from bench.regress.history import read_history
from bench.regress.night import judge_night
from bench.regress.series import pick_newest
from bench.store import Store
from bench.types import Clock, Simulation, Status


@pytest.fixture
def judge():
    """Stores nights and judges the newest."""

    def run(nights, **options):
        with Store.open("sqlite:///:memory:") as store:
            fill(store, nights)
            return judge_night(store, **options)

    return run


def told(found):
    return [(one.alarm.kind, one.alarm.metric) for one in found.known]


def test_a_step_is_a_regression_with_its_night_and_size(judge):
    found = judge(history(stepped(60, 50)))
    (one,) = found.known
    assert (one.alarm.kind, one.alarm.metric, one.state) == (Kind.REGRESSION, "latency", "new")
    assert abs(one.alarm.night - 50) <= 1
    assert one.alarm.ratio.low <= 1.03 <= one.alarm.ratio.high
    assert one.alarm.why == "the same file"
    assert found.count([Kind.REGRESSION]) == 1


def test_a_step_down_is_an_improvement(judge):
    assert told(judge(history(stepped(60, 50, 0.95)))) == [(Kind.IMPROVEMENT, "latency")]


def test_a_quiet_history_says_nothing(judge):
    found = judge(history(quiet(60)))
    assert found.known == ()
    assert found.series == 3  # latency, size and MACs


def test_a_step_smaller_than_what_counts_says_nothing(judge):
    assert told(judge(history(stepped(80, 60, 1.03)), smallest_effect=0.2)) == []


def test_a_size_whose_interval_crosses_the_bound_is_inconclusive(judge):
    found = judge(history(stepped(60, 50, 1.03)), smallest_effect=0.03)
    assert told(found) == [(Kind.INCONCLUSIVE, "latency")]


def test_an_old_step_is_history(judge):
    assert told(judge(history(stepped(60, 20)))) == []
    assert told(judge(history(stepped(60, 20)), recent=60)) == [(Kind.REGRESSION, "latency")]


def test_another_runtime_is_named_and_is_no_regression_of_the_model(judge):
    nights = history(stepped(60, 50))
    nights = [
        (run, [replace(one, backend_version="1.32.0" if n >= 50 else "1.31.1") for one in records])
        for n, (run, records) in enumerate(nights)
    ]
    (one,) = judge(nights).known
    assert one.alarm.kind is Kind.ENVIRONMENT
    assert one.alarm.why == "runtime of ort 1.31.1 -> 1.32.0"


@pytest.mark.parametrize("fact", ["kernel", "governor", "driver"])
def test_each_fact_of_the_machine_is_named(judge, fact):
    nights = [
        (run, [replace(one, facts={"machine": {**MACHINE["machine"], fact: "new" if n >= 50 else "old"}})])
        for n, (run, (one,)) in enumerate(history(stepped(60, 50)))
    ]
    (one,) = judge(nights).known
    assert (one.alarm.kind, one.alarm.why) == (Kind.ENVIRONMENT, f"{fact} old -> new")


def test_an_environment_that_changed_long_before_is_no_cause(judge):
    nights = [
        (run, [replace(one, backend_version="2" if n >= 40 else "1")])
        for n, (run, (one,)) in enumerate(history(stepped(60, 50)))
    ]
    assert told(judge(nights)) == [(Kind.REGRESSION, "latency")]


def test_a_counted_figure_needs_one_night(judge):
    nights = history(quiet(10))
    run, _ = nights[-1]
    nights[-1] = (run, [cell(run, 1.0, size=1500, digest="other")])
    (one,) = judge(nights).known
    assert (one.alarm.kind, one.alarm.metric, one.alarm.ratio.value, one.alarm.why) == (
        Kind.REGRESSION,
        "size",
        1.5,
        "its file changed",
    )


def test_a_file_that_grew_by_less_than_what_counts_says_nothing(judge):
    nights = history(quiet(10))
    run, _ = nights[-1]
    nights[-1] = (run, [cell(run, 1.0, size=1005)])
    assert told(judge(nights)) == []


def test_instructions_are_compared_without_scatter(judge):
    nights = []
    for number in range(8):
        counted = Simulation(source="qemu", instructions=10_000 if number < 7 else 10_300)
        run = night(number)
        nights.append((run, [cell(run, None, simulation=counted, clock=Clock.SIMULATED)]))
    assert told(judge(nights)) == [(Kind.REGRESSION, "instructions")]


def test_accuracy_that_falls_is_a_regression(judge):
    nights = []
    for number, latency in enumerate(quiet(12)):
        run = night(number)
        quality = Quality(samples=9, accuracy=0.98 if number < 11 else 0.9)
        nights.append((run, [cell(run, latency, quality=quality)]))
    assert told(judge(nights)) == [(Kind.REGRESSION, "accuracy")]


def test_accuracy_that_falls_one_night_is_a_regression_after_an_earlier_step_too(judge):
    nights = []
    for number, latency in enumerate(quiet(31)):
        run, accuracy = night(number), 0.95 if number < 15 else 0.96 if number < 30 else 0.9
        nights.append((run, [cell(run, latency, quality=Quality(samples=9, accuracy=accuracy))]))
    assert told(judge(nights)) == [(Kind.REGRESSION, "accuracy")]


def test_searches_are_no_nights(judge):
    """The winner of another search is another network."""
    nights = history(quiet(3))
    searches = [
        (one, [cell(one, 1.0, size=1000 * number, recipe="winner")])
        for number in (1, 2)
        for one in [night(9 + number, suite="search finalists", request={"search": {}})]
    ]
    found = judge([*nights, *searches])
    assert (found.known, found.runs, found.newest.run_id) == ((), 3, night(2).run_id)


def test_one_odd_night_is_only_a_suspect(judge):
    found = judge(history([*quiet(40), 1.2]))
    (one,) = found.known
    assert (one.alarm.kind, one.alarm.night) == (Kind.INCONCLUSIVE, 40)
    assert "the newest night only" in one.alarm.why


def test_series_of_one_cause_are_one_group(judge):
    models = {f"m{n}": stepped(50, 42, 1.05, seed=n) for n in range(4)} | {"calm": quiet(50, seed=9)}
    found = judge(several(models))
    assert len(found.known) == 4
    assert max(len(group.alarms) for group in found.groups) >= 3
    assert all("calm" not in one.alarm.series for one in found.known)


def test_a_series_that_stopped_is_missing_and_says_why(judge):
    nights = several({"a": quiet(10), "b": quiet(10, seed=1)})
    run, (a, b) = nights[-1]
    failed = replace(b, status=Status.FAILED, reasons=("worker killed",), launches=(), cost=None)
    found = judge([*nights[:-1], (run, [a, failed])])
    assert {one.alarm.kind for one in found.known} == {Kind.MISSING}
    assert all("/ b /" in one.alarm.series for one in found.known)
    assert {one.alarm.why for one in found.known} == {"failed: worker killed"}
    assert len(found.groups) == 1


def test_a_cell_that_an_interrupted_run_did_not_come_to_is_not_missing_yet(judge):
    nights = several({"a": quiet(10), "b": quiet(10, seed=1)})
    run, (a, b) = nights[-1]
    stopped = replace(run, status="interrupted", finished_at="")
    found = judge([*nights[:-1], (stopped, [a])])
    assert found.known == ()
    assert f"run {run.run_id} was interrupted: cells that it did not come to are not judged" in found.notes
    lost = replace(b, status=Status.FAILED, reasons=("the board was lost",), launches=(), cost=None)
    assert {one.alarm.kind for one in judge([*nights[:-1], (stopped, [a, lost])]).known} == {Kind.MISSING}


def test_a_missing_series_stays_the_same_alarm_on_the_next_night():
    nights = several({"a": quiet(12), "b": quiet(12, seed=1)})
    short = [(run, records if n < 9 else records[:1]) for n, (run, records) in enumerate(nights)]
    ids = []
    for last in (11, 12):
        with Store.open("sqlite:///:memory:") as store:
            fill(store, short[:last])
            ids.append({one.id for one in judge_night(store).known})
    assert ids[0] == ids[1] != set()


def test_a_board_that_stopped_is_one_alarm(judge):
    nights = history(quiet(20))
    for number in range(15):
        run = night(number, target="jetson")
        nights.append((run, [cell(run, 2.0 + number / 1e4, device="Jetson")]))
    found = judge(nights)
    (one,) = found.known
    assert (one.alarm.kind, one.alarm.series) == (Kind.MISSING, "jetson / s")
    assert one.alarm.why == "no run since 2025-01-15T02:00:00+00:00; usually one every 24.0 hours"


def test_an_untrusted_night_is_no_point_and_is_missing(judge):
    nights = history(quiet(20))
    run, (one,) = nights[-1]
    nights[-1] = (run, [replace(one, status=Status.UNTRUSTED, reasons=("throttled",))])
    found = judge(nights)
    assert {(known.alarm.kind, known.alarm.why) for known in found.known} == {(Kind.MISSING, "untrusted: throttled")}


@pytest.mark.parametrize("nights", [1, 2, 3])
def test_a_young_history_says_that_it_is_young(judge, nights):
    found = judge(history(quiet(nights)))
    assert (found.known, found.young) == ((), 3)


def test_gaps_do_not_hide_a_step(judge):
    nights = [pair for n, pair in enumerate(history(stepped(80, 70, 1.05))) if n % 7 != 3]
    assert told(judge(nights)) == [(Kind.REGRESSION, "latency")]


def test_a_night_that_was_stored_twice_counts_once_and_is_noted(judge):
    nights = history(quiet(10))
    run, (one,) = nights[4]
    again = replace(
        run, run_id="again", started_at="2025-01-20T02:00:00+00:00", finished_at="2025-01-20T03:00:00+00:00"
    )
    found = judge([*nights, (again, [replace(one, run_id="again")])])
    assert any("run again: " in note and "left out" in note for note in found.notes)


def test_a_clock_that_went_back_is_noted(judge):
    nights = history(quiet(10))
    run, records = nights[3]
    nights[3] = (replace(run, finished_at="2024-12-31T00:00:00+00:00"), records)
    assert any("the clock went back" in note for note in judge(nights).notes)


def test_a_figure_that_is_not_a_number_is_left_out_and_noted(judge):
    nights = []
    for number, latency in enumerate(quiet(10)):
        run = night(number)
        quality = Quality(samples=9, accuracy=float("nan") if number == 4 else 0.9)
        nights.append((run, [cell(run, latency, quality=quality)]))
    found = judge(nights)
    assert found.known == ()
    assert any("accuracy is nan: left out" in note for note in found.notes)


def test_figures_of_another_unit_are_another_series(judge):
    nights = []
    for number, latency in enumerate(quiet(20)):
        run = night(number)
        clock = {"clock": Clock.DEVICE} if number >= 10 else {}
        one = cell(run, latency * (5 if clock else 1), **clock)
        launches = tuple(replace(launch, device_ns=launch.samples_ns) for launch in one.launches)
        nights.append((run, [replace(one, launches=launches)]))
    found = judge(nights, recent=20)
    assert not {Kind.REGRESSION, Kind.IMPROVEMENT} & {one.alarm.kind for one in found.known}


def test_only_the_target_that_is_asked_for_is_judged(judge):
    nights = history(stepped(40, 30, 1.1))
    for number in range(40):
        run = night(number, target="other")
        nights.append((run, [cell(run, 2.0 + number % 3 / 100 + number / 1e6)]))
    assert judge(nights, target="other").known == ()


def test_nights_are_counted_for_each_target_and_suite():
    both = [(night(n, target=target), []) for n in range(20) for target in ("cpu", "other")]
    kept = pick_newest([run for run, _ in both], 14)
    assert [run.run_id for run in kept] == [run.run_id for run, _ in both[12:]]
    assert read_history(figures(both)).nights["night-019-cpu"] == 19


def test_a_change_11_nights_ago_is_an_alarm_beside_another_target(judge):
    nights = [
        one
        for n, (run, records) in enumerate(history(stepped(60, 49)))
        for one in ((run, records), (night(n, target="other"), [cell(night(n, target="other"), 2.0 + n % 3 / 100)]))
    ]
    (one,) = [known.alarm for known in judge(nights).known if known.alarm.series.startswith("cpu")]
    assert one.kind is Kind.REGRESSION
    assert abs(one.night - 49) <= 1


def test_the_figures_of_another_device_are_an_environment_that_changed_and_nothing_is_missing(judge):
    nights = [
        (run, [replace(one, device="EPYC 7763" if n % 2 else "EPYC 9V74") for one in records])
        for n, (run, records) in enumerate(history(quiet(30)))
    ]
    found = judge(nights)
    assert {(one.alarm.kind, one.alarm.why) for one in found.known} == {
        (Kind.ENVIRONMENT, "device EPYC 9V74 -> EPYC 7763")
    }
    assert len(found.known) == 3


def scored(values):
    """Nights of one score."""
    made = [Quality(samples=9, labelled=9, score=Score(name="own", value=value)) for value in values]
    nights = zip(history(quiet(len(values))), made, strict=True)
    return [(run, [replace(one, quality=quality)]) for (run, (one,)), quality in nights]


def test_a_score_that_fell_to_zero_is_missing_and_its_value_is_named(judge):
    (one,) = judge(scored([0.9] * 20 + [0.0, 0.0])).known
    assert (one.alarm.kind, one.alarm.metric) == (Kind.MISSING, "accuracy")
    assert one.alarm.why == "its accuracy is 0, which has no ratio to the nights before"


@pytest.mark.parametrize(("last", "kind"), [(-5.0, Kind.REGRESSION), (-0.5, Kind.IMPROVEMENT)])
def test_a_score_below_zero_on_every_night_is_judged_without_its_sign(judge, last, kind):
    (one,) = judge(scored([-1.0] * 20 + [last] * 5)).known
    assert (one.alarm.kind, one.alarm.ratio.value) == (kind, -last)
    assert "accuracy (minus own)" in one.alarm.series


def test_a_run_that_began_after_now_is_left_out_and_does_not_stay_the_newest(judge):
    nights = history(quiet(10))
    run, records = nights[4]
    nights[4] = (replace(run, started_at="2999-01-01T00:00:00+00:00"), records)
    found = judge(nights)
    assert found.newest.run_id == "night-009-cpu"
    (note,) = [note for note in found.notes if "2999" in note]
    assert note.startswith("run night-004-cpu began at 2999-01-01T00:00:00+00:00, and now it is ")


def test_a_run_whose_clock_was_some_hours_ahead_is_not_judged_in_place_of_tonights():
    """A slower night was a single odd one before the newest: nothing failed."""
    nights = history(stepped(60, 57))
    run, records = nights[50]
    end = datetime.fromisoformat(nights[-1][0].started_at) + timedelta(hours=1)
    nights[50] = (replace(run, started_at=(end + timedelta(hours=6)).isoformat()), records)
    with Store.open("sqlite:///:memory:", now=lambda: end) as store:
        fill(store, nights)
        found = judge_night(store)
    assert found.newest.run_id == "night-059-cpu"
    assert any(note.startswith("run night-050-cpu began at ") for note in found.notes)


def test_where_most_runs_began_after_now_it_is_the_clock_of_this_machine():
    with Store.open("sqlite:///:memory:", now=lambda: FIRST) as store:
        fill(store, history(quiet(10)))
        with pytest.raises(InvalidInput, match="as 8 more runs did: set the clock of this machine"):
            judge_night(store)


@pytest.mark.parametrize("table", ["cells", "runs"])
def test_a_damaged_row_leaves_its_run_out_and_the_others_are_judged(table):
    with Store.open("sqlite:///:memory:") as store:
        fill(store, history(stepped(60, 50)))
        with store.engine.begin() as connection:
            cut = f"UPDATE {table} SET body = substr(body, 1, 20) WHERE run_id = 'night-010-cpu'"
            connection.execute(text(cut))
        found = judge_night(store)
    assert told(found) == [(Kind.REGRESSION, "latency")]
    assert "run night-010-cpu is damaged in the store: left out" in found.notes
