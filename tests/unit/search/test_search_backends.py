"""Which backend a search continues with."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_search_loop import WHOLE, measured

from bench.errors import BoardLost, CellFailed, InvalidInput, OtherNetwork
from bench.line.plan import Plan, Request
from bench.line.run import plan_run
from bench.search.asked import Asked
from bench.search.backends import OnBackend, choose, find_one, find_usable, keep_begun, name_cells, split
from bench.search.goal import Goal
from bench.search.plans import for_trials
from bench.search.resumed import check_planned
from bench.types import Conditions

GOAL = Goal(quality={"accuracy_drop_pp": 1.0}, minimize="latency")


def on(title: str, ms: float | Exception, family: str = "", threads: int | None = None, **row):
    """A search on a backend that takes this long, or cannot run the network."""

    def try_whole():
        if isinstance(ms, Exception):
            raise ms
        one = measured(WHOLE, None, GOAL)
        return replace(one, row={**one.row, "latency_p50_ms": ms, **row}, family=family)

    return OnBackend(backend=title, threads=threads), SimpleNamespace(try_whole=try_whole)


def test_the_fastest_backend_is_gone_on_with_and_the_others_are_told():
    said: list[str] = []
    there = [on("ort", 0.4), on("litert", 0.2, "int8()"), on("openvino", CellFailed("it crashed")), on("pytorch", 0.9)]
    found, each = choose(there, GOAL, 60.0, said.append)
    assert found is there[1][1]
    assert [(one.backend, one.cost, one.family) for one in each] == [
        ("ort", 0.4, ""),
        ("litert", 0.2, "int8()"),
        ("openvino", None, ""),
        ("pytorch", 0.9, ""),
    ]
    assert said == [f"uncompressed: {'; '.join(one.text(' ms') for one in each)}: the search continues with litert"]
    assert each[1].text(" ms") == "litert 0.2 ms with int8()"
    assert each[2].text(" ms") == "openvino (not searched: it crashed)"


def test_without_time_no_further_backend_is_tried_but_one_always_is():
    there = [on("ort", CellFailed("no")), on("litert", 0.3), on("pytorch", 0.2), on("openvino", 0.1)]
    seconds = iter((0.0, 10.0, 20.0, 40.0, 75.0, 90.0))
    found, each = choose(there, GOAL, 60.0, lambda _: None, lambda: next(seconds))
    assert found is there[2][1], "the time of the first one does not count: it trains the network"
    assert each[3].why == "not tried: 25% of the time was over"


@pytest.mark.parametrize("error", [BoardLost("gone"), OtherNetwork("--resume: another one")])
def test_a_board_that_is_lost_or_another_network_ends_the_search(error):
    with pytest.raises(type(error)):
        choose([on("ort", 0.4), on("litert", error)], GOAL, 60.0, lambda _: None)


def test_a_backend_that_is_not_believed_or_less_accurate_is_taken_only_where_there_is_no_other():
    wrong = {"status": "untrusted", "reason": "its outputs differ"}
    there = [on("ort", 0.4, accuracy=0.9), on("odd", 0.1, **wrong), on("bfloat16", 0.2, accuracy=0.88)]
    found, each = choose(there, GOAL, 60.0, lambda _: None)
    assert found is there[0][1]
    assert [one.why for one in each] == [
        "",
        "not believed: its outputs differ",
        "2.00 points less accurate than the best, 1 allowed",
    ]
    found, _ = choose([on("odd", 0.1, **wrong), on("litert", CellFailed("no"))], GOAL, 60.0, lambda _: None)
    assert found.try_whole().row["status"] == "untrusted"


def planned(*places: tuple[str, int]) -> Plan:
    """A plan of a cell for each backend and number of threads, whose key has both."""
    cells = [
        SimpleNamespace(
            model=SimpleNamespace(name="net"),
            backend=SimpleNamespace(title=title),
            conditions=Conditions(threads=threads),
            key=f"{title}{threads}",
        )
        for title, threads in places
    ]
    return Plan(request=None, suite=None, target=None, data=None, shifted_data=None, cells=tuple(cells))


def stored(backend: str, recipe: str, threads: int = 1):
    conditions = Conditions(threads=threads)
    return SimpleNamespace(backend=backend, recipe=recipe, conditions=conditions, baseline_key=f"{backend}{threads}")


def test_a_search_is_continued_with_the_threads_that_have_candidates_and_those_of_another_count_do_not_hinder_it():
    plan = planned(("ort", 1), ("ort", 2), ("ort", 4))
    tried = [stored("ort", "baseline"), stored("ort", "baseline", 2), stored("ort", "baseline", 4)]
    assert keep_begun(plan, tried, lambda _: None) is plan
    check_planned(plan.cells, tried)
    said: list[str] = []
    begun = keep_begun(plan, [*tried, stored("ort", "widths-1", 2)], said.append)
    assert begun.cells == plan.cells[1:2]
    assert said == ["--resume: the search continues on backend ort, 2 threads, which has candidates"]
    with pytest.raises(OtherNetwork):
        check_planned(plan.cells, [replace_key(tried[1])])


def replace_key(one):
    """A trial of another uncompressed network."""
    return SimpleNamespace(**{**vars(one), "baseline_key": "another"})


def test_several_thread_counts_are_several_places_and_the_fastest_is_gone_on_with():
    said: list[str] = []
    there = [on("ort", 0.4, threads=1), on("ort", 0.3, threads=2), on("ort", CellFailed("it crashed"), threads=4)]
    found, each = choose(there, GOAL, 60.0, said.append)
    assert found is there[1][1]
    assert [(one.backend, one.threads, one.cost) for one in each] == [
        ("ort", 1, 0.4),
        ("ort", 2, 0.3),
        ("ort", 4, None),
    ]
    names = "ort, 1 thread 0.4 ms; ort, 2 threads 0.3 ms; ort, 4 threads (not searched: it crashed)"
    assert said == [f"uncompressed: {names}: the search continues with ort, 2 threads"]


def test_a_search_is_continued_on_the_backend_that_has_candidates():
    plan = planned(("ort", 1), ("litert", 1))
    tried = [stored("ort", "baseline"), stored("ort", "family-1")]
    assert keep_begun(plan, tried, lambda _: None) is plan
    said: list[str] = []
    begun = keep_begun(plan, [*tried, stored("litert", "widths-1")], said.append)
    assert begun.cells == plan.cells[1:]
    assert keep_begun(plan, [*tried, stored("litert", "channels50")], lambda _: None).cells == plan.cells[1:]
    assert said == ["--resume: the search continues on backend litert, which has candidates"]


def test_where_no_backend_runs_the_network_the_first_reason_is_raised():
    with pytest.raises(CellFailed, match="one"):
        choose([on("a", CellFailed("one")), on("b", InvalidInput("two"))], GOAL, 60.0, lambda _: None)


def test_a_plan_is_split_by_backends_and_threads_and_by_nothing_else():
    request = Request(
        target="cpu", models=("lenet5",), recipes=("baseline",), backends=("ort", "pytorch"), batch=(1,), threads=(1,)
    )
    plan = plan_run(request)
    assert [one.cells[0].backend.title for one in split(plan)] == ["ort", "pytorch"]
    assert find_one(plan, "pytorch", 1).cells == plan.cells[1:]
    for place in (("litert", 1), ("pytorch", 2)):
        with pytest.raises(InvalidInput, match="no backend {} with threads {} here".format(*place)):
            find_one(plan, *place)
    threaded = plan_run(replace(request, threads=(1, 2)))
    assert [(one.backend, one.threads) for one in name_cells(plan)] == [("ort", None), ("pytorch", None)]
    assert [one.name for one in name_cells(threaded)] == [
        "ort, 1 thread",
        "ort, 2 threads",
        "pytorch, 1 thread",
        "pytorch, 2 threads",
    ]
    assert find_one(threaded, "ort", 2).cells == threaded.cells[1:2]
    assert len({one.cells[0].key for one in split(for_trials(threaded))}) == 4
    usable, goal = find_usable(Asked(request=request), plan, lambda _: None)
    assert (usable.cells, goal.minimize) == (plan.cells, "latency")
    trials = [one.cells[0] for one in split(for_trials(usable))]
    assert [one.backend.title for one in trials] == ["ort", "pytorch"]
    assert [one.baseline_key for one in trials] == [one.key for one in trials]
    with pytest.raises(InvalidInput, match="name one --model of lenet5, resnet8"):
        split(plan_run(replace(request, models=("lenet5", "resnet8"))))
    with pytest.raises(InvalidInput, match="one batch, as another one is another workload: name one --batch of 1, 8"):
        split(plan_run(replace(request, batch=(1, 8))))
