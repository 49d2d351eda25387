"""Places of labgrid: taken beside a lease, waited for, released in every ending, and never those of others."""

from __future__ import annotations

import os
import threading

import pytest
from fake_fleet import FLEET, Lab, plan_fleet
from fake_labgrid import install

from bench.config.fleet import Board, LabPlace
from bench.config.target import load_target
from bench.errors import BoardBusy, BoardLost, Unavailable
from bench.line.ahead import interrupt
from bench.line.fleet.places import Places

COORDINATOR = "lab.example:20408"
ME = "laptop/alice"
NO_DRIVER = "labgrid-client: Error: target has no compatible resource available"


def make_board(name="a", place="orin-1", coordinator=COORDINATOR):
    lab = LabPlace(coordinator=coordinator, name=place) if place else None
    return Board(name=name, sku="orin", tags=(), place=f"ssh:{name}", target=load_target("jetson"), lab=lab)


@pytest.fixture
def labgrid(tmp_path, monkeypatch):
    made = install(tmp_path / "labgrid", "orin-1", "orin-2")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LG_HOSTNAME", "laptop")
    monkeypatch.setenv("LG_USERNAME", "alice")
    return made


@pytest.fixture
def said():
    return []


def test_a_place_is_this_users_while_its_board_is_used_and_free_after(labgrid, said):
    with Places([make_board()], said.append) as places, places.holding(make_board()) as refused:
        assert refused is None
        assert labgrid.holder("orin-1") == ME
    assert labgrid.holder("orin-1") == ""
    assert labgrid.calls() == ["orin-1 acquire", f"orin-1 release-from {ME}"]
    assert said == []


@pytest.mark.parametrize("holder", ["desk/zoe", "desk/alice"])
def test_a_place_that_another_has_is_busy_in_labgrids_words_and_stays_theirs(labgrid, said, holder):
    labgrid.give("orin-1", holder)
    with Places([make_board()], said.append) as places, places.holding(make_board()) as refused:
        assert isinstance(refused, BoardBusy)
        assert f"orin-1 is already acquired by {holder}" in str(refused)
    assert labgrid.holder("orin-1") == holder
    assert labgrid.calls() == ["orin-1 acquire"]


def test_a_place_that_this_user_took_otherwise_is_not_released_and_the_command_for_it_is_named(labgrid, said):
    labgrid.give("orin-1", ME)
    with Places([make_board()], said.append) as places, places.holding(make_board()) as refused:
        assert isinstance(refused, BoardBusy)
        assert str(refused).endswith(f"`labgrid-client -x {COORDINATOR} -p orin-1 release`")
    assert labgrid.holder("orin-1") == ME


def test_a_place_that_a_killed_run_of_this_user_left_is_taken_over_and_released(labgrid, said):
    labgrid.give("orin-1", ME)
    with Places([make_board()], said.append) as places, places.holding(make_board(), left=True) as refused:
        assert refused is None
        assert said == ["labgrid's place orin-1 was left by a run that was killed: it is taken over"]
    assert labgrid.holder("orin-1") == ""
    labgrid.give("orin-1", "desk/zoe")
    with Places([make_board()], said.append) as places, places.holding(make_board(), left=True) as refused:
        assert isinstance(refused, BoardBusy)
    assert labgrid.holder("orin-1") == "desk/zoe"


def test_a_place_that_was_given_to_another_meanwhile_is_not_released(labgrid, said):
    with Places([make_board()], said.append) as places, places.holding(make_board()):
        labgrid.give("orin-1", "desk/alice")  # an administrator kicked this one
    assert labgrid.holder("orin-1") == "desk/alice"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("pi", "place pattern pi matches nothing"),
        ("in-1", "has no place in-1; labgrid took orin-1: write its whole name"),
    ],
)
def test_a_place_that_is_not_there_is_a_trouble_and_not_waited_for(labgrid, said, place, words):
    board = make_board(place=place)
    with Places([board], said.append) as places, places.holding(board) as refused:
        assert not isinstance(refused, BoardBusy)
        assert words in str(refused)
        assert labgrid.holder("orin-1") == ""


def test_a_release_that_labgrid_does_not_answer_is_said_and_tried_again(labgrid, said):
    with Places([make_board()], said.append) as places:
        with places.holding(make_board()):
            labgrid.switch("down", on=True)
        assert "did not release place orin-1: Server error: Error: Could not connect to coordinator" in said[0]
        with places.holding(make_board()) as refused:
            assert refused is None  # it is this run's still
        labgrid.switch("down", on=False)
    assert labgrid.holder("orin-1") == ""


def test_power_is_cycled_and_a_place_that_cannot_is_a_note(labgrid, said):
    with Places([make_board()], said.append) as places, places.holding(make_board()):
        places.cycle(make_board())
        labgrid.switch("power", on=True)
        places.cycle(make_board())
    assert said == [
        f"board a: labgrid did not cycle the power of place orin-1: {NO_DRIVER}",
        "board a: labgrid has cycled the power of place orin-1",
    ]


def test_a_program_that_hangs_is_given_up(labgrid, said):
    (labgrid.folder / "labgrid-client").write_text("#!/bin/sh\nexec sleep 60\n")
    with Places([make_board()], said.append, answer_s=0.2) as places, places.holding(make_board()) as refused:
        assert f"no answer in 0.2 s to `labgrid-client -x {COORDINATOR} -p orin-1 acquire`" in str(refused)


