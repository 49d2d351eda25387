"""Upkeep of the cache: the least recently used goes first, and never what a running process uses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from bench.cache import Kind, find_or_make, read
from bench.cli import main
from bench.marks import IN_USE, locked
from bench.upkeep import Pruned, prune, survey

NOW = 1_000_000_000.0
DAY = 86_400.0
USER = """
import sys, time
from pathlib import Path
from bench.cache import find_or_make, read

def make(folder):
    (folder / "half").write_text("x")
    print("making", flush=True)
    time.sleep(600)

cache, what = Path(sys.argv[1]), sys.argv[2]
if what == "use":
    print(read(cache, "compiled", "it").facts, flush=True)
    time.sleep(600)
find_or_make(cache, "compiled", "new", make)
"""
RACER = """
import os, random, sys
from pathlib import Path
from bench.cache import find_or_make

def make(folder):
    (folder / "a").write_bytes(os.urandom(100))
    return {}

seen = {}
for _ in range(300):
    name = f"entry{random.randrange(6)}"
    content = (find_or_make(Path(sys.argv[1]), "compiled", name, make).folder / "a").read_bytes()
    assert seen.setdefault(name, content) == content, name
"""


def add(cache: Path, name: str, *, size: int = 1000, days: float = 0.0, kind: Kind = "compiled") -> Path:
    """An entry last used `days` before NOW, that no process has marked."""

    def make(folder: Path) -> dict[str, int]:
        (folder / "data").write_bytes(bytes(size))
        return {}

    folder = find_or_make(cache, kind, name, make).folder
    os.utime(folder / "entry.json", (NOW - days * DAY, NOW - days * DAY))
    for marks in (cache / IN_USE).iterdir():
        marks.unlink()
    return folder


def pruned(cache: Path, *, days: float | None = None, size: int | None = None, dry_run: bool = False) -> Pruned:
    older = None if days is None else days * DAY
    return prune(cache, older_than_s=older, max_bytes=size, dry_run=dry_run, now=NOW)


def names(cache: Path) -> set[str]:
    return {item.name for item in survey(cache)}


@pytest.fixture
def start() -> Iterator[Callable[[Path, str], subprocess.Popen[str]]]:
    """A process that uses the entry `it`, or makes the entry `new`, and goes on for ever; it has begun."""
    begun: list[subprocess.Popen[str]] = []

    def run(cache: Path, what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", USER, str(cache), what]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert begun[-1].stdout is not None
        assert begun[-1].stdout.readline()
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_what_was_not_used_for_long_is_removed_and_the_rest_stays(tmp_path: Path):
    old, new = add(tmp_path, "old", days=31), add(tmp_path, "new", days=29)
    done = pruned(tmp_path, days=30)
    assert [item.name for item in done.removed] == ["old"]
    assert not old.exists()
    assert read(tmp_path, "compiled", new.name) is not None
    assert [item.name for item in done.left] == ["new"]
    assert done.left[0].size > 1000


def test_the_least_recently_used_go_first_until_the_rest_is_small_enough(tmp_path: Path):
    for name, days in (("b", 2), ("d", 4), ("a", 1), ("c", 3)):
        add(tmp_path, name, size=10_000, days=days, kind="trained" if name in "ad" else "compiled")
    done = pruned(tmp_path, size=25_000)
    assert [item.name for item in done.removed] == ["d", "c"]
    assert names(tmp_path) == {"a", "b"}
    assert pruned(tmp_path, size=25_000).removed == ()


def test_reading_an_entry_saves_it(tmp_path: Path):
    add(tmp_path, "it", days=40)
    assert read(tmp_path, "compiled", "it") is not None
    for marks in (tmp_path / IN_USE).iterdir():
        marks.unlink()
    assert prune(tmp_path, older_than_s=30 * DAY, max_bytes=None, dry_run=False, now=time.time()).removed == ()


def test_a_dry_run_names_the_same_and_removes_nothing(tmp_path: Path):
    add(tmp_path, "old", days=31)
    (tmp_path / "compiled" / ".part-half").mkdir()
    before = sorted(tmp_path.rglob("*"))
    dry = pruned(tmp_path, days=30, dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert pruned(tmp_path, days=30) == dry
    assert names(tmp_path) == set()


def test_an_entry_that_a_running_process_uses_stays_until_that_process_is_killed(tmp_path: Path, start):
    add(tmp_path, "it", days=40)
    add(tmp_path, "other", days=40)
    user = start(tmp_path, "use")
    os.utime(tmp_path / "compiled" / "it" / "entry.json", (NOW - 40 * DAY, NOW - 40 * DAY))
    done = pruned(tmp_path, days=30, size=0)
    assert [item.name for item in done.removed] == ["other"]
    assert [item.name for item in done.spared] == ["it"]
    assert read(tmp_path, "compiled", "it") is not None
    kill(user)
    for marks in (tmp_path / IN_USE).glob(f"{os.getpid()}-*"):
        marks.unlink()
    assert [item.name for item in pruned(tmp_path, size=0).removed] == ["it"]
    assert names(tmp_path) == set()


def test_what_this_process_uses_stays(tmp_path: Path):
    find_or_make(tmp_path, "compiled", "it", lambda _folder: {})
    assert pruned(tmp_path, size=0).removed == ()


def test_the_half_made_entry_of_a_running_process_stays_and_that_of_a_killed_one_goes(tmp_path: Path, start):
    maker = start(tmp_path, "make")
    part = tmp_path / "compiled" / ".part-new"
    assert pruned(tmp_path).leftovers == ()
    assert (part / "half").exists()
    kill(maker)
    assert set(pruned(tmp_path).leftovers) == {part, part.with_name(".lock-new")}
    assert list((tmp_path / "compiled").iterdir()) == []


def test_a_prune_that_was_killed_is_finished_by_the_next(tmp_path: Path):
    gone = add(tmp_path, "it").rename(tmp_path / "compiled" / ".gone-0123")
    assert names(tmp_path) == set()
    assert pruned(tmp_path).leftovers == (gone,)
    assert not gone.exists()


def test_no_process_begins_to_use_an_entry_while_a_prune_chooses(tmp_path: Path):
    """The mark waits for the guard; here the guard is held as `prune` holds it."""
    add(tmp_path, "it")
    user = Thread(target=read, args=(tmp_path, "compiled", "it"))
    with locked(tmp_path / ".lock"):
        user.start()
        user.join(0.3)
        assert user.is_alive()
        assert list((tmp_path / IN_USE).iterdir()) == []
    user.join()
    assert len(list((tmp_path / IN_USE).iterdir())) == 1


def test_entries_do_not_change_under_processes_that_use_them_while_others_prune(tmp_path: Path):
    """Two processes ask for six entries over and over; this one removes all that is not in use, again and again."""
    begun = [subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(2)]
    pruned_entries = 0
    while any(process.poll() is None for process in begun):
        pruned_entries += len(pruned(tmp_path, size=0).removed)
        time.sleep(0.01)
    assert [process.communicate()[1] for process in begun] == [b"", b""]
    assert pruned_entries + len(pruned(tmp_path, size=0).removed) >= 6
    assert names(tmp_path) == set()
    assert list((tmp_path / "compiled").iterdir()) == []


def test_marks_of_ended_processes_are_removed_when_another_begins(tmp_path: Path, start):
    add(tmp_path, "it")
    kill(start(tmp_path, "use"))
    assert len(list((tmp_path / IN_USE).iterdir())) == 1
    user = start(tmp_path, "use")
    assert [file.name.partition("-")[0] for file in (tmp_path / IN_USE).iterdir()] == [str(user.pid)]


@pytest.mark.parametrize(("hours", "spared"), [(23, 1), (25, 0)])
def test_marks_of_another_machine_hold_for_a_day(tmp_path: Path, hours: float, spared: int):
    """A cache on a shared disk: that machine's processes cannot be seen from here."""
    add(tmp_path, "it")
    marks = tmp_path / IN_USE / "1-1.00"
    marks.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 1.0}) + "\ncompiled/it\n")
    os.utime(marks, (time.time() - hours * 3600,) * 2)
    assert len(pruned(tmp_path, size=0).spared) == spared


