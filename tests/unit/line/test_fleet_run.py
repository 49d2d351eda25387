"""Laws of a run on a fleet, with boards that only pretend: every cell once, on a board that is this run's, baseline first."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from fake_fleet import FLEET, Lab, plan_fleet
from sqlalchemy import update

from bench.errors import BoardBusy, BoardLost, CellFailed, Unavailable
from bench.line.cell import RunState
from bench.line.fleet import run as fleet_run
from bench.line.fleet.heart import Heart
from bench.line.fleet.pantry import Pantry
from bench.line.fleet.shares import make_shares, order_ahead
from bench.line.plan import move
from bench.line.run import make_setting
from bench.reach.local import Local
from bench.reach.open import Reaches
from bench.store import Offer, Store
from bench.store.schema import BOARDS


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Whether each board measures everything -> the plan."""
    folder = tmp_path_factory.mktemp("fleet")
    return {each: plan_fleet(folder, FLEET, each=each) for each in (False, True)}


@pytest.fixture
def lab(tmp_path, plans):
    made = Lab(tmp_path, plans)
    yield made
    made.store.close()


def test_a_plan_does_not_grow_with_its_boards_and_a_moved_cell_is_the_one_planned_there(plans):
    shared, each = plans[False].cells, plans[True].cells
    assert len(shared) == 6
    assert {cell.conditions.device for cell in shared} == {"a"}
    for board in ("a", "b", "c"):
        there = [cell for cell in each if cell.conditions.device == board]
        moved = [*move(plans[False], shared[:3], board), *move(plans[False], shared[3:], board)]
        assert [(cell.key, cell.baseline_key) for cell in moved] == [(cell.key, cell.baseline_key) for cell in there]


def test_a_cell_that_a_cluster_still_makes_keeps_no_other_waiting(lab):
    class Workers:
        """A cluster that has made the files of one cell."""

        over = {"int8"}

        def listen(self, wake):
            self.wake = wake

        def is_over(self, cell):
            return cell.recipe.name in self.over

        def take(self, cell, state):
            assert self.is_over(cell)
            return cell.recipe.name

    around, plan, workers = lab.around(), lab.plans[False], Workers()
    setting = make_setting(plan, around, Reaches(lambda _target, _device: Local()))
    pantry = Pantry(plan.cells, RunState(plan=plan, run_id="r", setting=setting), uses=1)
    pantry.ask(workers)
    with pantry:
        assert pantry.take(plan.cells[2]) == "int8"
        workers.over.add("baseline")
        workers.wake()
        assert pantry.take(plan.cells[0]) == "baseline"


def test_as_many_shares_are_made_ready_at_once_as_there_are_boards(lab):
    shares = make_shares(lab.plans[False], ["a", "b"])
    order = [(cell.model.name[-4:], cell.recipe.name) for cell in order_ahead(shares, 2)]
    first, second = "0.1)", "0.2)"
    assert order == [(model, recipe) for recipe in ("baseline", "half", "int8") for model in (first, second)]
    assert order_ahead(shares, 1) == list(lab.plans[False].cells)


def boards_of(records):
    return {one.conditions.device for one in records}


def test_the_free_boards_share_the_models_and_a_baseline_is_on_the_board_of_its_recipes(lab):
    both = threading.Barrier(2, timeout=60)
    lab.cell = lambda board, cell: both.wait() if cell.recipe.name == "baseline" else None
    ended = lab.run()
    assert ended.measured.left == 0
    assert len(lab.places()) == 6
    assert set(lab.places().values()) == {1}
    records = lab.store.records()
    for model in {one.model for one in records}:
        assert len(boards_of([one for one in records if one.model == model])) == 1
        assert [recipe for _, name, recipe in lab.measured if name == model] == ["baseline", "half", "int8"]
    assert len(boards_of(records)) == 2  # the barrier lets none pass before another board measures
    assert {one.device for one in records} == {f"{board} (Orin)" for board in boards_of(records)}
    assert lab.store.runs()[0].status == "finished"
    assert not any(one.owner for one in lab.leases.boards())


def test_each_board_measures_every_cell_with_its_own_baseline(lab):
    ended = lab.run(each=True)
    assert set(lab.places().values()) == {3}
    keys = {one.key for one in lab.store.records()}
    assert len(keys) == 18
    assert all(one.baseline_key in keys for one in lab.store.records())
    assert sum(ended.counts.values()) == 18
    assert {one.hottest_c for one in lab.leases.boards()} == {61.5}


