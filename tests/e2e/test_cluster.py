"""Cells made ready by Dask workers of this machine, measured through a reach that stands for a board."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.ort.compile import OrtBackend
from bench.errors import InvalidInput, Unavailable
from bench.line import cluster
from bench.line.cluster import check_workers, open_cluster, read_count, versions
from bench.line.fleet.run import Arranged, run_fleet
from bench.line.plan import Request
from bench.line.run import Surroundings, plan_run, run
from bench.reach.local import Local
from bench.store import Leases, Store

FAR = """
name = "far"
reach = "ssh"
host = "someone@board.invalid"
[[backend]]
name = "ort"
"""
SUITE = """
name = "quick"
models = ["lenet300_100(width=0.1)"]
data = "digits"
[recipes]
baseline = ""
pruned = "neurons(amount=0.5) + finetune(epochs=1)"
int8 = "int8(calibration='minmax')"
odd = "fixed(width=8)"
[measure]
launches = 1
pairs = 1
blocks = 5
warmup_s = 0.01
time_s = 0.05
profile_runs = 0
"""


@pytest.fixture
def plan(tmp_path: Path):
    (tmp_path / "far.toml").write_text(FAR)
    (tmp_path / "quick.toml").write_text(SUITE)
    return plan_run(Request(target=str(tmp_path / "far.toml"), suite=str(tmp_path / "quick.toml")))


@pytest.fixture
def fleet(plan, tmp_path: Path):
    """The same cells for two boards that share them."""
    boards = [f'[boards.{name}]\nsku = "double"\ntarget = "far.toml"\nhost = "{name}.lab"\n' for name in ("one", "two")]
    (tmp_path / "fleet.toml").write_text("".join(boards))
    return plan_run(replace(plan.request, fleet=str(tmp_path / "fleet.toml"), sku="double"))


def measure(plan, folder: Path, name: str, where: str, run=run) -> tuple[dict, list[str]]:
    """Records by recipe, and what was noted."""
    noted: list[str] = []
    (folder / name).mkdir()
    with Store.open(f"sqlite:///{folder / name}.db") as store:
        around = Surroundings(
            store=store,
            cache=folder / name,
            folder=folder / name,
            progress=lambda *_: None,
            on_cell=lambda *_: None,
            open_reach=lambda *_: Local(),
            cluster=where,
            note=noted.append,
        )
        run(plan, around)
        return {record.recipe: record for record in store.records()}, noted


def test_a_cluster_makes_the_files_that_this_process_makes_and_the_host_finds_them_made(plan, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    here, _ = measure(plan, tmp_path, "here", "")
    made_here = []
    monkeypatch.setattr(OrtBackend, "compile", lambda *_: made_here.append("a file"))  # in this process only
    there, noted = measure(plan, tmp_path, "there", "local:2")
    assert (noted, made_here) == ([], [])
    assert list(there) == list(here) == ["baseline", "pruned", "int8", "odd"]
    for recipe, record in here.items():
        other = there[recipe]
        assert (other.digest, other.cost, other.quality) == (record.digest, record.cost, record.quality)
    assert there["odd"].status == here["odd"].status == "skipped"
    assert there["odd"].reasons == here["odd"].reasons


def test_what_a_lost_cluster_does_not_make_is_made_here_and_said_once(plan, tmp_path, monkeypatch):
    class Lost:
        """A client whose scheduler is gone."""

        def submit(self, *_: object, **__: object) -> SimpleNamespace:
            def result() -> None:
                raise OSError("connection closed")

            return SimpleNamespace(result=result, done=lambda: True)

    assert take_all(Lost(), plan, tmp_path, monkeypatch) == [
        "cluster: OSError: connection closed; what it does not make is made here"
    ]


def take_all(client, plan, folder: Path, monkeypatch) -> list[str]:
    """What is noted while every cell is taken, which are all made here."""
    noted: list[str] = []
    state = SimpleNamespace(plan=plan, setting=SimpleNamespace(cache=folder, progress=lambda *_: None), made=[])
    monkeypatch.setattr(cluster, "make_ready", lambda cell, state: state.made.append(cell.recipe.name))
    asked = cluster.Cluster(client, plan.cells, state, noted.append)  # type: ignore[arg-type]
    for cell in plan.cells:
        asked.take(cell, state)  # type: ignore[arg-type]
    assert state.made == ["baseline", "pruned", "int8", "odd"]
    return noted


def test_workers_are_asked_for_cells_in_the_order_in_which_boards_need_them(plan, tmp_path):
    """Without a priority Dask takes tasks that are submitted within 100 ms in any order: boards waited for the last models."""
    asked: list[tuple[int, str]] = []

    class Client:
        def submit(self, *given, priority: int, **__: object) -> SimpleNamespace:
            asked.append((priority, given[2]))
            return SimpleNamespace()

    state = SimpleNamespace(plan=plan, setting=SimpleNamespace(cache=tmp_path, progress=lambda *_: None))
    cluster.Cluster(Client(), plan.cells, state, asked.append)  # type: ignore[arg-type]
    assert [key for _, key in sorted(asked, reverse=True)] == [cell.key for cell in plan.cells]


def test_what_a_scheduler_without_workers_would_never_make_is_made_here(plan, tmp_path, monkeypatch):
    class Idle:
        """A client whose scheduler has no workers."""

        def submit(self, *_: object, **__: object) -> SimpleNamespace:
            def result(timeout: float) -> None:
                time.sleep(timeout)
                raise TimeoutError

            return SimpleNamespace(result=result, done=lambda: False)

        def scheduler_info(self) -> dict:
            return {"workers": {}}

    monkeypatch.setattr(cluster, "LOOK_S", 0.01)
    monkeypatch.setattr(cluster, "WITHOUT_WORKERS_S", 0.05)
    assert take_all(Idle(), plan, tmp_path, monkeypatch) == [
        "cluster: no worker for 0.05 s; what it does not make is made here"
    ]


def worker(**changed: object) -> dict:
    """What a worker that fits says of itself."""
    return {"versions": versions(), "host": ["elsewhere"], "sees": True, **changed}


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        ({}, Unavailable, "has no workers"),
        ({"w1": worker(versions={**versions(), "torch": "1.0"})}, InvalidInput, r"worker w1 has torch 1\.0, here"),
        ({"w1": worker(), "w2": worker(sees=False)}, InvalidInput, "worker w2 does not see the cache"),
        ({"w1": worker(host=["board.invalid"])}, InvalidInput, "worker w1 runs on board.invalid, which target far"),
    ],
)
def test_workers_that_do_not_fit_are_refused_by_name(plan, tmp_path, found, error, said):
    client = SimpleNamespace(run=lambda *_: found)
    with pytest.raises(error, match=said):
        check_workers(client, "tcp://s:8786", plan, tmp_path)
    assert list(tmp_path.glob(".cluster-*")) == []


def test_no_worker_runs_on_a_board_of_a_fleet_by_whatever_it_is_called(fleet, monkeypatch):
    addresses = {"one.lab": "10.0.0.11", "two.lab": "10.0.0.12"}
    monkeypatch.setattr(cluster.socket, "getaddrinfo", lambda host, _port: [(0, 0, 0, "", (addresses[host], 0))])
    with pytest.raises(InvalidInput, match=r"worker w1 runs on two\.lab, which target far"):
        cluster.check_place(fleet, {"w1": ["somewhere", "10.0.0.12"]})
    cluster.check_place(fleet, {"w1": ["somewhere", "10.0.0.13"]})


def test_loopback_says_nothing_of_a_machine():
    assert cluster.name_host("localhost") == cluster.name_host("127.0.0.5") == set()
    assert not any(name.startswith("127.") for name in cluster.name_this_host())


@pytest.mark.slow
def test_boards_of_a_fleet_measure_what_workers_made_each_file_once(fleet, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    made_here = []
    monkeypatch.setattr(OrtBackend, "compile", lambda *_: made_here.append("a file"))
    there, noted = measure(fleet, tmp_path, "there", "local:2", run_both)
    assert (noted, made_here) == ([], [])
    assert set(there) == {"baseline", "pruned", "int8", "odd"}
    assert {record.status for record in there.values()} <= {"ok", "inconclusive", "skipped", "untrusted"}
    assert there["pruned"].digest
    assert there["pruned"].device.partition(" (")[0] == there["baseline"].device.partition(" (")[0]


def run_both(plan, around) -> None:
    """On boards that are this machine."""
    arranged = Arranged(find_trouble=lambda *_: "", say=around.note, leases=Leases(store=around.store))
    assert run_fleet(plan, around, arranged).measured.left == 0


def test_no_worker_runs_where_the_cells_are_measured(tmp_path):
    pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    plan = plan_run(Request(target="cpu", suite="smoke"))
    with (
        pytest.raises(InvalidInput, match=r"local:2 of this machine runs on .*, which target cpu measures"),
        open_cluster("local:2", plan, tmp_path),
    ):
        pass


@pytest.mark.parametrize("where", ["local:0", "local:", "local:many", "local:999999"])
def test_a_number_of_processes_that_cannot_be_is_refused(where):
    with pytest.raises(InvalidInput, match="as local:4"):
        read_count(where)


def test_a_scheduler_that_is_not_there_is_named(plan, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    for where in ("tcp://127.0.0.1:9", "nonsense"):
        with (
            pytest.raises(Unavailable, match=f"--cluster {where}: no scheduler answers"),
            open_cluster(where, plan, tmp_path),
        ):
            pass
