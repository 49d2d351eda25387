"""The page of a search, of trials on a target that is a formula."""

from __future__ import annotations

import errno
import io
import os
import re
from dataclasses import replace

import pytest
from test_search_loop import SPACE, pruned, searched

from bench.commands.progress import watching
from bench.commands.search import command
from bench.commands.search.answer import describe, say
from bench.commands.search.command import _is_kept
from bench.commands.search.page import render_page
from bench.commands.search.plots import span
from bench.compress.recipe import parse_recipe
from bench.errors import Unavailable
from bench.line.plan import Request
from bench.search.asked import Asked
from bench.search.backends import OnBackend
from bench.search.found import Finals, Found
from bench.search.goal import Goal
from bench.search.networks.students import Student
from bench.search.strategies.interface import OVER, Ended, rank
from bench.types import Artifact, Precision, Recipe


def found(goal: Goal, tmp_path, *, finals: bool = True) -> Found:
    ended = searched(goal, families=("", "half"))
    tried = tuple(replace(one, at_s=10.0 * place) for place, one in enumerate(ended.tried))
    best = next(one for one in rank(tried, goal) if one.choice == (2, 3)) if finals else tried[0]
    precision = Precision(asked="int8", keep_float=("b",))
    artifact = Artifact(path=tmp_path / "winner.onnx", format="onnx", precision=precision)
    return Found(
        run_id="<b>7",
        goal=goal,
        space=SPACE,
        predictor=None,
        ended=replace(ended, tried=tried),
        ranked=(best,),
        finals=Finals(run_id="8", tried=(tried[0], replace(best, recipe="<i>half")), artifact=artifact)
        if finals
        else None,
    )


def test_the_page_draws_every_trial_the_budgets_and_the_winners_widths_and_bits_and_escapes_names(tmp_path):
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    all_of_it = found(goal, tmp_path)
    text = render_page(all_of_it, say(all_of_it))
    assert [title.partition(",")[0].partition(" (")[0] for title in re.findall(r"<h3>(.*?)</h3>", text)] == [
        "Quality against cost",
        "Trials over time",
        "Predicted against measured",
    ]
    first = text.partition("Trials over time")[0]
    assert first.count("<circle") == len(all_of_it.ended.tried)
    assert first.count('class="budget"') == 2
    assert "12 of 16 outputs</span><span>int8" in text
    assert "16 of 16 outputs</span><span>float32" in text
    assert "Winner: &lt;i&gt;half" in text
    assert "<b>7" not in text


def test_the_margin_of_a_drop_is_drawn_up_to_half_the_limit(tmp_path):
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    known = found(goal, tmp_path)
    one = known.ended.tried[1]
    heights = []
    for error in (0.0, 2.0, 4.0, 6.0):
        tried = (known.ended.tried[0], replace(one, error=error))
        text = render_page(replace(known, ended=replace(known.ended, tried=tried)), [])
        (line,) = re.findall(r'class="margin" points="\S+?,(\S+) \S+?,(\S+)"', text) or [("0", "0")]
        scale = re.findall(r'<polyline class="budget" points="\S+?,(\S+) ', text)[1]
        heights.append((float(line[0]) - float(line[1])) / (float(line[0]) - float(scale)) if error else 0.0)
    assert heights[0] == 0
    assert heights[2] == pytest.approx(2 * heights[1], rel=0.05)
    assert heights[3] == pytest.approx(heights[1] * 4.5 / 2, rel=0.05)


def test_where_nothing_is_believed_the_page_has_no_plot_and_says_why(tmp_path):
    known = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path, finals=False)
    tried = tuple(replace(one, row={**one.row, "status": "untrusted"}) for one in known.ended.tried)
    nothing = replace(known, ended=replace(known.ended, tried=tried), ranked=())
    text = render_page(nothing, say(nothing))
    assert "<circle" not in text
    assert "No candidate has figures that may be believed" in text
    assert text.count("untrusted") >= len(tried)


