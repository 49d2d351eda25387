"""A search on a target that only simulates: by its LUTs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench.config.target import Budget, load_target
from bench.errors import CellFailed, InvalidInput
from bench.search.asked import Asked, check_measurable, make_goal
from bench.search.groups import Space
from bench.search.nouns import Group
from bench.search.prediction import counted
from bench.search.prediction.counted import Counter
from bench.types import Conditions

SPACE = Space(groups=(Group(layers=("fc1",), widths=(8, 16), losses=(1.0, 0.0)),), layers=(), fixed={})


def counter(patch: pytest.MonkeyPatch, luts) -> Counter:
    """On a backend whose count is a function of the recipe's text."""

    def make_ready(cell, _state):
        backend = SimpleNamespace(simulate=lambda artifact, *_: SimpleNamespace(lut=luts(artifact)))
        text = " + ".join(map(repr, cell.recipe.steps))
        return SimpleNamespace(prepared=SimpleNamespace(backend=backend, artifact=text))

    patch.setattr(counted, "make_ready", make_ready)
    patch.setattr(counted, "replace", lambda cell, recipe: SimpleNamespace(**{**vars(cell), "recipe": recipe}))
    cell = SimpleNamespace(conditions=Conditions(), backend=SimpleNamespace(options={}))
    state = SimpleNamespace(setting=SimpleNamespace(progress=lambda *_: None))
    return Counter(cell=cell, state=state)  # type: ignore[arg-type]


def test_luts_of_candidates_are_those_of_the_network_times_the_ratio_of_two_counts(monkeypatch):
    found = counter(monkeypatch, lambda text: 300 if "fc1=8" in text else 400)
    assert found.networks(SPACE, [(0,), (1,)], "", 1000.0) == [750.0, 1000.0]
    fixed = counter(monkeypatch, lambda text: 10 if "fixed" not in text else 5 if "fc1=8" in text else 20)
    assert fixed.networks(SPACE, [(0,)], "fixed(width=8)", 1000.0) == [250.0]  # both sides with the steps that follow


def test_a_network_without_a_count_is_no_candidate(monkeypatch):
    with pytest.raises(CellFailed, match="counts no LUTs"):
        counter(monkeypatch, lambda _: None).networks(SPACE, [(0,)], "", 1000.0)


def plan(backend: str, target: str = "fpga") -> SimpleNamespace:
    """Of one cell without data."""
    goal = load_target(target)
    choice = next(one for one in goal.backend if one.name == backend)
    return SimpleNamespace(
        target=goal, cells=(SimpleNamespace(backend=choice, data=None, model=SimpleNamespace(name="m")),)
    )


@pytest.mark.parametrize(
    ("budgets", "minimize", "wanted"),
    [((), "", ("lut", "lut")), (("lut=900",), "", ("", "lut")), ((), "size", ("size", "lut"))],
)
def test_on_an_fpga_luts_stand_for_latency(budgets, minimize, wanted):
    asked = Asked(request=SimpleNamespace(target="fpga"), budgets=budgets, minimize=minimize)  # type: ignore[arg-type]
    goal = make_goal(asked, plan("hls"))  # type: ignore[arg-type]
    assert (goal.minimize, goal.cost) == wanted
    check_measurable(plan("hls"), goal)  # type: ignore[arg-type]
    cpu = make_goal(Asked(request=SimpleNamespace(target="cpu"), minimize="size"), plan("ort", "cpu"))  # type: ignore[arg-type]
    assert cpu.cost == "latency_p50_ms"


@pytest.mark.parametrize(("budgets", "minimize"), [((), "latency"), (("latency_ms=1", "lut=9"), "")])
def test_a_clock_that_is_assumed_decides_nothing(budgets, minimize):
    asked = Asked(request=SimpleNamespace(target="fpga"), budgets=budgets, minimize=minimize)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"only simulates.*--minimize lut or --budget lut=20000"):
        check_measurable(plan("hls"), make_goal(asked, plan("hls")))  # type: ignore[arg-type]


def test_a_budget_of_luts_is_a_budget_of_the_target():
    assert Budget(lut=5).limits() == {"lut": 5}
