"""Students in a search: what `--student` means, which are narrowed, and how networks share the time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_records import on
from small_network import small_data, write_quarters
from test_search_loop import GROUPS, SPACE, WHOLE, measured, pruned, searched

from bench.compress.pipeline import open_network
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, OtherNetwork, Unsupported
from bench.line.plan import Plan, Request
from bench.line.run import plan_run
from bench.models.training import trained_networks
from bench.search.asked import Asked
from bench.search.goal import Goal
from bench.search.groups import Space
from bench.search.networks import turns as turns_module
from bench.search.networks.narrowed import Narrowed, find_owner, take_turns, unique, within
from bench.search.networks.students import DOUBTED, Student, line_up, why_not
from bench.search.networks.turns import Turns
from bench.search.prediction.board import narrow
from bench.search.steps import check_students, find_students, settle
from bench.search.strategies.interface import Ended, Means, Pruned, Scene, Tried, least
from bench.types import Model, Recipe

FASTEST = Goal(quality={"accuracy_drop_pp": 1.0}, minimize="latency")
SMALLEST = Goal(limits={"file_kb": 5.0}, quality={"accuracy_drop_pp": 1.0})
SURE = on("ort", 1.0)
TEACHING = "distill(epochs=30, learning_rate=0.005)"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The small network and its data on this machine's CPU."""
    write_quarters(tmp_path)
    return plan_run(
        Request(
            target="cpu",
            suite=str(tmp_path / "quick.toml"),
            models=("small_network:factory",),
            recipes=("baseline",),
            backends=("ort",),
            data=str(tmp_path / "quarters.npz"),
            train=True,
            batch=(1,),
            threads=(1,),
        )
    )


def ask(*students: str, **more) -> Asked:
    return Asked(request=Request(target="cpu"), students=students, **more)


def test_a_student_is_a_network_that_learns_or_the_steps_that_make_it(plan: Plan):
    written = "student(model='mlp') + finetune(epochs=3)"
    found = find_students(ask("lenet5(width=0.5)", written), plan)
    assert [one.text for one in found] == [f"student(model='lenet5(width=0.5)') + {TEACHING}", written]
    assert [one.name for one in found] == [one.text for one in found]
    without = replace(plan, cells=(replace(plan.cells[0], data=None),))
    assert [one.text for one in find_students(ask("net.onnx"), without)] == ["student(model='net.onnx')"]


@pytest.mark.parametrize(
    ("students", "more", "said"),
    [
        (("mlp", f"student(model='mlp') + {TEACHING}"), {}, "it is given twice"),
        (("student(model='mlp') + int8",), {}, r"the narrowing cannot follow int8; name it with --family"),
        (("student(model='mlp') + finetun(epochs=1)",), {}, r"--student student\(.*finetun"),
        (("mlp + finetune(epochs=1)",), {}, "name one network, or steps that begin with student"),
        (("",), {}, "name one network, or steps that begin with student"),
        (("small.pt",), {}, "weights have no layers: name a function that builds the network"),
        (("mlp",), {"recipes": (f"student(model='mlp') + {TEACHING}",)}, "it is a --student too"),
    ],
)
def test_a_student_that_means_nothing_is_refused(plan: Plan, students, more, said):
    with pytest.raises(InvalidInput, match=said):
        settle(ask(*students, **more), plan)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("lenett5", "--student lenett5: .*lenet5"),
        ("missing.onnx", "--student missing.onnx: model file missing.onnx does not exist"),
        ("test_search_students:for_three_classes", r"gives \(2, 3\) for a batch of 2; .* needs \(2, 4\)"),
        ("student(model='mlp') + student(model='mlp')", "it must be the first step"),
    ],
)
def test_a_student_that_cannot_take_the_networks_place_is_refused_before_anything_is_trained(
    plan: Plan, tmp_path: Path, monkeypatch, student, said
):
    monkeypatch.setattr(trained_networks, "fit", lambda *_, **__: pytest.fail("nothing is trained yet"))
    check_students(ask("mlp", "small_network:factory"), plan, tmp_path, lambda *_: None)
    with pytest.raises(InvalidInput, match=said):
        check_students(ask("mlp", student), plan, tmp_path, lambda *_: None)