@pytest.mark.parametrize(
    ("status", "over", "kept"), [("ok", {}, True), ("untrusted", {}, False), ("ok", {"accuracy_drop_pp": 9.5}, False)]
)
def test_a_winner_is_shipped_where_it_is_believed_and_keeps_every_limit(status, over, kept, tmp_path):
    known = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    whole, winner = known.finals.tried
    winner = replace(winner, row={**winner.row, "status": status}, over=over)
    assert _is_kept(replace(known, finals=replace(known.finals, tried=(whole, winner, whole)))) is kept
    assert _is_kept(replace(known, finals=replace(known.finals, tried=(replace(whole, over=over),)))) is not bool(over)
    assert not _is_kept(replace(known, finals=None))


def test_the_layers_of_a_branch_that_went_have_no_outputs(tmp_path):
    kept = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    group = SPACE.groups[0]
    short = replace(group, widths=(0, *group.widths[1:]), branch="b")
    assert kept.finals is not None
    whole, winner = kept.finals.tried
    gone = replace(
        kept,
        space=replace(SPACE, groups=(short, *SPACE.groups[1:])),
        finals=replace(kept.finals, tried=(whole, replace(winner, choice=(0, 3)))),
    )
    text = render_page(gone, say(gone))
    assert text.count("0 of 16 outputs</span>") == 2


def test_a_winner_that_is_a_recipe_as_it_was_written_has_no_widths_to_draw(tmp_path):
    kept = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    whole, winner = kept.finals.tried
    own = replace(winner, choice=None, recipe="student(model='lenet5')")
    text = render_page(written := replace(kept, finals=replace(kept.finals, tried=(whole, own))), say(written))
    assert "Winner: student(model=&#39;lenet5&#39;)" in text
    assert "outputs</span>" not in text


def test_ticks_of_large_counts_are_written_out():
    assert [text for _, text in span([8000.0, 48000.0], 0, 100).ticks()] == [
        "10000",
        "20000",
        "30000",
        "40000",
        "50000",
    ]
    assert "0.0225" in [text for _, text in span([0.0205, 0.024], 0, 100).ticks()]


def test_a_search_without_an_answer_has_a_page_too(tmp_path):
    goal = Goal(limits={"latency_p50_ms": 0.2}, quality={"accuracy_drop_pp": 9.0})
    nothing = found(goal, tmp_path, finals=False)
    text = render_page(nothing, say(nothing))
    assert "latency_p50_ms binds" in text
    assert "outputs</span>" not in text


def test_where_the_winner_misses_a_limit_on_the_test_set_a_runner_up_that_keeps_all_is_named(tmp_path):
    done = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    assert done.finals is not None
    whole, won = done.finals.tried
    missed = replace(won, over={"accuracy_drop_pp": 9.5})
    for second, named in ((replace(won, recipe="other", over={}), True), (replace(missed, recipe="other"), False)):
        said = say(replace(done, finals=replace(done.finals, tried=(whole, missed, second))))
        assert any("exit code 1" in text for text in said)
        assert ("The runner-up keeps every limit there: other" in said) is named


def test_where_no_candidate_had_time_that_is_said_and_the_network_is_not_called_the_best(tmp_path):
    done = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    whole = done.ended.tried[0]
    none = replace(done, ended=Ended(tried=(whole,), why=OVER), finals=Finals(run_id="8", tried=(whole,)))
    assert say(none) == [
        "0 candidates measured; ended because the time is over.",
        "So nothing is known of smaller networks: give more --time.",
    ]
    searched_all = replace(none, ended=replace(none.ended, why="the border is known within 6 %"))
    assert say(searched_all)[1:] == ["The uncompressed network is the best that keeps every limit."]


def test_where_the_files_cannot_be_written_in_the_end_the_error_has_the_answer(tmp_path, monkeypatch):
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    (tmp_path / "winner.onnx").touch()
    monkeypatch.setattr(command, "_find", lambda *_: replace(found(goal, tmp_path), run_id="7"))
    monkeypatch.setattr(command, "render_page", fill_the_disk)
    with watching(io.StringIO()) as watch, pytest.raises(Unavailable, match=r"No space left .* Winner: <i>half"):
        command.search_best(
            Asked(request=Request(target="cpu")),
            results=tmp_path / "results",
            url=None,
            resume=False,
            cache=tmp_path / "cache",
            watch=watch,
        )


