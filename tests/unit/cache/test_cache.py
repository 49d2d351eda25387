"""The cache: entries whole or not at all, made once, checked when read, and one error when the disk refuses."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bench.cache import WAITING, Make, check_writable, find_or_make, forget, key, read, sha256
from bench.errors import DiskFull, Unavailable
from bench.marks import locked
from bench.types import Json

MAKER = """
import sys, time
from pathlib import Path
from bench.cache import find_or_make

def make(folder):
    (folder / "a").write_text(sys.argv[2])
    print("making", flush=True)
    time.sleep(float(sys.argv[3]))
    return {"who": sys.argv[2]}

entry = find_or_make(Path(sys.argv[1]), "compiled", "it", make, lambda what, _share: print(what, flush=True))
print(entry.facts["who"], flush=True)
"""


def writing(content: str, **facts: Json) -> Make:
    def make(folder: Path) -> Mapping[str, Json]:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text(content)
        return facts

    return make


def never(_folder: Path) -> Mapping[str, Json]:
    pytest.fail("made again")


def visible(cache: Path, kind: str = "compiled") -> list[str]:
    return sorted(item.name for item in (cache / kind).iterdir())


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []

    def run(cache: Path, who: str, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MAKER, str(cache), who, str(seconds)]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_an_entry_is_made_once_and_read_back_equal(tmp_path: Path):
    made = find_or_make(tmp_path, "compiled", "it", writing("x", shape=(1, 2)))
    assert made.digests == {"deep/a": sha256(made.folder / "deep" / "a")}
    assert made.facts == {"shape": [1, 2]}
    assert find_or_make(tmp_path, "compiled", "it", never) == made
    assert read(tmp_path, "compiled", "it") == made
    assert visible(tmp_path) == ["it"]


def test_what_is_not_there_reads_as_none_and_leaves_no_trace(tmp_path: Path):
    assert read(tmp_path / "cache", "compiled", "it") is None
    assert not (tmp_path / "cache").exists()


def test_an_entry_that_is_forgotten_is_made_by_the_next_who_asks(tmp_path: Path):
    find_or_make(tmp_path, "tables", "it", writing("x", said="busy"))
    forget(tmp_path, "tables", "it")
    forget(tmp_path, "tables", "another")
    assert read(tmp_path, "tables", "it") is None
    assert find_or_make(tmp_path, "tables", "it", writing("x", said="idle")).facts == {"said": "idle"}


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "facts", "no sidecar", "sidecar of another kind"])
def test_a_damaged_entry_reads_as_none_and_is_made_again(tmp_path: Path, damage: str):
    folder = find_or_make(tmp_path, "compiled", "it", writing("good", said="so")).folder
    file, sidecar = folder / "deep" / "a", folder / "entry.json"
    if damage == "flip":
        file.write_text("gooe")
    elif damage == "cut":
        file.write_text("go")
    elif damage == "gone":
        file.unlink()
    elif damage == "facts":
        sidecar.write_text(sidecar.read_text().replace("so", "no"))
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text("[]")
    assert read(tmp_path, "compiled", "it") is None
    assert find_or_make(tmp_path, "compiled", "it", writing("good", said="so")).facts == {"said": "so"}
    assert file.read_text() == "good"
    assert visible(tmp_path) == ["it"]


def test_reading_an_entry_notes_when_it_was_used(tmp_path: Path):
    sidecar = find_or_make(tmp_path, "compiled", "it", writing("x")).folder / "entry.json"
    os.utime(sidecar, (1000.0, 1000.0))
    read(tmp_path, "compiled", "it")
    assert time.time() - sidecar.stat().st_mtime < 60


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), OSError(errno.ENOENT, "gone", "/elsewhere")])
def test_a_make_that_fails_leaves_nothing_and_its_error_passes(tmp_path: Path, error: BaseException):
    def make(folder: Path) -> Mapping[str, Json]:
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(type(error)) as raised:
        find_or_make(tmp_path, "compiled", "it", make)
    assert raised.value is error
    assert visible(tmp_path) == []


def test_two_processes_that_want_one_entry_make_it_once(tmp_path: Path, start):
    first = start(tmp_path, "first", 1.5)
    assert said(first) == "making"
    second = start(tmp_path, "second", 0)
    assert said(second) == WAITING
    assert said(second) == "first"
    assert said(first) == "first"
    assert visible(tmp_path) == ["it"]


def test_when_the_maker_is_killed_the_one_who_waits_makes_it(tmp_path: Path, start):
    first = start(tmp_path, "first", 600)
    assert said(first) == "making"
    second = start(tmp_path, "second", 0)
    assert said(second) == WAITING
    first.send_signal(signal.SIGKILL)
    assert said(second) == "making"
    assert said(second) == "second"
    assert visible(tmp_path) == ["it"]
    assert (tmp_path / "compiled" / "it" / "a").read_text() == "second"


def test_a_lock_can_be_refused_instead_of_waited_for(tmp_path: Path):
    file = tmp_path / "lock"
    with locked(file), pytest.raises(BlockingIOError), locked(file, wait=False):
        pytest.fail("held twice")
    with locked(file, shared=True), locked(file, shared=True, wait=False):
        pass


def blocked(place: Path) -> None:
    place.write_text("a file")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_caches_place_is_one_error(tmp_path: Path, below: str):
    blocked(tmp_path / "file")
    cache = tmp_path / "file" / below
    message = rf"^cannot write the cache at {cache}: (Not a directory|File exists); set PRESSBENCH_CACHE to a folder"
    with pytest.raises(Unavailable, match=message):
        check_writable(cache)
    with pytest.raises(Unavailable, match=message.replace("File exists", "Not a directory")):
        find_or_make(cache, "compiled", "it", never)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="/proc stands for a folder even root cannot write to")
@pytest.mark.parametrize("cache", ["/proc/cache", "/proc/some/deep/cache"])
def test_a_folder_that_cannot_be_created_is_one_error(cache: str):
    with pytest.raises(Unavailable, match=rf"cannot write the cache at {cache}: No such file or directory; set PRESS"):
        check_writable(Path(cache))
    with pytest.raises(Unavailable, match=rf"cannot write the cache at {cache}: No such file"):
        find_or_make(Path(cache), "compiled", "it", never)


def test_a_folder_without_permission_is_one_error(tmp_path: Path):
    """As root, who may write everywhere, the check runs as a user without rights."""
    tmp_path.chmod(0o500)
    code = "import os, sys; from pathlib import Path; from bench.cache import check_writable\n"
    code += "os.getuid() or os.setuid(65534)\ncheck_writable(Path(sys.argv[1]) / 'cache')"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert re.search(rf"Unavailable: cannot write the cache at {tmp_path}/cache: Permission denied; set", done.stderr)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not done or done.returncode:
        pytest.skip("this user cannot mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_found_before_anything_is_made(tiny_disk: Path):
    check_writable(tiny_disk)
    (tiny_disk / "big").write_bytes(bytes(250 * 1024))
    with pytest.raises(Unavailable, match=rf"cannot write the cache at {tiny_disk}: No space left on device"):
        check_writable(tiny_disk)


def test_a_disk_that_fills_up_ends_with_disk_full_and_leaves_nothing(tiny_disk: Path):
    def make(folder: Path) -> Mapping[str, Json]:
        (folder / "a").write_bytes(bytes(300 * 1024))
        return {}

    with pytest.raises(DiskFull, match=rf"disk full: the cache at {tiny_disk} \(PRESSBENCH_CACHE\)"):
        find_or_make(tiny_disk, "compiled", "it", make)
    assert visible(tiny_disk) == []


def test_a_library_that_reports_a_full_disk_in_words_ends_with_disk_full(tmp_path: Path):
    def make(_folder: Path) -> Mapping[str, Json]:
        raise RuntimeError("write failed: No space left on device")

    with pytest.raises(DiskFull):
        find_or_make(tmp_path, "compiled", "it", make)


def test_a_key_depends_on_every_part_and_not_on_their_order():
    assert key(a=1, b=2) == key(b=2, a=1)
    assert len({key(a=1), key(a=2), key(b=1), key()}) == 4


def test_a_limit_on_the_size_of_files_is_one_error(tmp_path: Path):
    code = "import resource, sys; from pathlib import Path; from bench.cache import check_writable\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\ncheck_writable(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert f"Unavailable: cannot write the cache at {tmp_path}: File too large; set PRESSBENCH_CACHE" in done.stderr