def for_three_classes():
    """A network of other outputs than the small data set wants."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def test_the_network_after_a_students_steps_is_opened_with_the_users_network_as_its_teacher(tmp_path: Path):
    model = Model(name="small", factory="small_network:factory", input_shape=(1, 8, 8), classes=4)
    steps = parse_recipe("head", "student(model='mlp') + distill(epochs=1)").steps
    labels: list[str] = []

    def opened(**more):
        known = small_data()
        return open_network(
            model, data=known, cache=tmp_path, seed=0, progress=lambda label, _: labels.append(label), **more
        )

    network, context = opened(steps=steps)
    assert type(network.module).__name__ != type(context.teacher).__name__ == "Small"
    assert any("distill" in label for label in labels)
    again, _ = opened(steps=steps)
    first, second = (dict(one.module.state_dict()) for one in (network, again))
    assert all((first[name] == second[name]).all() for name in first)
    assert type(opened()[0].module).__name__ == "Small"


def student(
    ms: float = 1.0, drop: float = 0.0, *, title: str = "s", goal: Goal = FASTEST, status: str = "ok", size: float = 1.0
) -> Student:
    """One that is this fast and loses this much."""
    row = {
        "status": status,
        "reason": "it crashed" if status == "failed" else "",
        "latency_p50_ms": ms,
        "accuracy_drop_pp": drop,
        "file_bytes": size,
    }
    tried = Tried(choice=None, recipe=title, key=title, row=row, over=goal.over(row), predicted=None)
    return Student(title=title, recipe=Recipe(name=title), tried=tried)


@pytest.mark.parametrize(
    ("one", "trains", "why"),
    [
        (student(1.0, 0.9), False, ""),
        (student(1.0, 1.9), True, ""),
        (student(1.0, 1.9), False, "no training follows"),
        (student(1.0, 2.1), True, "it loses 2.1, and 1 is allowed: too much for the training that follows"),
        (student(5.0, 0.0), True, "it is not cheaper: latency_p50_ms 5, of the uncompressed network 4"),
        (student(1.0, 0.0, status="failed"), True, "it is failed: it crashed"),
    ],
)
def test_only_a_student_that_is_believed_cheaper_and_near_the_limit_is_narrowed(one: Student, trains: bool, why: str):
    whole = student(4.0).tried
    found = why_not(one.tried, whole, FASTEST, trains=trains)
    assert found == why or (why and why in found)
    assert (
        why_not(student(5.0, goal=SMALLEST, size=1e3).tried, student(4.0, size=9e3).tried, SMALLEST, trains=True) == ""
    )


def test_students_that_keep_the_limit_come_before_the_users_network_the_cheapest_first():
    there = [
        student(1.0, 1.5, title="doubtful"),
        student(3.0, 0.5, title="slow"),
        student(2.0, title="fast"),
        replace(student(title="no"), why="it is not cheaper"),
    ]
    line = line_up(there, student(title="own"), FASTEST)
    assert [(one.title, share) for one, share in line] == [
        ("fast", 1.0),
        ("slow", 1.0),
        ("own", 1.0),
        ("doubtful", DOUBTED),
    ]


def network(title: str, ms: float) -> Narrowed:
    """One whose only candidate takes this long."""
    one = student(title=title)
    tried = replace(measured((0, 3), None, FASTEST), key=f"{title}-1", over={})
    tried = replace(tried, row={**tried.row, "latency_p50_ms": ms})
    return Narrowed(
        student=one,
        whole=replace(one.tried, over={"accuracy_drop_pp": 9.0}),
        space=SPACE,
        timer=SimpleNamespace(),
        ended=Ended(tried=(tried,), why=""),
    )


def test_each_network_has_its_share_of_the_time_that_is_left_and_the_best_one_the_rest():
    there = [(network("a", 2.0), 1.0), (network("b", 1.0), 1.0), (network("late", 0.1), 1.0), (network("c", 3.0), 0.25)]
    over = iter((0.2, 0.2, 0.4, 0.6))
    went: list[tuple[str, float, bool]] = []

    def go_on(one: Narrowed, others, end: float) -> None:
        assert one not in others or one.rest
        went.append((one.title, round(end, 3), one.rest))

    done = take_turns(there, lambda: next(over), lambda one, _: None if one.title == "late" else one, go_on, FASTEST)
    assert [one.title for one in done] == ["a", "b", "c"]
    assert went == [("a", 0.446, False), ("b", 0.556, False), ("c", 1.0, False), ("b", 1.0, True)]


def test_a_network_alone_has_one_turn():
    went: list[float] = []
    take_turns(
        [(network("a", 2.0), 1.0)], lambda: 0.3, lambda one, _: one, lambda _one, _done, end: went.append(end), FASTEST
    )
    assert went == [1.0]


def test_where_nothing_keeps_the_limits_no_network_has_the_rest():
    there = [network("a", 2.0), network("b", 1.0)]
    for one in there:
        one.ended = replace(one.ended, tried=tuple(replace(each, over={"file_kb": 9.0}) for each in one.tried))
    went: list[str] = []
    take_turns(
        [(one, 1.0) for one in there], lambda: 0.0, lambda one, _: one, lambda one, *_: went.append(one.title), FASTEST
    )
    assert went == ["a", "b"]


def test_what_a_turn_tried_stays_when_a_later_one_ends_earlier():
    one = network("a", 2.0)
    (first,) = one.ended.tried
    one.add(Ended(tried=(one.whole,), why="later"))
    assert [each.key for each in one.tried] == [first.key, one.whole.key]
    assert one.ended.why == "later"
    assert find_owner([network("b", 1.0), one], [first]) is one
    assert find_owner([one], [replace(first, key="a recipe as it is written")]) is None
    assert unique((first, one.whole, first)) == (first, one.whole)


def test_a_part_of_the_time_is_all_that_a_strategy_sees():
    asked: list[tuple[float, bool]] = []

    def time_left(part: float, *, longer: bool = False) -> bool:
        asked.append((part, longer))
        return True

    means = Means(
        trial=lambda *_: None,
        quick=lambda _: [],
        look=lambda *_: None,
        end=no_end,
        time_left=time_left,
        spent=lambda: 0.3,
    )
    part = within(means, 0.6)
    assert part.spent() == pytest.approx(0.5)
    assert part.time_left(0.5, longer=True)
    assert asked == [(0.3, True)]


def test_a_network_looks_for_nothing_dearer_than_what_another_has_reached_and_leaves_the_front_open():
    goal = Goal(quality={"accuracy_drop_pp": 9.0}, minimize="latency")
    alone = searched(goal)
    best = least(alone.tried, goal)
    assert math.isfinite(best)
    told = searched(goal, scene={"best": 0.9 * best, "front": False})
    assert all(one.cost < 0.9 * best for one in told.tried[1:])
    closed = searched(goal, scene={"front": False})
    assert {one.choice for one in closed.tried} < {one.choice for one in alone.tried}


def test_the_recipe_of_a_students_choice_begins_with_the_steps_that_make_it():
    space = replace(SPACE, head="student(model='mlp') + distill(epochs=1)")
    assert narrow(space, WHOLE, "int8") == f"{space.head} + int8"
    assert narrow(space, (0, 3), "").startswith(f"{space.head} + widths(keep=('{GROUPS[0].layers[0]}=4',)")


def turns(monkeypatch, asked: Asked, *, look=None, own_time: bool = True, measured=()) -> tuple[Turns, list[str]]:
    """Of a search whose networks look like this, and what it notes."""
    noted: list[str] = []
    monkeypatch.setattr(turns_module, "look", look)
    left = iter(measured)
    cell = SimpleNamespace(key="own")
    pace = SimpleNamespace(
        time_left=lambda _part: True,
        time_for_own=lambda _part: own_time,
        spent_s=lambda: 0.0,
        spent=lambda: 0.0,
        add=lambda *_, **__: None,
        head_s=0.0,
        recalled_s=0.0,
    )
    made = Turns(
        asked=asked,
        state=SimpleNamespace(
            plan=SimpleNamespace(cells=[cell], suite=SimpleNamespace(seed=0)), setting=SimpleNamespace()
        ),
        goal=FASTEST,
        pace=pace,
        stored={"own": SURE, "of the student": SURE},
        tried=[],
        measure=lambda _name, _text: next(left),
        means=lambda *_: None,
        note=noted.append,
    )
    return made, noted


def test_a_network_that_cannot_be_narrowed_ends_the_search_only_where_nothing_else_can_be_tried(monkeypatch):
    def look(_cell, _state, _record, _asked, _note, explain):
        explain(Unsupported("no channel of this network can go"))
        return Space(groups=(), layers=(), fixed={}), None

    alone, _ = turns(monkeypatch, ask(families=()), look=look)
    with pytest.raises(Unsupported, match="a --family, --recipe or --student can be tried all the same"):
        alone.look_at_own(student(4.0).tried)
    with_student, noted = turns(monkeypatch, ask("mlp", families=()), look=look)
    assert with_student.look_at_own(student(4.0).tried).space.groups == ()
    assert noted == [
        "no layer of it is narrowed, and only --recipe, --student and --family are tried: no channel of this network can go"
    ]


def test_each_student_that_is_not_narrowed_has_a_note(monkeypatch):
    late, noted = turns(monkeypatch, ask("mlp"), own_time=False)
    late.try_students([Recipe(name="mlp")], student(4.0).tried)
    assert noted == ["student mlp is not narrowed: it is not tried, because 50% of the time is over"]
    assert late.students[0].text() == "mlp, not narrowed: it is not tried, because 50% of the time is over"
    asked = ask("slow", "good", then="finetune(epochs=1)")
    there, noted = turns(monkeypatch, asked, measured=[student(5.0).tried, student(1.0, 1.5).tried])
    there.try_students([Recipe(name="slow"), Recipe(name="good")], student(4.0).tried)
    why = "it is not cheaper: latency_p50_ms 5, of the uncompressed network 4"
    assert noted == [f"student slow is not narrowed: {why}"]
    assert [one.why for one in there.students] == [why, ""]
    assert [one.text() for one in there.students] == [
        f"slow 5 ms, loss 0, not narrowed: {why}",
        "good 1 ms, loss 1.5, narrowed",
    ]


def test_a_search_is_not_continued_with_trials_of_another_student(monkeypatch):
    recipe, tried = Recipe(name="mlp", steps=parse_recipe("mlp", "finetune(epochs=2)").steps), student(1.0).tried
    earlier = replace(SURE, key="s", baseline_key="own", recipe_text=recipe.text, digest="before")

    def continued(stored, *, digest: str = "", own_time: bool = True) -> Turns:
        there, _ = turns(monkeypatch, ask("mlp", then=""), measured=[tried], own_time=own_time)
        monkeypatch.setattr(turns_module, "plan_recipe", lambda _plan, _cell, one: one.text)
        there.stored = {"own": SURE} if stored is None else {"own": SURE, "s": stored}
        artifact = SimpleNamespace(digest=digest)

        def make_ready(text, _state):
            assert digest, "there is nothing to compare"
            assert text == recipe.text
            return SimpleNamespace(prepared=SimpleNamespace(artifact=artifact))

        there.state.make_ready = make_ready
        there.try_students([recipe], student(4.0).tried)
        return there

    for stored in (None, replace(earlier, digest=""), replace(earlier, baseline_key="of another backend")):
        assert continued(stored).students[0].tried is tried
    for own_time in (True, False):
        assert continued(earlier, digest="before", own_time=own_time).students[0].tried is tried, "it takes no time"
    for own_time in (True, False):
        with pytest.raises(OtherNetwork, match=r"student mlp: its file is not the same .*leave --resume out"):
            continued(earlier, digest="after", own_time=own_time)


def test_the_finalists_have_time_for_the_training_of_a_student_that_was_recalled(monkeypatch):
    there, _ = turns(monkeypatch, ask("mlp", then=""))
    there.pace.spent_s = iter((10.0, 10.2)).__next__

    def measure(_name, _text):
        there.pace.recalled_s = 40.0
        return student(1.0).tried

    there.measure = measure
    there.try_students([Recipe(name="mlp")], student(4.0).tried)
    assert there.students[0].took_s == 40.0


def no_end(*_: object) -> Pruned:
    raise AssertionError("nothing is pruned here")


def test_what_is_pruned_in_any_turn_is_kept_once(monkeypatch):
    def strategy(scene, _means):
        mine = pruned((), scene.whole.recipe, "dear", 0.5)
        return Ended(tried=(scene.whole,), why="done", pruned=(mine, pruned((), "both", "dear", 0.5)))

    there, _ = turns(monkeypatch, ask("mlp"))
    monkeypatch.setattr(turns_module, "try_families", strategy)
    monkeypatch.setattr(turns_module, "within", lambda means, _end: means)
    own = replace(student(4.0, title="own").tried, choice=(), recipe="")
    there.take(Narrowed(whole=own, space=Space(groups=(), layers=(), fixed={}), timer=None), [])
    there.take(Narrowed(whole=replace(own, recipe="x"), space=Space(groups=(), layers=(), fixed={}), timer=None), [])
    assert [one.family for one in there.pruned.values()] == ["", "both", "x"]


def test_a_network_that_was_late_at_its_turn_is_narrowed_in_the_rest_of_the_time_where_it_is_the_best(monkeypatch):
    """It had a scene without a table from its turn, which the search then asserted."""
    there, noted = turns(monkeypatch, ask("mlp", families=()))
    monkeypatch.setattr(turns_module, "within", lambda means, _end: means)
    monkeypatch.setattr(Turns, "_predict", lambda _self, one, end: (one.title, end))
    scenes: list[Scene] = []

    def strategy(scene, _means):
        scenes.append(scene)
        return Ended(tried=(scene.whole,), why="done")

    monkeypatch.setitem(turns_module.STRATEGIES, there.asked.strategy, strategy)
    there.pace.time_left = lambda part: part == 1.0
    fast = student(1.0, 0.0, title="mlp")
    there.students = [fast]
    networks = [
        Narrowed(student=fast, whole=fast.tried, space=SPACE, timer=None),
        Narrowed(whole=student(4.0, title="own").tried, space=SPACE, timer=None),
    ]
    monkeypatch.setattr(turns_module, "line_up", lambda *_: [(one, 1.0) for one in networks])
    monkeypatch.setattr(Turns, "_open", lambda _self, one, _end: one)
    there.take(networks[1], [])
    found = [(scene.whole.key, scene.predictor, scene.front) for scene in scenes]
    assert found == [("own", ("", 1.0), False), ("mlp", ("mlp", 1.0), True)]
    assert scenes[1].best == 4.0, "of the other network only"
    assert there.students[0].why == ""
    assert noted == [
        "your own network: ended because done",
        "student mlp is narrowed",
        "student mlp: ended because done",
    ]


@pytest.mark.parametrize(("students", "best"), [((), math.inf), (("mlp",), 0.7)])
def test_beside_students_a_network_looks_for_nothing_dearer_than_a_recipe(monkeypatch, students, best):
    """It trained candidates that a known recipe beats. Without students its own border is wanted, as ever."""
    there, _ = turns(monkeypatch, ask(*students))
    monkeypatch.setattr(Turns, "_predict", lambda *_: None)
    there.students = [student(1.0, title=title) for title in students]
    there.recipes = [student(0.7, title="a recipe").tried, student(0.1, 9.0, title="one that loses too much").tried]
    own = Narrowed(whole=student(4.0, title="own").tried, space=SPACE, timer=None)
    assert there._set_scene(own, [], 1.0).best == best


def test_a_network_whose_turn_never_came_is_not_said_to_be_narrowed(monkeypatch):
    """The answer said "narrowed" of it, and no note said otherwise."""
    there, noted = turns(monkeypatch, ask("mlp"))
    one = student(1.0, title="mlp")
    there.students, there.tried = [one], [one.tried]
    monkeypatch.setattr(turns_module, "plan_recipe", lambda *_: SimpleNamespace(key="of the student"))
    monkeypatch.setattr(turns_module, "look", lambda *_: (SPACE, None))
    left = iter([True])
    there.pace.time_left = lambda _part: next(left, False)
    there.take(Narrowed(whole=student(4.0, title="own").tried, space=SPACE, timer=None), [])
    assert there.students[0].why == "the time is over"
    assert noted == [
        "student mlp is not narrowed: the time is over",
        "your own network is not narrowed: the time is over",
    ]


def test_a_student_whose_layers_cannot_be_narrowed_has_its_families_tried_and_is_named(monkeypatch):
    def look(_cell, _state, _record, _asked, note, explain):
        note("layer fc keeps its width: it is the last")
        explain(Unsupported("no channel of this network can go"))
        return Space(groups=(), layers=(), fixed={}), None

    one = student(1.0, title="mlp")
    asked = ask("mlp", families=("int8",))
    there, noted = turns(monkeypatch, asked, look=look)
    monkeypatch.setattr(turns_module, "plan_recipe", lambda *_: SimpleNamespace(key="of the student"))
    there.students, there.tried = [replace(one, recipe=Recipe(name="mlp"))], [one.tried]
    families: list[str] = []

    def trial(choice, _predicted, family):
        families.append(family)
        return replace(one.tried, key=f"mlp {family}", choice=choice)

    there.means = lambda *_: Means(
        trial=trial,
        quick=lambda _: [],
        look=lambda *_: None,
        end=no_end,
        time_left=lambda _part, *, longer=False: True,
        spent=lambda: 0.0,
    )
    own = replace(student(4.0, title="own").tried, choice=())
    done = there.take(Narrowed(whole=own, space=Space(groups=(), layers=(), fixed={}), timer=None), [])
    assert [network.title for network in done] == ["mlp", ""]
    assert families == ["int8", "int8", "int8"], "of the student, of the user's network, and of the better one again"
    went = ("student mlp", "your own network", "student mlp")
    assert noted == [
        "student mlp: layer fc keeps its width: it is the last",
        "student mlp is not narrowed: no channel of this network can go",
        *(f"{who}: ended because no layer of this network can be narrowed" for who in went),
    ]
    assert there.students[0].why == "no channel of this network can go"
    assert there.tried[0].choice == (), "as one that is narrowed"
