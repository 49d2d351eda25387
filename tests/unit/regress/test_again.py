"""Files that changed are run beside their last good ones: who is a suspect, and what the answer makes of an alarm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nights import cell, fill, history, night, quiet, stepped

from bench.records import PairLaunch
from bench.regress.alarms import Kind
from bench.regress.night import judge_night, make_triage
from bench.store import Remeasured, Store

CELL = "cpu / ort / lenet5 / baseline / b1 t1"


def changed(latencies, at, **changes):
    """Nights whose file is another one from night `at` on."""
    return [
        (run, [replace(one, digest="new" if n >= at else "old", **changes) for one in records])
        for n, (run, records) in enumerate(history(latencies))
    ]


def beside(factor, *, of=59, good="old", tonight="new", scatter=0.001, **changes):
    """What was measured: B takes `factor` times as long."""
    pairs = [
        PairLaunch(blocks_ns=((1e6, 1e6 * factor * (1 + s), 1e6 * factor * (1 + s), 1e6),) * 3)
        for s in (0, scatter, -scatter) * 3
    ]
    key = cell(night(of), 1.0).key
    return Remeasured(
        **{
            "run_id": night(of).run_id,
            "key": key,
            "cell": CELL,
            "good": good,
            "tonight": tonight,
            "pairs": tuple(pairs),
            **changes,
        }
    )


@pytest.fixture
def judge():
    """Stores nights and what was measured again, and judges the newest night."""

    def run(nights, *again):
        with Store.open("sqlite:///:memory:") as store:
            fill(store, nights)
            for one in again:
                store.add_remeasured(one)
            return judge_night(store)

    return run


def told(found):
    return [(one.alarm.kind, one.alarm.night) for one in found.known]


def test_a_file_that_changed_tonight_is_a_suspect_whatever_its_latency(judge):
    found = judge(changed(quiet(60), 59))
    ((one,), known) = (found.suspects, found.known)
    assert (one.good.digest, one.tonight.digest, one.tonight.cell) == ("old", "new", cell(night(59), 1.0).key)
    assert known == ()


def test_the_same_file_is_none(judge):
    assert judge(history(quiet(60))).suspects == ()
    assert judge(history(stepped(60, 50))).suspects == ()


def test_a_history_that_changed_with_the_file_makes_an_older_change_a_suspect(judge):
    (one,) = judge(changed(stepped(60, 50), 50)).suspects
    assert (one.good.digest, one.tonight.digest) == ("old", "new")


def test_two_files_are_run_side_by_side_once(judge):
    assert judge(changed(quiet(60), 59), beside(1.0)).suspects == ()
    assert len(judge(changed(quiet(60), 59), beside(1.0, pairs=(), reason="gone")).suspects) == 1


def test_a_step_of_2_percent_is_a_regression_on_its_first_night(judge):
    found = judge(changed(quiet(60), 59), beside(1.02))
    (one,) = found.known
    assert (one.alarm.kind, one.alarm.night, one.alarm.run_id) == (Kind.REGRESSION, 59, night(59).run_id)
    assert one.alarm.ratio.low <= 1.02 <= one.alarm.ratio.high
    assert "measured again side by side with the last good file, 9 launches" in one.alarm.why
    assert one.open


def test_it_stays_one_while_its_file_stays_and_ends_when_the_file_goes_back(judge):
    nights = changed(quiet(60), 57)
    again = beside(1.02, of=57)
    assert told(judge(nights, again)) == [(Kind.REGRESSION, 57)]
    back = [*nights[:-1], (nights[-1][0], [replace(one, digest="old") for one in nights[-1][1]])]
    assert told(judge(back, again)) == []


def test_the_last_good_file_is_none_that_was_found_slower(judge):
    nights = changed(quiet(60), 57)
    nights[-1] = (nights[-1][0], [replace(one, digest="third") for one in nights[-1][1]])
    (one,) = judge(nights, beside(1.02, of=57)).suspects
    assert (one.good.digest, one.tonight.digest) == ("old", "third")


def test_a_slower_file_that_is_expected_is_the_last_good_one_for_the_next(judge):
    nights = changed(quiet(60), 57)
    nights[-1] = (nights[-1][0], [replace(one, digest="third") for one in nights[-1][1]])
    again = beside(1.02, of=57)
    with Store.open("sqlite:///:memory:") as store:
        fill(store, nights)
        store.add_remeasured(again)
        store.decide(make_triage(known_of(judge, nights[:-1], again), "expected", "", "now"))
        (one,) = judge_night(store).suspects
    assert (one.good.digest, one.tonight.digest) == ("new", "third")


def known_of(judge, nights, again):
    """The one alarm of these nights."""
    (one,) = judge(nights, again).known
    return one


def test_a_suspect_that_is_as_fast_is_cleared_with_a_note(judge):
    nights = changed([*quiet(59), 1.05], 59)
    assert [kind for kind, _ in told(judge(nights))] == [Kind.INCONCLUSIVE]
    found = judge(nights, beside(1.0))
    assert found.known == ()
    assert any("measured again beside the last good file: the same speed" in note for note in found.notes)


def test_a_regression_of_the_history_that_the_file_does_not_explain_is_inconclusive(judge):
    nights = changed(stepped(60, 50), 50)
    assert [kind for kind, _ in told(judge(nights))] == [Kind.REGRESSION]
    found = judge(nights, beside(1.0))
    (one,) = found.known
    assert one.alarm.kind is Kind.INCONCLUSIVE
    assert "the machine or its software changed" in one.alarm.why
    assert found.count([Kind.REGRESSION]) == 0


def test_a_faster_file_is_an_improvement_and_an_unclear_one_inconclusive(judge):
    assert told(judge(changed(quiet(60), 59), beside(0.9))) == [(Kind.IMPROVEMENT, 59)]
    assert told(judge(changed(quiet(60), 59), beside(1.01, scatter=0.01))) == [(Kind.INCONCLUSIVE, 59)]


def test_an_interval_that_is_wide_and_holds_no_change_is_a_note_and_no_alarm(judge):
    found = judge(changed([*quiet(59), 1.05], 59), beside(1.01, scatter=0.05))
    assert found.known == ()
    assert any("no difference seen: " in note and "too wide to call it the same" in note for note in found.notes)


def test_a_last_good_file_that_is_gone_is_inconclusive_with_the_reason(judge):
    gone = beside(1.0, pairs=(), reason="artifacts/old is gone: it was deleted, or never kept")
    (one,) = judge(changed(quiet(60), 59), gone).known
    assert one.alarm.kind is Kind.INCONCLUSIVE
    assert one.alarm.why == "not measured again: artifacts/old is gone: it was deleted, or never kept"
    (one,) = judge(changed(stepped(60, 50), 50), gone).known
    assert one.alarm.kind is Kind.REGRESSION
    assert one.alarm.why.endswith("artifacts/old is gone: it was deleted, or never kept")


def test_one_point_or_a_cell_without_a_file_is_no_suspect(judge):
    assert judge(changed(quiet(1), 0)).suspects == ()
    assert judge(changed(quiet(60), 59, launches=())).suspects == ()
    nights = history(quiet(3))
    assert judge([(run, [replace(one, digest="") for one in records]) for run, records in nights]).suspects == ()
