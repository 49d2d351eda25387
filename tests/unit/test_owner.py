"""Whose a run, an entry or a temporary folder is: what a killed process leaves is removed, and nothing else."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from bench import owner
from bench.owner import Owner, lives, parse, remove_abandoned, temporary_folder, this_process

HOLDER = """
import time
from bench.owner import temporary_folder
with temporary_folder("test-owner-") as folder:
    (folder / "big").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this test and its processes."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_temporary_folder_goes_at_the_end_also_after_an_error(temporary: Path):
    with pytest.raises(ValueError, match="no"), temporary_folder("test-owner-") as folder:
        assert folder.parent == temporary
        raise ValueError("no")
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_running_one_stays(temporary: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert remove_abandoned("test-owner-") == ()
        assert (folder / "big").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert folder.exists()
    assert remove_abandoned("other-") == ()
    assert remove_abandoned("test-owner-") == (folder,)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "note",
    [
        None,
        "",
        "not json",
        json.dumps({"host": "elsewhere", "pid": 1, "started": 1.0}),
    ],
)
def test_a_folder_whose_owner_is_not_known_to_be_gone_stays(temporary: Path, note: str | None):
    folder = temporary / "test-owner-1"
    folder.mkdir()
    if note is not None:
        (folder / ".owner").write_text(note)
    assert remove_abandoned("test-owner-") == ()
    assert folder.exists()


def test_a_link_to_an_abandoned_folder_is_not_followed(temporary: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    gone = Owner(host=platform.node(), pid=os.getpid(), started=1.0)
    (elsewhere / ".owner").write_text(gone.text)
    (temporary / "test-owner-1").symlink_to(elsewhere)
    assert remove_abandoned("test-owner-") == ()
    assert (elsewhere / ".owner").exists()


def test_a_process_is_told_from_a_later_one_with_its_id_by_its_start():
    mine = this_process()
    assert lives(mine) is True
    assert lives(Owner(host=mine.host, pid=mine.pid, started=mine.started - 60)) is False
    assert lives(Owner(host="elsewhere", pid=mine.pid, started=mine.started)) is None


def test_a_process_of_another_machine_or_container_of_this_name_cannot_be_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(owner, "this_machine", lambda: "ours")
    monkeypatch.setattr(owner, "this_kernel", lambda: "boot:7")
    gone = Owner(host=platform.node(), pid=os.getpid(), started=1.0)
    assert lives(gone) is False
    assert lives(replace(gone, machine="ours", kernel="boot:7")) is False
    assert lives(replace(gone, machine="theirs", kernel="another boot:7")) is None
    assert lives(replace(gone, machine="ours", kernel="boot:8")) is None, "another container on this machine"
    assert lives(replace(gone, machine="ours", kernel="the boot before:8")) is False, "this machine was restarted"


def test_a_process_that_has_ended_but_was_not_waited_for_is_gone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        import psutil

        owner = Owner(host=platform.node(), pid=process.pid, started=psutil.Process(process.pid).create_time())
        assert lives(owner) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is still in the process table
        assert lives(owner) is False


def test_an_owner_reads_back_as_it_was_written():
    assert parse(this_process().text) == this_process()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "[" * 100_000,
        '{"host": "x"}',
        '{"host": "x", "pid": "1", "started": 1.0}',
        '{"host": "x", "pid": -1, "started": 1.0}',
        '{"host": "x", "pid": 99999999999999999999, "started": 1.0}',
        '{"host": "x", "pid": 1, "started": null}',
    ],
)
def test_text_that_names_no_process_names_no_owner(text: str):
    """Everyone may write to the temporary directory."""
    assert parse(text) is None


def test_a_process_lives_on_where_the_clock_of_its_machine_was_set(temporary: Path):
    """The start of a process since 1970 moves with the clock: the next command removed the files of a run that went on."""
    mine = this_process()
    moved = replace(mine, started=mine.started - 86_400)
    assert lives(moved) is True
    assert lives(replace(mine, ticks=mine.ticks + 1)) is False
    assert parse(moved.text) == moved
    (folder := temporary / "test-owner-1").mkdir()
    (folder / ".owner").write_text(moved.text)
    assert remove_abandoned("test-owner-") == ()
    older = json.loads(mine.text)
    del older["ticks"]
    assert lives(parse(json.dumps(older))) is True
    assert parse(json.dumps({**older, "ticks": "many"})) == replace(mine, ticks=0)
