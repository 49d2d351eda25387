"""A board over SSH, against a real OpenSSH server on loopback: what is sent, what comes back, what is lost."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sshd
from needs import lacking
from waiting import is_alive, wait_until

from bench.config.suite import Measure
from bench.config.target import load_target
from bench.device.job import Cooling
from bench.errors import BoardLost, CellFailed, DiskFull, InvalidInput, Unavailable, Unsupported
from bench.line.measure import Bench, measure_artifact, pair_launch
from bench.reach.open import open_reach
from bench.reach.ssh.reach import Ssh
from bench.types import Artifact, Conditions

pytestmark = pytest.mark.usefixtures("fakes")
BACKEND = '[[backend]]\nname = "ort"\n'


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "fakes"))


@pytest.fixture(scope="module")
def reach(board, tmp_path_factory):
    """One link for all tests that do not break it."""
    path = tmp_path_factory.mktemp("target") / "target.toml"
    path.write_text(board.target() + BACKEND)
    opened = open_reach(load_target(str(path)), "")
    yield opened
    opened.close()


@pytest.fixture
def own_board(tmp_path):
    """One that a test may break."""
    if reason := sshd.missing():
        lacking("sshd", reason)
    with sshd.running(tmp_path / "double") as double:
        yield double


@pytest.fixture
def connect(tmp_path):
    """Opens reaches of a double, and closes them."""
    opened: list[Ssh] = []

    def opening(double: sshd.Double, **changes: str) -> Ssh:
        path = tmp_path / f"target-{len(opened)}.toml"
        path.write_text(double.target(**changes) + BACKEND)
        reach = open_reach(load_target(str(path)), "")
        assert isinstance(reach, Ssh)
        opened.append(reach)
        return reach

    yield opening
    for reach in opened:
        reach.close()


def artifact(folder: Path, name: str = "model.json", **told) -> Artifact:
    path = folder / name
    path.write_text(json.dumps({"gain": 2.0, "busy": 200, **told}))
    return Artifact(path=path, format="json", digest=name)


def bench(reach: Ssh, **changes) -> Bench:
    measure = Measure(launches=1, pairs=2, blocks=10, time_s=0.2, warmup_s=0.1, limit_s=200)
    rig = Bench(reach=reach, session="fake_session:FakeSession", conditions=Conditions(batch=2), measure=measure)
    return replace(rig, **changes)


def test_a_launch_comes_back_whole_and_leaves_no_job_on_the_board(board, connect, tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "x.npz", **{"0": x})
    reach = connect(board)
    found = measure_artifact(bench(reach, feed=tmp_path / "x.npz", evaluate=tmp_path / "x.npz"), artifact(tmp_path))
    assert len(found.launches[0].samples_ns) >= 50
    assert found.version == "fake 1"
    assert [phase.name for phase in found.launches[0].memory] == ["imported", "loaded", "first_run", "steady"]
    np.testing.assert_allclose(found.outputs[0].rows[:, 1], 2 * x[:, 0])
    assert found.facts["machine"]["board"] == f"{board.user}@127.0.0.1:{board.port}"
    assert abs(found.facts["machine"]["clock_offset_s"]) < 30
    reach.close()
    assert list((board.storage / "jobs").iterdir()) == []


def test_a_pair_is_compared_there(reach, tmp_path):
    pair = pair_launch(bench(reach), artifact(tmp_path, "a.json"), artifact(tmp_path, "b.json", busy=400), 1)
    assert pair.first == "b"
    assert len(pair.blocks_ns) == 10
    assert [climate.moment for climate in pair.climate] == ["before timing", "after timing"]
    assert pair.climate[0].celsius == {"cpu-thermal": 48.312}
    assert pair.distrust == ()


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A user's functions with a helper beside them, and some that need what no board has."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "myboardcode.py").write_text(
        "from myhelper import half\n\n\ndef before(raw):\n    return {'x': half(raw['x'])}\n"
    )
    (tmp_path / "myhelper.py").write_text(
        "import numpy as np\n\n\ndef half(x):\n    return np.ascontiguousarray(x / 2)\n"
    )
    (tmp_path / "needy.py").write_text("import no_such_camera\n")


def test_functions_of_the_user_travel_with_what_they_import_and_are_timed_there(functions, reach, tmp_path):
    rig = bench(reach)
    found = measure_artifact(
        replace(rig, measure=replace(rig.measure, preprocess="myboardcode:before")), artifact(tmp_path)
    )
    rounds = found.launches[0].end_to_end
    assert len(rounds.before_ns) == len(rounds.infer_ns) == len(rounds.after_ns) >= 20


def test_a_function_that_needs_what_the_board_lacks_is_one_clear_error(functions, reach, tmp_path):
    rig = bench(reach)
    words = (
        r"needy:before cannot be imported on the device: No module named 'no_such_camera'.*install the package there"
    )
    with pytest.raises(InvalidInput, match=words):
        measure_artifact(replace(rig, measure=replace(rig.measure, preprocess="needy:before")), artifact(tmp_path))


def test_a_pair_cools_down_first_as_a_launch_does(reach, tmp_path):
    rig = bench(reach, cooling=Cooling(limit_s=0.5, ceiling_c=40.0))
    pair = pair_launch(rig, artifact(tmp_path, "a.json"), artifact(tmp_path, "b.json"), 0)
    assert pair.distrust == ("began at 48.3 °C, above the ceiling of 40 °C, after 0.5 s of cooling",)


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        ("unsupported", Unsupported, "this file is unsupported"),
        ("unavailable", Unavailable, r"on .*@127.0.0.1:\d+: this file is unavailable"),
        ("crash", CellFailed, "the runtime broke"),
        ("die", CellFailed, "signal 9"),
    ],
)
def test_an_error_in_the_worker_there_is_the_same_error_here(reach, tmp_path, behave, error, words):
    with pytest.raises(error, match=words):
        measure_artifact(bench(reach), artifact(tmp_path, behave=behave))


def test_names_of_models_are_names_to_the_board_and_nothing_else(board, reach, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = ["a '; touch hurt; ' $(touch hurt) `touch hurt`\n\"quoted\".json", "-rf.json"]
    for name in hostile:
        with pytest.raises(Unsupported, match="this file is unsupported"):
            measure_artifact(bench(reach), artifact(tmp_path, name, behave="unsupported"))
    assert not list(tmp_path.rglob("hurt"))
    assert not list(board.folder.rglob("hurt"))
    assert not (Path.home() / "hurt").exists()


@pytest.mark.parametrize(
    "host",
    ["-oProxyCommand=touch hurt", "a;touch hurt", "$(touch hurt)", "user@host name", "x@y@z", "a\nb", "h:99999", "@h"],
)
def test_a_hostile_host_is_refused_before_anything_connects(tmp_path, monkeypatch, host):
    target = tmp_path / "t.toml"
    target.write_text(f'name = "t"\nreach = "ssh"\n{BACKEND}')
    monkeypatch.setenv("PRESSBENCH_HOST", host)
    with pytest.raises(InvalidInput, match=r"PRESSBENCH_HOST: .* is not user@host"):
        open_reach(load_target(str(target)), "")


def test_a_hostile_python_is_one_word_to_the_board(board, connect, tmp_path):
    with pytest.raises(Unavailable, match="there is no python3; touch"):
        connect(board, python=f"python3; touch {tmp_path}/hurt").describe()
    assert not (tmp_path / "hurt").exists()


def test_an_unknown_host_key_is_refused_with_the_command_that_accepts_it(own_board, connect):
    sshd.know(own_board, "")
    with pytest.raises(Unavailable, match=r"host key is unknown\. `ssh -F .*ssh_config -p \d+ \w+@127.0.0.1 true`"):
        connect(own_board).describe()
    sshd.know(own_board, "other")
    with pytest.raises(Unavailable, match=r"another than the known one.* `ssh-keygen -R '\[127.0.0.1\]:\d+'`"):
        connect(own_board).describe()


def test_a_configuration_that_switches_the_check_off_does_not(own_board, connect):
    own_board.config.write_text(f"Host *\n  IdentityFile {own_board.folder}/user\n  UserKnownHostsFile none\n")
    with pytest.raises(Unavailable, match="host key is unknown"):
        connect(own_board).describe()


def test_a_refused_key_and_a_wrong_user_name_the_user(own_board, connect):
    with pytest.raises(Unavailable, match=r"nobody-here@127.0.0.1:\d+ lets in none of your keys: `ssh-copy-id"):
        connect(own_board, host=f"nobody-here@127.0.0.1:{own_board.port}").describe()
    (own_board.folder / "authorized").write_bytes((own_board.folder / "other.pub").read_bytes())
    with pytest.raises(Unavailable, match=rf"{own_board.user}@127.0.0.1:\d+ lets in none of your keys"):
        connect(own_board).describe()


def test_no_server_there_is_said_at_once(own_board, connect):
    own_board.stop()
    with pytest.raises(Unavailable, match=r"refuses connections: no SSH server runs there"):
        connect(own_board).describe()


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent", "", r"there is no .*absent .*: sudo apt install python3"),
        (
            "old",
            'for last; do :; done\nprintf \'\\036pressbench {"old":"3.8"}\\n\'',
            r"is Python 3\.8, and 3\.10 or newer",
        ),
        ("broken", "echo cannot load >&2; exit 3", r"did not run \(cannot load\): set `python`"),
    ],
)
def test_a_python_that_cannot_be_used_is_named_with_the_remedy(board, connect, tmp_path, name, text, words):
    if text:
        script(tmp_path / name, f"#!/bin/sh\n{text}\n")
    with pytest.raises(Unavailable, match=words):
        connect(board, python=str(tmp_path / name)).describe()


def test_a_python_without_numpy_is_named_with_the_remedy(board, connect, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    with pytest.raises(Unavailable, match=r"has no numpy: on the board, `.*bare/bin/python -m pip install numpy`"):
        connect(board, python=str(tmp_path / "bare" / "bin" / "python")).describe()


def test_the_launcher_says_the_version_of_an_old_python(monkeypatch, capsys):
    from bench.reach.ssh.link import LAUNCHER

    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["-c", "/nowhere", "0" * 64])
    exec(LAUNCHER, {})
    assert capsys.readouterr().out == '\x1epressbench {"old":"3.9"}\n'


def test_a_login_banner_and_talk_of_login_scripts_are_not_events(tmp_path, connect):
    if reason := sshd.missing():
        lacking("sshd", reason)
    banner = tmp_path / "banner"
    banner.write_text("Welcome!\n" * 50)
    talking = script(
        tmp_path / "python", f'#!/bin/sh\necho "Welcome {{}}"; printf "no newline"; exec {sys.executable} "$@"\n'
    )
    with sshd.running(tmp_path / "double", setting=f"Banner {banner}") as double:
        found = measure_artifact(bench(connect(double, python=str(talking))), artifact(tmp_path))
    assert found.version == "fake 1"


def test_a_read_only_folder_and_a_full_disk_are_named(board, reach, connect, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"/file/here cannot be written .*set `folder`"):
        connect(board, folder=f"{tmp_path}/file/here").describe()
    monkeypatch.setattr("bench.reach.ssh.board.SPARE_BYTES", 1 << 60)
    with pytest.raises(Unavailable, match=r"MiB free, \d+ MiB are needed: free space there"):
        measure_artifact(bench(reach), artifact(tmp_path, unheard="of"))


def change_agent(double: sshd.Double, before: str, after: str) -> None:
    """Other source in the agent that lies on the board."""
    (path,) = (double.storage / "agent").glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert sum(before in text for text in texts.values()) == 1
    with zipfile.ZipFile(path.with_suffix(".new"), "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text.replace(before, after))
    path.with_suffix(".new").replace(path)


def test_a_disk_that_fills_up_while_files_arrive_ends_the_run(board, connect, tmp_path, monkeypatch):
    reach = connect(board)
    reach.describe()
    (board.storage / "blobs").rename(board.storage / "kept")
    (board.storage / "blobs").mkdir()
    try:
        change_agent(board, "file.write(chunk)", "raise OSError(28, os.strerror(28))")
        with pytest.raises(DiskFull, match=r"disk full: .*No space left on device; free space there"):
            measure_artifact(bench(reach), artifact(tmp_path))
    finally:
        for path in (board.storage / "agent").glob("*.zip"):
            path.unlink()


def test_a_worker_that_hangs_is_killed_there_with_all_that_it_started(reach, tmp_path):
    pidfile = tmp_path / "pid"
    model = artifact(tmp_path, behave="hang with a child", pidfile=str(pidfile))
    rig = bench(reach, measure=Measure(launches=1, limit_s=4))
    with pytest.raises(CellFailed, match="no end after 4 s"):
        measure_artifact(rig, model)
    assert not is_alive(int(pidfile.read_text()))


def in_background(work):
    """A thread's result or error, by a list."""
    found: list = []

    def run():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_lost_links_lose_and_repeat_no_event(own_board, connect, tmp_path, monkeypatch):
    reach = connect(own_board)
    lines: list = []
    from bench.reach.ssh import reach as module

    read = module.read_events
    monkeypatch.setattr(module, "read_events", lambda done, limit: lines.extend(done.lines) or read(done, limit))
    rig = bench(reach, measure=Measure(launches=1, time_s=4, warmup_s=0.1, width=1e-9, limit_s=60))
    reach.describe()
    thread, found = in_background(lambda: measure_artifact(rig, artifact(tmp_path)))
    cut = 0
    while thread.is_alive() and cut < 4:
        time.sleep(0.7)
        cut += bool(own_board.cut())
    thread.join()
    assert cut >= 2
    assert not isinstance(found[0], BaseException), found[0]
    names = [json.loads(line)["event"] for line in lines]
    once = ("facts", "timed", "loaded", "memory", "outputs", "session", "profile", "end")
    assert [names.count(name) for name in once] == [1] * len(once)
    assert reach._board.link.connections >= 2


