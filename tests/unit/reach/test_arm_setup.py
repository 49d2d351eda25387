"""`make arm` refuses early and leaves nothing half done; its marks are read or refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.device.events import Counted, End
from bench.device.job import Job
from bench.errors import CellFailed, InvalidInput, Unavailable
from bench.reach import emulated
from bench.reach.arm import fetch, layout, setup
from bench.reach.emulated import Emulated, read_marks

MIB = 2**20


def quiet(text: str) -> None:
    del text


def test_without_the_board_the_target_says_how_to_get_it(tmp_path: Path) -> None:
    """A missing folder is `Unavailable` with the command."""
    with pytest.raises(Unavailable, match="make arm"):
        Emulated("cortex-a53", tmp_path / "nowhere")


@pytest.mark.parametrize("device", ["", "cortex-m4", "max"])
def test_an_unknown_cpu_is_refused_with_the_known_ones(tmp_path: Path, device: str) -> None:
    """Above all `max`, whose int8 results are wrong."""
    with pytest.raises(InvalidInput, match="cortex-a53"):
        Emulated(device, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "does not read"), ('{"recipe": "old"}', "another version"), (None, "is gone")]
)
def test_a_board_that_is_not_whole_is_not_used(tmp_path: Path, text: str | None, said: str) -> None:
    """A damaged, outdated or plundered folder is never half trusted."""
    content = json.dumps({"recipe": layout.recipe_digest()}) if text is None else text
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(Unavailable, match=said):
        layout.open_board(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "reach/arm/debian.txt",
        "reach/arm/setup.py",
        "reach/arm/empty.py",
        "reach/emulated.py",
        "device/events.py",
        "device/worker.py",
    ],
)
def test_a_board_made_by_other_code_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The worker's own instructions were counted with the worker of then: another worker, another board."""
    before = layout.recipe_digest()
    copy = tmp_path / "bench"
    shutil.copytree(Path(layout.__file__).parents[2], copy)
    monkeypatch.setattr(layout, "files", lambda _: copy)
    assert layout.recipe_digest() == before
    with (copy / name).open("a") as file:
        file.write("# another\n")
    assert layout.recipe_digest() != before


def test_each_cpu_is_counted_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the worker executes differs between cores: what is taken off is that core's."""
    overhead = {device: {"instructions": 100 * k, "memory_accesses": k} for k, device in enumerate(layout.CPUS, 1)}
    monkeypatch.setattr(emulated, "open_board", lambda folder: (layout.Board(folder=folder), {"overhead": overhead}))
    found = [Counted(instructions=1000, memory_accesses=10)]
    monkeypatch.setattr(emulated, "launch", lambda *_: ((End(),), found))
    job = Job(task="count", session="", subjects=())
    for k, device in enumerate(layout.CPUS, 1):
        ended = Emulated(device, tmp_path).run(job, tmp_path, 1.0)
        assert ended.counts == (Counted(instructions=1000 - 100 * k, memory_accesses=10 - k),)


@pytest.mark.parametrize(
    ("stage", "said"),
    [("fetch_debian", "no network"), ("fetch_wheels", "digest"), ("compile_plugin", "no compiler")],
)
def test_a_setup_that_breaks_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, said: str
) -> None:
    """Whichever step fails, the parent folder is as it was and the reason is told."""

    def refuse(*_: object) -> None:
        raise Unavailable(said)

    def pretend(folder: Path) -> dict[str, str]:
        folder.mkdir(parents=True)
        (folder / "part").write_text("half")
        return {}

    monkeypatch.setattr(fetch, "check_host", lambda *_: None)
    monkeypatch.setattr(fetch, "fetch_debian", pretend)
    monkeypatch.setattr(fetch, "fetch_wheels", pretend)
    monkeypatch.setattr(fetch, "unpack", lambda _, root: (root / "usr" / "bin").mkdir(parents=True))
    monkeypatch.setattr(setup, "_keep_one_emulator", lambda _: None)
    monkeypatch.setattr(fetch, stage, refuse)
    with pytest.raises(Unavailable, match=said):
        setup.make_board(tmp_path / "arm", quiet)
    assert list(tmp_path.iterdir()) == []