def test_what_the_cache_did_not_write_is_shown_and_never_removed(tmp_path: Path):
    for name in ("arm/wheels/numpy.py", "mine/notes.txt", "models/mine.safetensors", "compiled/folder/file", "file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * 10)
    assert pruned(tmp_path, days=0, size=0).removed == ()
    found = {(item.kind, item.name): item.size for item in survey(tmp_path)}
    others = ("mine", "models/mine.safetensors", "compiled/folder", "file")
    assert found == {("arm", "arm"): 10} | {("other", name): 10 for name in others}


def test_an_engine_and_its_facts_go_together(tmp_path: Path):
    folder = tmp_path / "tensorrt"
    folder.mkdir()
    for name in (f"{'a' * 32}.engine", f"{'a' * 32}.json", "gpu-sm90-rtx-1.7.timings", "notes.txt"):
        (folder / name).write_text("x")
        os.utime(folder / name, (NOW - 40 * DAY,) * 2)
    (folder / ".half.engine.4194305").write_text("x")  # above Linux's largest process id
    assert [(item.kind, item.size) for item in survey(tmp_path)] == [("other", 1), ("tensorrt", 2), ("tensorrt", 1)]
    assert len(pruned(tmp_path, days=30).leftovers) == 1
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_cache_that_is_not_there_is_empty_and_is_not_created(tmp_path: Path):
    assert survey(tmp_path / "none") == ()
    assert pruned(tmp_path / "none", size=0) == Pruned(removed=(), spared=(), leftovers=(), left=())
    assert not (tmp_path / "none").exists()


@pytest.fixture
def command(tmp_path: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs `pressbench cache` on `tmp_path`: exit code, output, messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path))
        with pytest.raises(SystemExit) as ended:
            main(["cache", *arguments])
        return (int(str(ended.value.code)), *capsys.readouterr())

    return run