def test_a_frozen_link_is_given_up_and_opened_again(own_board, connect, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reach.ssh.link.KEEPALIVE_S", 1)
    monkeypatch.setattr("bench.reach.ssh.link.KEEPALIVES", 1)
    reach = connect(own_board)
    reach.describe()
    frozen = own_board.freeze()
    assert frozen
    found = measure_artifact(bench(reach), artifact(tmp_path))
    assert found.version == "fake 1"
    assert reach._board.link.connections == 2
    for pid in frozen:
        os.kill(pid, signal.SIGKILL)


def test_a_board_that_stays_away_is_lost_and_one_that_comes_back_is_used_again(
    own_board, connect, tmp_path, monkeypatch
):
    monkeypatch.setattr("bench.reach.ssh.link.PATIENCE_S", 1.0)
    reach = connect(own_board)
    pidfile = tmp_path / "pid"
    model = artifact(tmp_path, behave="hang", pidfile=str(pidfile))
    thread, found = in_background(lambda: measure_artifact(bench(reach), model))
    wait_until(lambda: pidfile.exists() and pidfile.read_text())
    own_board.stop()
    thread.join()
    assert isinstance(found[0], BoardLost)
    assert "did not come back within 1 s" in str(found[0])
    assert "--resume" in str(found[0])
    own_board.start()
    assert measure_artifact(bench(reach), artifact(tmp_path)).version == "fake 1"
    assert not is_alive(int(pidfile.read_text()))  # it was ended before the next job began


def test_a_board_that_restarted_in_between_is_said_so(own_board, connect, tmp_path, monkeypatch):
    reach = connect(own_board)
    pidfile = tmp_path / "pid"
    model = artifact(tmp_path, behave="hang", pidfile=str(pidfile))
    thread, found = in_background(lambda: measure_artifact(bench(reach), model))
    wait_until(lambda: pidfile.exists() and pidfile.read_text())
    change_agent(own_board, 'read(Path("/proc/sys/kernel/random/boot_id")).strip()', '"next"')
    own_board.cut()
    thread.join()
    assert isinstance(found[0], BoardLost), found[0]
    assert "restarted while it measured" in str(found[0])
    os.kill(int(pidfile.read_text()), signal.SIGKILL)


def test_one_run_at_a_time_and_a_lock_whose_owner_is_gone_is_broken(board, connect, tmp_path):
    reach = connect(board)
    measure_artifact(bench(reach), artifact(tmp_path))
    other = connect(board)
    other._board._owner = "somebody else"
    with pytest.raises(Unavailable, match=r"is in use by process \d+ of .*one run at a time"):
        measure_artifact(bench(other), artifact(tmp_path))
    with pytest.raises(Unavailable, match="is in use by process"):
        other.clean()
    reach.close()
    assert measure_artifact(bench(other), artifact(tmp_path)).version == "fake 1"


def test_a_model_is_sent_once_and_an_upload_goes_on_where_it_broke_off(own_board, connect, tmp_path, monkeypatch):
    sent: list[int] = []
    from bench.reach.ssh import board as module

    pieces = module._pieces

    async def counting(what, offset):
        async for piece in pieces(what, offset):
            if what.path is not None and what.path.name == "model.json":
                sent.append(len(piece))
                if sum(sent) == 6 << 18:
                    own_board.cut()
            yield piece

    monkeypatch.setattr(module, "_pieces", counting)
    model = artifact(tmp_path, filler="x" * (4 << 20))
    size = model.path.stat().st_size
    reach = connect(own_board)
    assert measure_artifact(bench(reach), model).version == "fake 1"
    assert size <= sum(sent) < size + (3 << 20)
    reach.close()
    before = sum(sent)
    assert measure_artifact(bench(connect(own_board)), model).version == "fake 1"
    assert sum(sent) == before


def test_clean_removes_what_was_sent_and_nothing_else(own_board, connect, tmp_path):
    reach = connect(own_board)
    measure_artifact(bench(reach), artifact(tmp_path))
    (own_board.storage / "mine").write_text("kept")
    assert reach.clean()["left"] == ["mine"]
    assert [path.name for path in own_board.storage.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_killed_host_leaves_no_worker_behind_for_the_next_user(own_board, connect, tmp_path):
    pidfile = tmp_path / "pid"
    model = artifact(tmp_path, behave="hang", pidfile=str(pidfile))
    target = tmp_path / "t.toml"
    target.write_text(own_board.target() + BACKEND)
    program = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\nimport test_ssh\nfrom bench.config.target import load_target\n"
        "from bench.reach.open import open_reach\nfrom bench.line.measure import measure_artifact\n"
        "from bench.types import Artifact\n"
        "measure_artifact(test_ssh.bench(open_reach(load_target(sys.argv[1]), '')), "
        "Artifact(path=Path(sys.argv[2]), format='json', digest='d'))"
    )
    tests = Path(__file__).parent
    paths = [str(tests), str(tests.parent), str(tests.parent / "fakes")]
    host = subprocess.Popen([sys.executable, "-c", program, str(target), str(model.path), *paths])
    wait_until(lambda: pidfile.exists() and pidfile.read_text())
    host.kill()
    host.wait()
    worker = int(pidfile.read_text())
    assert is_alive(worker)
    lock = own_board.storage / "lock"
    wait_until(lambda: json.loads(lock.read_text())["lost"] is not None)
    reach = connect(own_board)
    with pytest.raises(Unavailable, match=r"is in use by .*whose link was lost \d+ s ago"):
        measure_artifact(bench(reach), artifact(tmp_path))
    noted = json.loads(lock.read_text())
    lock.write_text(json.dumps({**noted, "lost": noted["lost"] - 100}))
    assert measure_artifact(bench(reach), artifact(tmp_path)).version == "fake 1"
    assert not is_alive(worker)