def test_too_little_disk_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both figures are in the message."""
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * MIB))
    monkeypatch.setattr(fetch.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(fetch, "KEYRING", tmp_path)
    with pytest.raises(Unavailable, match=r"5 MiB free, 700 MiB"):
        fetch.check_host("x86_64", tmp_path / "a" / "b", 700 * MIB)


def test_a_host_without_tools_or_of_another_kind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ARM host needs no emulator; a host without apt cannot make one."""
    with pytest.raises(Unavailable, match="target cpu"):
        fetch.check_host("aarch64", tmp_path, MIB)
    monkeypatch.setattr(fetch.shutil, "which", lambda _: None)
    with pytest.raises(Unavailable, match="apt-get"):
        fetch.check_host("x86_64", tmp_path, MIB)


def test_what_apt_could_not_fetch_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt-get update ends with 0 when it reached nothing; its warning counts."""
    said = "Ign:1 x\nW: Failed to fetch http://deb.debian.org/debian  Could not resolve host\n"
    done = subprocess.CompletedProcess(args=[], returncode=0, stdout=said)
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(Unavailable, match="Could not resolve"):
        fetch.fetch_debian(tmp_path / "debs")


def test_a_package_with_another_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .deb of a known version whose digest is not the known one stops the setup."""
    wanted = [line.split() for line in fetch._lines("debian.txt")]

    def pretend(command: list[str], folder: Path, what: str, **_: str) -> None:
        if "download" in command:
            for package, version, _digest in wanted:
                name, _, architecture = package.partition(":")
                (folder / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb").write_bytes(b"evil")

    monkeypatch.setattr(fetch, "_run", pretend)
    with pytest.raises(Unavailable, match="nothing of it is used"):
        fetch.fetch_debian(tmp_path / "debs")


def test_every_wheel_has_a_digest() -> None:
    """Pip is told to insist, and finds one for each."""
    text = fetch.files("bench.reach.arm").joinpath("wheels.txt").read_text()
    assert text.count("==") == text.count("--hash=sha256:") == 3


def test_a_known_host_has_every_field_the_runtimes_read() -> None:
    """Without the features line the runtimes crash at import; each core tells its own part number."""
    parts = {layout.cpuinfo(device).partition("CPU part")[2][:10] for device in layout.CPUS}
    assert len(parts) == len(layout.CPUS)
    assert all("asimd" in layout.cpuinfo(device) for device in layout.CPUS)
    assert "asimddp" in layout.cpuinfo("cortex-a76")
    assert "asimddp" not in layout.cpuinfo("cortex-a53")


MARKS = [(0, 100, 10), (1, 400, 60), (2, 450, 70), (3, 749, 119)]


def write(path: Path, marks: list[tuple[int, int, int]]) -> Path:
    lines = [json.dumps({"mark": k, "instructions": i, "memory_accesses": m}) for k, i, m in marks]
    path.write_text("\n".join(lines))
    return path


def test_counts_are_differences_between_marks(tmp_path: Path) -> None:
    """Of mark 2k + 1 and mark 2k, and of nothing else."""
    found = read_marks(write(tmp_path / "marks", MARKS), 2)
    assert [(count.instructions, count.memory_accesses) for count in found] == [(300, 50), (299, 49)]


@pytest.mark.parametrize("marks", [MARKS[:3], MARKS[::-1], MARKS + MARKS, []])
def test_missing_or_shuffled_marks_are_a_failed_cell(tmp_path: Path, marks: list[tuple[int, int, int]]) -> None:
    """No count is made up from marks that do not pair."""
    with pytest.raises(CellFailed, match="marks"):
        read_marks(write(tmp_path / "marks", marks), 2)


@pytest.mark.parametrize("text", [None, "{", '{"mark": 0}\n{"mark": 1}'])
def test_unreadable_marks_are_a_failed_cell(tmp_path: Path, text: str | None) -> None:
    """A plugin that wrote nothing or nonsense is told."""
    if text is not None:
        (tmp_path / "marks").write_text(text)
    with pytest.raises(CellFailed, match="nothing readable"):
        read_marks(tmp_path / "marks", 1)