def test_a_board_that_dies_mid_cell_gives_its_cell_to_the_next_and_none_is_lost_or_doubled(lab):
    died: list[str] = []

    def die_once(board, cell):
        if cell.recipe.name == "half" and not died:
            died.append(board)
            raise BoardLost(f"{board} was lost and did not come back")

    lab.cell = die_once
    ended = lab.run()
    assert died
    assert list(ended.measured.alarms) == died
    assert "was lost and did not come back" in ended.measured.alarms[died[0]]
    assert ended.measured.left == 0
    recipes = {place: count for place, count in lab.places().items() if place[1] != "baseline"}
    assert set(recipes.values()) == {1}
    assert len(recipes) == 4
    halves = [one for one in lab.store.records() if one.recipe == "half"]
    assert died[0] not in boards_of(halves)
    for one in lab.store.records():
        assert any(other.key == one.baseline_key for other in lab.store.records())
    assert any(f"board {died[0]} was taken out" in line for line in lab.said)
    (out,) = (one for one in lab.leases.boards() if one.name == died[0])
    assert "was lost" in out.trouble


def test_a_board_that_fails_its_check_is_taken_out_with_an_alarm_and_the_others_measure(lab):
    lab.broken = {"a": "cpu: throttled (better cooling)", "b": Unavailable("b.lab refuses connections")}
    ended = lab.run()
    assert dict(ended.measured.alarms) == {"a": "cpu: throttled (better cooling)", "b": "b.lab refuses connections"}
    assert boards_of(lab.store.records()) == {"c"}
    assert set(lab.places().values()) == {1}
    lab.broken = {}
    lab.run()
    assert not any(one.trouble for one in lab.leases.boards() if one.fence > 1)


def test_a_board_that_was_taken_out_is_checked_again_and_measures_when_it_is_back(lab):
    begun, back, lab.broken = threading.Event(), threading.Event(), dict.fromkeys("bc", "off")

    def repair(line):
        if "board b was taken out" in line:
            assert begun.wait(60)  # or b would be back, and measure all, before a begins
            lab.broken.pop("b")
        if "board b is back" in line:
            back.set()

    def wait(board, cell):
        if board == "a":
            begun.set()
        assert back.wait(60)  # the other goes on until this one is back
        if board == "a" and cell.recipe.name == "half":
            raise BoardLost("a is off")

    lab.heard, lab.cell = repair, wait
    ended = lab.run(recheck_s=0.01)
    assert ended.measured.left == 0
    assert set(ended.measured.alarms) == {"a", "b", "c"}
    assert boards_of(one for one in lab.store.records() if one.recipe == "half") == {"b"}
    assert len([line for line in lab.said if "board c was taken out" in line]) == 1
    trouble = {one.name: one.trouble for one in lab.leases.boards()}
    assert (trouble["b"], trouble["c"]) == ("", "off")


def test_without_a_board_nothing_is_measured_and_every_reason_is_named(lab):
    lab.broken = dict.fromkeys("abc", "no space")
    with pytest.raises(Unavailable, match=r"no board can be used: .*a: no space"):
        lab.run()
    assert lab.store.runs()[0].status == "interrupted"


def test_cells_that_no_board_is_left_for_are_measured_by_a_resumed_run(lab):
    def lose(board, cell):
        if cell.recipe.name == "int8":
            raise BoardLost("gone")

    lab.cell = lose
    ended = lab.run()
    assert ended.measured.left == 2 or ended.measured.left == 4  # a third board may take what is left, and dies of it
    (run,) = lab.store.runs()
    assert run.status == "interrupted"
    lab.cell = lambda board, cell: None
    again = lab.run(earlier=run)
    assert again.run_id == ended.run_id
    assert again.measured.left == 0
    assert {place: count for place, count in lab.places().items() if place[1] == "int8"} == {
        (model, "int8"): 1 for model in ("lenet300_100(width=0.1)", "lenet300_100(width=0.2)")
    }
    assert lab.store.runs()[0].status == "finished"


@pytest.mark.parametrize("recipe", ["half", "baseline"])
def test_a_cell_at_which_two_boards_are_lost_takes_no_third_and_keeps_no_other_from_being_measured(lab, recipe):
    poison = ("lenet300_100(width=0.1)", recipe)

    def hang(board, cell):
        if (cell.model.name, cell.recipe.name) == poison:
            raise BoardLost(f"{board} hangs")

    lab.cell = hang
    ended = lab.run()
    assert len(ended.measured.alarms) == 2
    unmeasured = {poison} if recipe == "half" else {(poison[0], each) for each in ("baseline", "half", "int8")}
    everything = {(cell.model.name, cell.recipe.name) for cell in lab.plans[False].cells}
    assert set(lab.places()) == everything - unmeasured
    assert ended.measured.left == len(unmeasured)
    first, second = sorted(ended.measured.alarms)
    said = f"{poison[0]} / {recipe} is left out: boards {first} and {second} were lost while they measured it"
    assert [line for line in lab.said if "is left out" in line] == [f"{said}; --resume tries it again"]
    (run,) = lab.store.runs()
    assert run.status == "interrupted"
    lab.cell = lambda board, cell: None
    assert lab.run(earlier=run).measured.left == 0
    assert set(lab.places()) == everything
    assert lab.store.runs()[0].status == "finished"