def fill_the_disk(*_: object) -> str:
    """As writing to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_candidates_that_were_pruned_are_counted_and_named_apart_from_those_that_were_measured(tmp_path):
    done = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    some = (
        pruned((3, 2), "<b>", "6 ms untrained, 5 allowed", 0.2),
        pruned((3, 3), "", "8 ms untrained, 5 allowed", 0.6),
    )
    with_some = replace(done, ended=replace(done.ended, pruned=some))
    assert "pruned" not in (told := say(done)[0])
    counted = f"{len(done.ended.tried) - 1} candidates measured, 2 pruned by their untrained cost; ended"
    assert say(with_some)[0].startswith(counted)
    assert told.startswith(counted.partition(",")[0])
    answer = describe(with_some)
    assert answer["pruned"] == [{"recipe": one.recipe, "why": one.why} for one in some]
    assert {one.recipe for one in some}.isdisjoint([*answer["front"], *(one["recipe"] for one in answer["trials"])])
    text = render_page(with_some, say(with_some))
    assert "<td>6 ms untrained, 5 allowed</td><td>r(3, 2)&lt;b&gt;</td>" in text
    assert "Not trained" not in render_page(done, say(done))


def test_where_all_candidates_were_pruned_the_nearest_is_named(tmp_path):
    done = found(Goal(limits={"latency_p50_ms": 0.2}, quality={"accuracy_drop_pp": 9.0}), tmp_path, finals=False)
    some = (
        pruned((0, 1), "", "3 ms untrained, 0.2 allowed", 14.0),
        pruned((0, 0), "", "2 ms untrained, 0.2 allowed", 9.0),
    )
    ended = replace(done.ended, tried=done.ended.tried[:1], pruned=some)
    nothing = replace(done, ended=ended, finals=None, ranked=())
    assert say(nothing)[-1] == "Of those pruned the nearest is r(0, 0): 2 ms untrained, 0.2 allowed."


def test_the_answer_says_what_each_thread_count_did_and_which_was_searched(tmp_path):
    done = found(Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0}), tmp_path)
    each = (OnBackend(backend="ort", threads=1, cost=8.0), OnBackend(backend="ort", threads=2, cost=6.0))
    threaded = replace(done, backend="ort", threads=2, backends=each)
    said = "Backends, by the uncompressed network: ort, 1 thread 8 ms; ort, 2 threads 6 ms. Searched: ort, 2 threads."
    assert say(threaded)[0] == said
    assert said in render_page(threaded, say(threaded))
    answer = describe(threaded)
    assert (answer["backend"], answer["threads"], [one["threads"] for one in answer["backends"]]) == ("ort", 2, [1, 2])
    two = replace(threaded, backends=(OnBackend(backend="ort", cost=8.0), OnBackend(backend="litert", cost=9.0)))
    assert say(two)[0].endswith("ort 8 ms; litert 9 ms. Searched: ort.")


def test_the_page_names_the_student_whose_layers_won_and_the_answer_says_what_each_did(tmp_path):
    goal = Goal(limits={"latency_p50_ms": 5.0}, quality={"accuracy_drop_pp": 9.0})
    usual = found(goal, tmp_path)
    assert "<h2>The winner's layers</h2>" in render_page(usual, [])
    recipe = Recipe(name="r", steps=parse_recipe("r", "student(model='mlp')").steps)
    students = (
        Student(title="<i>mlp", recipe=recipe, tried=usual.ended.tried[0]),
        Student(title="late", recipe=recipe, why="the time is over"),
    )
    of_student = replace(usual, network="<i>mlp", students=students)
    assert "<h2>The winner's layers, of student &lt;i&gt;mlp</h2>" in render_page(of_student, say(of_student))
    cost = f"{usual.ended.tried[0].cost:.4g} ms, loss 0"
    assert f"Students: <i>mlp {cost}, narrowed; late, not narrowed: the time is over." in say(of_student)
    assert not any(line.startswith("Students") for line in say(usual))
    told = describe(of_student)["students"]
    assert [(one["student"], one["recipe"], one["not_narrowed"]) for one in told] == [
        ("<i>mlp", "student(model='mlp')", ""),
        ("late", "student(model='mlp')", "the time is over"),
    ]
    assert [one["as_written"] and one["as_written"]["quality_loss"] for one in told] == [0.0, None]
