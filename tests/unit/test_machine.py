"""Facts about the host: caches and CPU from the kernel, and the revision of pressbench's own source."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import bench
from bench.machine import machine_facts, revision

X86 = "processor\t: 0\nmodel name\t: AMD EPYC\ncache size\t: 1024 KB\nflags\t\t: fpu avx2 avx512_vnni hypervisor\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd0b\n"


def machine(root: Path, cpuinfo: str, caches: dict[str, tuple[int, str, str]]) -> Path:
    """A root with /proc/cpuinfo and caches: "CPU/index" -> level, size, CPUs that share it."""
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(cpuinfo)
    for place, (level, size, shared) in caches.items():
        cpu, index = place.split("/")
        folder = root / "sys/devices/system/cpu" / cpu / "cache" / index
        folder.mkdir(parents=True)
        for name, text in (("level", str(level)), ("size", size), ("shared_cpu_list", shared)):
            (folder / name).write_text(f"{text}\n")
    return root


def test_a_cache_that_cpus_share_counts_once(tmp_path: Path):
    """Four CPUs, two to a core, all behind one L3: /proc/cpuinfo's own "cache size" is that of an L2."""
    caches = {f"cpu{cpu}/index2": (2, "1024K", "0,2" if cpu % 2 == 0 else "1,3") for cpu in range(4)}
    caches |= {f"cpu{cpu}/index3": (3, "32768K", "0-3") for cpu in range(4)}
    caches |= {f"cpu{cpu}/index0": (1, "48K", str(cpu)) for cpu in range(4)}
    facts = machine_facts(machine(tmp_path, X86, caches))
    assert (facts["l2_bytes"], facts["l2_count"]) == (2**20, 2)
    assert (facts["l3_bytes"], facts["l3_count"]) == (32 * 2**20, 1)


def test_of_caches_that_differ_the_largest_is_given_and_all_are_counted(tmp_path: Path):
    """Large cores with an L2 each, four small ones behind another."""
    caches = {"cpu0/index2": (2, "1280K", "0"), "cpu1/index2": (2, "1280K", "1"), "cpu2/index2": (2, "2M", "2-5")}
    facts = machine_facts(machine(tmp_path, X86, caches))
    assert (facts["l2_bytes"], facts["l2_count"]) == (2 * 2**20, 3)
    assert not {"l3_bytes", "l3_count"} & set(facts)


@pytest.mark.parametrize("size", ["", "K", "many", "32768"])
def test_a_size_that_does_not_read_is_left_out(tmp_path: Path, size: str):
    assert "l3_bytes" not in machine_facts(machine(tmp_path, X86, {"cpu0/index3": (3, size, "0")}))


@pytest.mark.parametrize(
    ("cpuinfo", "flags", "virtual", "name"),
    [(X86, ["avx2", "avx512_vnni"], True, "AMD EPYC"), (ARM, ["asimddp", "i8mm"], False, "ARM part 0xd0b")],
)
def test_cpu_and_flags_come_from_the_kernel(tmp_path: Path, cpuinfo: str, flags: list[str], virtual: bool, name: str):
    facts = machine_facts(machine(tmp_path, cpuinfo, {}))
    assert (facts["flags"], facts["virtual"], facts["cpu"]) == (flags, virtual, name)


def test_a_machine_without_proc_and_sys_still_has_its_facts(tmp_path: Path):
    facts = machine_facts(tmp_path)
    assert facts["flags"] == []
    assert facts["memory_bytes"] > 0


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit of a package `own`."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "own")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_revision_is_that_of_the_checkout_that_tracks_the_package(checkout: Path):
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert revision(checkout / "own") == commit
    (checkout / "own" / "__init__.py").write_text("changed = True\n")
    assert revision(checkout / "own") == f"{commit}+"


def test_an_installed_package_has_no_revision_though_it_lies_in_somebodys_checkout(checkout: Path):
    """A virtual environment in a user's repository: that repository's commit says nothing of pressbench."""
    installed = checkout / ".venv" / "own"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert revision(installed) == ""


def test_where_one_stands_does_not_matter(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    package = Path(bench.__file__).parent
    before = revision(package)
    monkeypatch.chdir(checkout)
    assert revision(package) == before
    assert not before or before.rstrip("+") != git(checkout, "rev-parse", "--short", "HEAD")


def test_without_git_there_is_no_revision(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert revision(checkout / "own") == ""