def test_the_command_shows_size_and_use_by_kind(tmp_path: Path, command):
    add(tmp_path, "a", size=2_000_000, days=2)
    add(tmp_path, "b", size=1000, days=1)
    add(tmp_path, "c", kind="trained")
    code, text, _ = command()
    assert code == 0
    row = next(line for line in text.splitlines() if line.strip().startswith("compiled"))
    assert row.split()[:9] == ["compiled", "2", "2.0", "MB", "2001-09-07", "01:46", "2001-09-08", "01:46", "0"]
    shown = json.loads(command("--json")[1])
    assert {kind["kind"]: kind["entries"] for kind in shown["kinds"]} == {"trained": 1, "compiled": 2}
    assert shown["bytes"] == sum(kind["bytes"] for kind in shown["kinds"])
    assert shown["kinds"][1]["oldest_use"] == "2001-09-07T01:46:40+00:00"


def test_the_command_prunes_and_says_what(tmp_path: Path, command):
    add(tmp_path, "a", days=1)
    dry = command("prune", "--older-than", "1d", "--dry-run")[1]
    assert re.fullmatch(r"would remove 1 of 1 entries, 1\.\d KB; 0 bytes stay\n", dry)
    answer = json.loads(command("prune", "--older-than", "1d", "--json")[1])
    assert [item["name"] for item in answer["removed"]] == ["a"]
    assert answer["freed_bytes"] > 1000
    assert answer["left_bytes"] == 0
    assert command()[1] == f"{tmp_path}: 0 bytes, nothing is kept\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune", "--older-than", "30"), "--older-than '30': a number and one of h, d, w, as 30d or 12h"),
        (("prune", "--older-than", "-1d"), "--older-than '-1d'"),
        (("prune", "--max-size", "5XB"), "--max-size '5XB': a number and one of KB, MB, GB, TB, as 5GB or 500MB"),
        (("show", "--max-size", "5GB"), "belong to `pressbench cache prune`"),
    ],
)
def test_what_does_not_read_names_the_option_and_what_is_allowed(arguments, message: str, command):
    code, _, said = command(*arguments)
    assert code == 2
    assert message in said


def test_sizes_are_read_in_any_case_and_in_parts(tmp_path: Path, command):
    add(tmp_path, "a", size=3000)
    assert json.loads(command("prune", "--max-size", "4.0kb", "--json")[1])["removed"] == []
    assert len(json.loads(command("prune", "--max-size", "2.9 KB", "--json")[1])["removed"]) == 1