def test_variables_that_would_take_other_places_do_not_reach_labgrid(labgrid, said, monkeypatch):
    (labgrid.folder / "labgrid-client").write_text(f"#!/bin/sh\nenv > {labgrid.folder}/seen\n")
    monkeypatch.setenv("LG_ENV", "other.yaml")
    monkeypatch.setenv("LG_PROXY", "jump")
    with Places([make_board()], said.append) as places, places.holding(make_board()):
        seen = (labgrid.folder / "seen").read_text().splitlines()
    assert "LG_PROXY=jump" in seen
    assert not any(line.startswith("LG_ENV") for line in seen)


def test_without_labgrids_program_the_way_to_get_it_is_named(said, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=rf"labgrid-client is not on PATH, .* {COORDINATOR}: `pipx install labgrid`"):
        Places([make_board()], said.append)
    with Places([make_board(place="")], said.append) as places, places.holding(make_board(place="")) as refused:
        assert refused is None  # a fleet without places needs nothing


def test_an_acquire_that_ctrl_c_meets_is_released(labgrid, said):
    program = labgrid.folder / "labgrid-client"
    lines = program.read_text().splitlines()
    wait = "import time\nPath(__file__).with_name('begun').touch()\nwhile not Path(__file__).with_name('go').exists():"
    program.write_text("\n".join([lines[0], "from pathlib import Path", f"{wait}\n    time.sleep(0.02)", *lines[1:]]))
    ended = threading.Event()

    def use(places):
        try:
            with places.holding(make_board()):
                raise AssertionError("the place is not there yet")
        except KeyboardInterrupt:
            ended.set()

    with Places([make_board()], said.append) as places:
        thread = threading.Thread(target=use, args=(places,))
        thread.start()
        while not (labgrid.folder / "begun").exists():
            ended.wait(0.02)
        interrupt(thread)
        ended.wait(0.6)
        (labgrid.folder / "go").touch()
        thread.join()
    assert ended.is_set()
    assert labgrid.calls() == ["orin-1 acquire", f"orin-1 release-from {ME}"]
    assert labgrid.holder("orin-1") == ""


@pytest.fixture
def lab(labgrid, tmp_path):
    """A run on the boards a, b and c, of which b and c are off, and a and b have places."""
    fleet = FLEET.replace('"a.lab"', '"a.lab"\nplace = "orin-1"').replace('"b.lab"', '"b.lab"\nplace = "orin-2"')
    fleet = f'[labgrid]\ncoordinator = "{COORDINATOR}"\n{fleet}'
    made = Lab(tmp_path, {False: plan_fleet(tmp_path, fleet)})
    made.broken = dict.fromkeys("bc", "off")
    yield made
    made.store.close()


def test_the_own_check_comes_after_the_acquire_and_a_board_with_an_alarm_is_released(lab, labgrid):
    seen, check = {}, lab.check

    def look(target, reach):
        seen[target.host] = [labgrid.holder("orin-1"), labgrid.holder("orin-2")]
        return check(target, reach)

    lab.check = look
    ended = lab.run()
    assert ended.measured.left == 0
    assert ended.measured.alarms["b"] == "off"
    assert (seen["a.lab"][0], seen["b.lab"][1]) == (ME, ME)
    assert [labgrid.holder("orin-1"), labgrid.holder("orin-2")] == ["", ""]


def test_a_run_waits_for_a_place_that_another_has_and_then_measures(lab, labgrid):
    labgrid.give("orin-1", "desk/zoe")
    lab.heard = lambda line: labgrid.give("orin-1", "") if line.startswith("waiting for board a: ") else None
    ended = lab.run()
    assert ended.measured.left == 0
    assert "a" not in ended.measured.alarms
    assert any("orin-1 is already acquired by desk/zoe" in line for line in lab.said)


def test_a_coordinator_that_does_not_answer_takes_its_boards_out(lab, labgrid):
    labgrid.switch("down", on=True)
    lab.broken = {}
    ended = lab.run()
    assert set(ended.measured.alarms) == {"a", "b"}
    assert "Could not connect to coordinator" in ended.measured.alarms["a"]
    assert {one.conditions.device for one in lab.store.records()} == {"c"}


def test_ctrl_c_releases_the_places(lab, labgrid):
    def press(_board, _cell):
        assert labgrid.holder("orin-1") == ME
        raise KeyboardInterrupt

    lab.cell = press
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert labgrid.holder("orin-1") == ""


def test_the_power_of_a_board_that_died_is_cycled_once_before_it_is_checked_again(lab, labgrid):
    labgrid.switch("power", on=True)
    lab.broken, back, died = {"c": "off"}, threading.Event(), []

    def die_once(board, _cell):
        if not died:
            died.append(board)
            lab.broken[board] = "still off"
            raise BoardLost(f"{board} was lost")
        assert board in died or back.wait(60)

    def hear(line):
        if line.endswith("was taken out: still off"):
            lab.broken.pop(died[0])
        if line.endswith(" is back"):
            back.set()

    lab.cell, lab.heard = die_once, hear
    ended = lab.run(recheck_s=0.01)
    assert ended.measured.left == 0
    place = {"a": "orin-1", "b": "orin-2"}[died[0]]
    assert f"board {died[0]}: labgrid has cycled the power of place {place}" in lab.said
    calls = [call for call in labgrid.calls() if call.startswith(place)]
    assert [call.split()[1] for call in calls] == [
        *["acquire", "release-from"],
        *["acquire", "power", "release-from"],
        *["acquire", "release-from"],
    ]
