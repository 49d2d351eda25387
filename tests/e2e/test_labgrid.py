"""Places of a real labgrid coordinator on loopback, with a power port that is switched over HTTP.

`PRESSBENCH_LABGRID` names the folder of labgrid's programs: `python -m venv lab && lab/bin/pip install labgrid` makes lab/bin.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fake_fleet import Lab, plan_fleet
from needs import lacking

from bench.config.fleet import load_fleet
from bench.errors import BoardBusy, BoardLost
from bench.line.fleet.places import Places

PROGRAMS = os.environ.get("PRESSBENCH_LABGRID", "")
NAMES = ("labgrid-client", "labgrid-coordinator", "labgrid-exporter")
STARTS_S = 60.0
NO_DRIVER = "labgrid-client: Error: target has no compatible resource available"


@contextmanager
def started(command, folder):
    """A program of labgrid, in a folder where it may keep files."""
    with (folder / f"{Path(command[0]).name}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def power():
    """Address of a switch, and what it was asked to switch to: "0" is off."""
    asked = []

    class Switch(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path.rpartition("/")[2])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Switch)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def client(tmp_path_factory, power):
    """Runs labgrid's client against a coordinator that has the place `orin-1`, with a power port, and the place `bare`."""
    missing = [name for name in NAMES if not shutil.which(name, path=PROGRAMS or os.devnull)]
    if missing:
        lacking("labgrid", "set PRESSBENCH_LABGRID to the folder of labgrid's programs (`pip install labgrid`)")
    folder = tmp_path_factory.mktemp("labgrid")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"

    def ask(*words, **identity):
        command = [str(Path(PROGRAMS) / "labgrid-client"), "-x", coordinator, *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **identity}, check=False)
        return done.stdout + done.stderr

    ask.coordinator = coordinator
    port = f"NetworkPowerPort:\n    model: simplerest\n    host: '{power[0]}/{{index}}/{{value}}'\n    index: 0\n"
    (folder / "exported.yaml").write_text(f"desk:\n  {port}")
    exporter = [str(Path(PROGRAMS) / NAMES[2]), "-c", coordinator, "-n", "lab", "--hostname", "127.0.0.1"]
    with (
        started([str(Path(PROGRAMS) / NAMES[1]), "-l", coordinator], folder),
        wait_for(lambda: "Could not connect" not in ask("places")),
        started([*exporter, "exported.yaml"], folder),
        wait_for(lambda: "lab/desk/NetworkPowerPort" in ask("resources")),
    ):
        for place in ("orin-1", "bare"):
            ask("-p", place, "create")
        ask("-p", "orin-1", "add-match", "lab/desk/NetworkPowerPort")
        yield ask


@contextmanager
def wait_for(found):
    """Goes on when it is so."""
    end = time.monotonic() + STARTS_S
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)
    yield


@pytest.fixture
def fleet(client, monkeypatch):
    """The text of a fleet file: `a` at orin-1, `b` at bare."""
    monkeypatch.setenv("PATH", f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")
    text = f'[labgrid]\ncoordinator = "{client.coordinator}"\n'
    for name, place in (("a", "orin-1"), ("b", "bare")):
        text += f'[boards.{name}]\nsku = "orin"\ntarget = "jetson"\nhost = "{name}.lab"\nplace = "{place}"\n'
    return text


@pytest.fixture
def boards(fleet, tmp_path):
    """Its boards."""
    return read(fleet, tmp_path)


def read(text, folder):
    (folder / "fleet.toml").write_text(text)
    return load_fleet(folder / "fleet.toml").boards


def holder(client, place):
    """As labgrid shows it."""
    (line,) = (line for line in client("-p", place, "show").splitlines() if line.strip().startswith("acquired:"))
    return line.split()[1]


def test_a_real_place_is_acquired_switched_and_released(client, boards, power):
    said = []
    with Places(boards, said.append) as places:
        for board in boards:
            with places.holding(board) as refused:
                assert refused is None
                assert "/" in holder(client, board.lab.name)
                places.cycle(board)
            assert holder(client, board.lab.name) == "None"
    assert power[1][-2:] == ["0", "1"]
    assert said == [
        "board a: labgrid has cycled the power of place orin-1",
        f"board b: labgrid did not cycle the power of place bare: {NO_DRIVER}",
    ]


def test_a_real_place_of_another_is_busy_and_stays_theirs(client, boards):
    client("-p", "bare", "acquire", LG_USERNAME="zoe", LG_HOSTNAME="desk")
    with Places(boards) as places, places.holding(boards[1]) as refused:
        assert isinstance(refused, BoardBusy)
        assert "Place bare is already acquired by desk/zoe" in str(refused)
    assert holder(client, "bare") == "desk/zoe"
    client("-p", "bare", "release", LG_USERNAME="zoe", LG_HOSTNAME="desk")


def test_a_real_place_that_was_given_on_meanwhile_is_left_to_its_holder(client, boards):
    with Places(boards) as places, places.holding(boards[1]):
        client("-p", "bare", "release")
        client("-p", "bare", "acquire", LG_HOSTNAME="desk")
    assert holder(client, "bare").startswith("desk/")
    client("-p", "bare", "release")
    assert holder(client, "bare") == "None"


def test_a_real_coordinator_that_has_another_place_of_such_a_name_gives_none(client, fleet, tmp_path):
    part = read(fleet.replace('"bare"', '"bar"'), tmp_path)[1]
    with Places([part]) as places, places.holding(part) as refused:
        assert "has no place bar; labgrid took bare" in str(refused)
        assert holder(client, "bare") == "None"


def test_a_place_that_another_has_really_reserved_is_busy(client, boards):
    client("-p", "bare", "set-tags", "kind=bare")
    zoe = {"LG_USERNAME": "zoe", "LG_HOSTNAME": "desk"}
    made = client("reserve", "--shell", "kind=bare", **zoe)
    token = made.strip().rpartition("=")[2]
    client("wait", token, **zoe)
    with Places(boards) as places, places.holding(boards[1]) as refused:
        assert isinstance(refused, BoardBusy)
        assert "bare was not reserved for" in str(refused)
    client("cancel-reservation", token, **zoe)


@pytest.fixture
def lab(fleet, tmp_path):
    """A run whose boards pretend, and whose places do not."""
    made = Lab(tmp_path, {False: plan_fleet(tmp_path, fleet)})
    yield made
    made.store.close()


def test_a_whole_run_turns_a_board_that_died_off_and_on_and_frees_every_place(client, lab, power):
    back, other, asked = threading.Event(), threading.Event(), len(power[1])

    def die_once(board, _cell):
        if board == "b":
            other.set()
        assert (other if board == "a" else back).wait(60)
        if board == "a" and not back.is_set():
            raise BoardLost("a was lost")

    lab.cell = die_once
    lab.heard = lambda line: back.set() if line == "board a is back" else None
    ended = lab.run(recheck_s=0.01)
    assert ended.measured.left == 0
    assert dict(ended.measured.alarms) == {"a": "a was lost"}
    assert power[1][asked:] == ["0", "1"]
    assert (holder(client, "orin-1"), holder(client, "bare")) == ("None", "None")


def test_ctrl_c_in_a_run_frees_every_place(client, lab):
    def press(board, _cell):
        assert "/" in holder(client, {"a": "orin-1", "b": "bare"}[board])
        raise KeyboardInterrupt

    lab.cell = press
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert (holder(client, "orin-1"), holder(client, "bare")) == ("None", "None")
