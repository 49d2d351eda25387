"""Which backend a search continues with."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_search_loop import WHOLE, measured

from bench.errors import CellFailed, InvalidInput
from bench.line.plan import Request
from bench.line.run import plan_run
from bench.search.asked import Asked
from bench.search.backends import choose, find_one, find_usable, split
from bench.search.goal import Goal

GOAL = Goal(quality={"accuracy_drop_pp": 1.0}, minimize="latency")


def on(title: str, ms: float | Exception, family: str = ""):
    """A search on a backend that takes this long, or cannot run the network."""

    def try_whole():
        if isinstance(ms, Exception):
            raise ms
        one = measured(WHOLE, None, GOAL)
        return replace(one, row={**one.row, "latency_p50_ms": ms}, family=family)

    return SimpleNamespace(backend=SimpleNamespace(title=title)), SimpleNamespace(try_whole=try_whole, title=title)


def test_the_fastest_backend_is_gone_on_with_and_the_others_are_told():
    said: list[str] = []
    there = [on("ort", 0.4), on("litert", 0.2, "int8()"), on("openvino", CellFailed("it crashed")), on("pytorch", 0.9)]
    found, each = choose(there, GOAL, lambda: False, said.append)
    assert found is there[1][1]
    assert [(one.backend, one.cost, one.family) for one in each] == [
        ("ort", 0.4, ""),
        ("litert", 0.2, "int8()"),
        ("openvino", None, ""),
        ("pytorch", 0.9, ""),
    ]
    assert said == [f"uncompressed: {'; '.join(one.text(' ms') for one in each)}: the search continues with litert"]
    assert each[1].text(" ms") == "litert 0.2 ms with int8()"
    assert each[2].text(" ms") == "openvino not searched: it crashed"


def test_without_time_no_further_backend_is_tried_but_one_always_is():
    there = [on("ort", CellFailed("no")), on("litert", 0.3), on("openvino", 0.1)]
    found, each = choose(there, GOAL, lambda: True, lambda _: None)
    assert found is there[1][1]
    assert each[2].why == "not tried: 25% of the time was over"


def test_where_no_backend_runs_the_network_the_first_reason_is_raised():
    with pytest.raises(CellFailed, match="one"):
        choose([on("a", CellFailed("one")), on("b", InvalidInput("two"))], GOAL, lambda: False, lambda _: None)


def test_a_plan_is_split_by_backends_and_by_nothing_else():
    request = Request(
        target="cpu", models=("lenet5",), recipes=("baseline",), backends=("ort", "pytorch"), batch=(1,), threads=(1,)
    )
    plan = plan_run(request)
    assert [one.cells[0].backend.title for one in split(plan)] == ["ort", "pytorch"]
    assert find_one(plan, "pytorch").cells == plan.cells[1:]
    with pytest.raises(InvalidInput, match="no backend litert"):
        find_one(plan, "litert")
    plans, goal = find_usable(Asked(request=request), plan, lambda _: None)
    assert ([len(one.cells) for one in plans], goal.minimize) == ([1, 1], "latency")
    with pytest.raises(InvalidInput, match="name one --model of lenet5, resnet8"):
        split(plan_run(replace(request, models=("lenet5", "resnet8"))))
    with pytest.raises(InvalidInput, match="one model, batch"):
        split(plan_run(replace(request, batch=(1, 8))))