def test_of_two_boards_both_may_be_lost_at_a_cell_when_all_else_is_measured(lab):
    def hang(board, cell):
        if cell.model.name.endswith("0.1)") and cell.recipe.name == "half":
            raise BoardLost(f"{board} hangs")

    lab.broken, lab.cell = {"c": "off"}, hang
    ended = lab.run()
    assert set(ended.measured.alarms) == {"a", "b", "c"}
    assert ended.measured.left == 1
    assert len(lab.places()) == 5


def test_a_board_that_was_lost_after_another_had_taken_it_counts_against_no_cell(lab):
    lost: list[str] = []

    def lose(board, cell):
        if cell.model.name.endswith("0.1)") and cell.recipe.name == "half" and len(lost) < 2:
            lost.append(board)
            with lab.store.engine.begin() as connection:  # as of a laptop that hung
                connection.execute(update(BOARDS).where(BOARDS.c.name == board).values(fence=BOARDS.c.fence + 1))
            hearts[0].beat()
            raise BoardLost(f"{board} is another's")

    hearts: list[Heart] = []
    begin = Heart.__enter__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Heart, "__enter__", lambda heart: hearts.append(heart) or begin(heart))
        lab.cell = lose
        ended = lab.run()
    assert len(lost) == 2
    assert ended.measured.left == 0
    assert not any("is left out" in line for line in lab.said)


def test_a_cell_that_fails_on_a_healthy_board_is_stored_as_failed_and_the_board_goes_on(lab):
    def crash(board, cell):
        if cell.recipe.name == "half":
            raise CellFailed("the runtime broke")

    lab.cell = crash
    ended = lab.run()
    assert dict(ended.measured.alarms) == {}
    assert ended.counts["failed"] == 2
    assert sum(ended.counts.values()) == 6


def test_a_cell_that_fails_because_its_board_became_unfit_goes_to_another(lab):
    died: list[str] = []

    def fill_up(board, cell):
        if not died:
            died.append(board)
            lab.broken[board] = "disk: little space"
            raise Unavailable("12 MiB free, 100 MiB are needed")

    lab.cell = fill_up
    ended = lab.run()
    assert dict(ended.measured.alarms) == {died[0]: "disk: little space"}
    assert "failed" not in ended.counts
    assert set(lab.places().values()) == {1}


def test_a_lease_that_another_took_meanwhile_costs_the_cell_and_not_the_run(lab):
    stolen: list[str] = []

    def steal(board, cell):
        if not stolen and cell.recipe.name == "half":
            stolen.append(board)
            with lab.store.engine.begin() as connection:  # as if this process had hung and another host had gone on
                connection.execute(
                    update(BOARDS).where(BOARDS.c.name == board).values(fence=BOARDS.c.fence + 1, ends_at=0.0)
                )

    lab.cell = steal
    ended = lab.run()
    assert ended.measured.left == 0
    assert dict(ended.measured.alarms) == {}
    assert any("is measured again" in line for line in lab.said)
    assert {count for place, count in lab.places().items() if place[1] != "baseline"} == {1}


def test_a_board_that_another_run_has_is_waited_for(lab):
    lab.broken = dict.fromkeys("bc", "off")
    lease = lab.leases.take([Offer(place="ssh:a.lab", name="theirs", sku="orin")], "their-run")
    lab.heard = lambda line: lab.leases.release(lease) if "waiting" in line else None
    ended = lab.run()
    assert boards_of(lab.store.records()) == {"a"}
    assert ended.measured.left == 0
    assert "waiting for board a: another run has it (their-run)" in lab.said


def test_a_board_that_a_run_without_leases_uses_is_waited_for_without_an_alarm(lab):
    lab.broken = {**dict.fromkeys("bc", "off"), "a": BoardBusy("a.lab is in use by process 7")}
    lab.heard = lambda line: lab.broken.pop("a") if "waiting" in line else None
    ended = lab.run()
    assert set(ended.measured.alarms) == {"b", "c"}
    assert "waiting for board a: a.lab is in use by process 7" in lab.said
    assert boards_of(lab.store.records()) == {"a"}


def test_an_error_of_the_store_ends_the_run_and_is_raised(lab, monkeypatch):
    def full(self, record, lease=None, note=None):
        raise Unavailable("disk full")

    monkeypatch.setattr(Store, "add", full)
    with pytest.raises(Unavailable, match="disk full"):
        lab.run()
    assert lab.store.runs()[0].status == "interrupted"


def test_ctrl_c_ends_every_board_and_frees_it(lab, monkeypatch):
    def press(board, cell):
        raise KeyboardInterrupt

    lab.cell = press
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert lab.store.runs()[0].status == "interrupted"
    assert not any(one.owner for one in lab.leases.boards())


def test_a_host_whose_clock_is_off_is_refused(lab, monkeypatch):
    monkeypatch.setattr(fleet_run.time, "time", lambda: datetime.now(UTC).timestamp() - 3600)
    with pytest.raises(Unavailable, match=r"the clock here is -3600 s off that of .*: .*set-ntp true"):
        lab.run()
    assert lab.store.runs() == []
