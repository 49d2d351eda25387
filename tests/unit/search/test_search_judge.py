"""How a search judges a candidate: its drop counts with one standard error on top, but not that of a finalist."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import on
from test_search_page import found

from bench.commands.search.answer import explain_missed, say
from bench.errors import CellFailed, InvalidInput
from bench.records import Quality
from bench.search.goal import Goal
from bench.search.judge import check_figures, describe, judge, loss_text, standard_error
from bench.types import Status

GOAL = Goal(quality={"accuracy_drop_pp": 0.5}, minimize="latency")


def accurate(lost: int | None, gained: int | None, samples: int) -> Quality:
    """Of a network that has this many of the baseline's samples wrong, and that many of its errors right."""
    right = 0.9 * samples - (lost or 0) + (gained or 0)
    return Quality(samples=samples, labelled=samples, lost=lost, gained=gained, accuracy=right / samples)


def judged(lost: int, gained: int, samples: int, *, careful: bool = True, goal: Goal = GOAL):
    base = on("ort", 1.0, quality=accurate(None, None, samples))
    return judge(on("ort", 0.5, recipe="narrow", quality=accurate(lost, gained, samples)), base, goal, careful=careful)


@pytest.mark.parametrize(
    ("lost", "gained", "samples", "counted"),
    [
        (60, 20, 10_000, 0.4 + 0.0895),  # few samples differ: the drop is known well
        (640, 600, 10_000, 0.4 + 0.25),  # many differ: 0.35 points of error, of which half the limit counts
        (3, 3, 100, 0.25),  # too few samples to say anything: half of the limit is left
    ],
)
def test_the_drop_of_a_candidate_counts_with_its_standard_error_up_to_half_the_limit(lost, gained, samples, counted):
    one = judged(lost, gained, samples, goal=Goal(quality={"accuracy_drop_pp": 0.5}))
    assert one.error == pytest.approx(100 * ((lost + gained + 2) / samples**2) ** 0.5, rel=0.03)
    assert ("accuracy_drop_pp" in one.over) == (counted > 0.5)
    if one.over:
        assert one.over["accuracy_drop_pp"] == pytest.approx(counted, abs=0.002)


def test_a_finalist_is_held_to_what_was_measured():
    assert judged(640, 600, 10_000).over
    assert not judged(640, 600, 10_000, careful=False).over


@pytest.fixture
def broken():
    """An uncompressed network that the target computes wrongly: 80 % of its answers are right, the float network's are 90 %."""
    quality = Quality(samples=100, labelled=100, accuracy=0.8, reference_accuracy=0.9)
    return on("ort", 1.0, quality=quality, status=Status.UNTRUSTED, reasons=("output 'y' differs",))


def test_the_drop_from_an_uncompressed_network_that_is_not_believed_is_that_from_the_float_network(broken):
    narrow = on(
        "ort", 0.5, recipe="narrow", quality=Quality(samples=100, labelled=100, accuracy=0.85, lost=2, gained=7)
    )
    assert judge(narrow, broken, GOAL).over == pytest.approx({"accuracy_drop_pp": 5.0})
    assert judge(narrow, broken, GOAL, careful=True).error == 0.0, (
        "who has which sample right is known against the broken one only"
    )
    assert judge(narrow, replace(broken, status=Status.OK), GOAL).over == {}
    assert judge(broken, broken, GOAL).over == pytest.approx({"accuracy_drop_pp": 10.0})


def test_a_search_by_time_from_an_uncompressed_network_that_is_not_believed_is_refused_one_by_luts_is_not(broken):
    with pytest.raises(CellFailed, match="not believed, and every candidate is compared with it: output 'y' differs"):
        check_figures(judge(broken, broken, GOAL), broken, GOAL, "cpu")
    counted = replace(GOAL, cost="lut", minimize="lut")
    whole = judge(broken, broken, counted)
    check_figures(replace(whole, row={**whole.row, "lut": 9.0}), broken, counted, "fpga")


@pytest.mark.parametrize(
    ("limit", "figure"),
    [("accuracy_drop_pp", "accuracy"), ("score_drop", "score"), ("output_relative_rms", "output_relative_rms")],
)
def test_a_search_without_the_figure_that_decides_ends_before_any_candidate(limit, figure):
    goal = Goal(quality={limit: 0.2}, minimize="latency")
    known = on("ort", 1.0, quality=accurate(None, None, 100))
    check_figures(judge(known, known, goal), known, goal, "cpu")
    unjudged = on("ort", 1.0, quality=Quality(samples=9), missing={figure: "an output of (3,) does not answer"})
    with pytest.raises(InvalidInput, match=f"has no {figure}, by which .* chosen: an output of "):
        check_figures(judge(unjudged, unjudged, goal), unjudged, goal, "cpu")


def test_the_error_of_outputs_has_no_margin():
    goal = Goal(quality={"output_relative_rms": 0.1})
    assert goal.over({"output_relative_rms": 0.09}, error=1.0) == {}
    assert goal.over({"output_relative_rms": 0.11}, error=1.0) == {"output_relative_rms": 0.11}


def test_a_task_of_its_own_has_the_interval_of_its_score():
    row = {"score_drop_low": -0.98, "score_drop_high": 0.98}
    assert standard_error(row) == pytest.approx(0.5, rel=1e-3)
    assert standard_error({}) == 0.0


def test_what_misses_a_limit_is_said_as_measured_and_with_its_margin():
    text = explain_missed([judged(640, 600, 10_000)], GOAL)
    assert "accuracy_drop_pp (0.4, with a margin for its standard error 0.65 of 0.5)" in text


@pytest.mark.parametrize(("error", "said"), [(0.2, "a standard error of 0.2, of 9."), (5.0, "too few samples")])
def test_the_answer_says_how_well_the_drop_of_its_winner_is_known(tmp_path, error, said):
    done = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    done = replace(done, ranked=(replace(done.ranked[0], error=error),))
    assert said in " ".join(say(done))
    assert loss_text(done.ranked[0]).endswith(f"±{error:.2g}")
    assert "standard error" not in " ".join(say(replace(done, ranked=(replace(done.ranked[0], error=0.0),))))


def test_a_line_says_what_a_candidate_costs_and_loses_and_what_it_misses():
    one = replace(judged(60, 20, 10_000), predicted=0.5)
    assert describe(one) == f"{one.cost:.4g} ms (0.5 predicted), loss 0.4 ±{one.error:.2g}"
    assert describe(judged(640, 600, 10_000)).endswith("; misses accuracy_drop_pp")
    unknown = replace(one, row={"latency_p50_ms": None}, recipe="narrow", predicted=None, error=0.0)
    assert describe(unknown) == "no figure, loss unknown"
