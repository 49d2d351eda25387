"""Cells made ready by Dask workers of this machine, measured through a reach that stands for a board."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_network import MEASURE

from backends.ort.compile import OrtBackend
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, Unavailable
from bench.line.cluster import fill, open_cluster, tasks, waiting, workers
from bench.line.cluster.workers import check_workers, read_count, versions
from bench.line.fleet.run import Arranged, run_fleet
from bench.line.plan import Request, plan_recipe
from bench.line.run import Surroundings, plan_run, run
from bench.reach.local import Local
from bench.shared_cache import copy_folder, open_shared
from bench.store import Leases, Store

FAR = """
name = "far"
reach = "ssh"
host = "someone@board.invalid"
[[backend]]
name = "ort"
"""
SUITE = f"""
name = "quick"
models = ["lenet300_100(width=0.1)"]
data = "digits"
[recipes]
baseline = ""
pruned = "neurons(amount=0.5) + finetune(epochs=1)"
int8 = "int8(calibration='minmax')"
odd = "fixed(width=8)"
{MEASURE}"""


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


def measure(plan, folder: Path, name: str, where: str, run=run, cache: Path | None = None) -> tuple[dict, list[str]]:
    """Records by recipe, and what was noted."""
    noted: list[str] = []
    (folder / name).mkdir()
    with Store.open(f"sqlite:///{folder / name}.db") as store:
        around = Surroundings(
            store=store,
            cache=cache or folder / name,
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


@contextmanager
def two_machines(folder: Path):
    """A scheduler and two workers, each with a disk of its own, by the scheduler's address."""
    distributed = pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    disks = [{"nthreads": 1, "env": {"PRESSBENCH_CACHE": str(folder / name)}} for name in ("one", "two")]
    specs = {number: {"cls": distributed.Nanny, "options": disk} for number, disk in enumerate(disks)}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
    with distributed.SpecCluster(workers=specs, scheduler=scheduler) as lab:
        yield lab.scheduler_address


@pytest.mark.slow
def test_machines_that_share_only_a_url_make_what_one_machine_makes(plan, tmp_path, monkeypatch):
    (tmp_path / "url").mkdir()
    url = f"file://{tmp_path / 'url'}"
    here, _ = measure(plan, tmp_path, "here", "")
    made_here = []
    monkeypatch.setattr(OrtBackend, "compile", lambda *_: made_here.append("a file"))
    with two_machines(tmp_path) as address:
        there, noted = measure(plan, tmp_path, "there", address, cache=copy_folder(tmp_path / "host", url))
    later, _ = measure(plan, tmp_path, "later", "", cache=copy_folder(tmp_path / "another", url))
    assert (noted, made_here) == ([], [])
    assert list(there) == list(here) == list(later) == ["baseline", "pruned", "int8", "odd"]
    for recipe, record in here.items():
        for other in (there[recipe], later[recipe]):
            assert (other.digest, other.cost, other.quality) == (record.digest, record.cost, record.quality)
    at_url = {path.relative_to(tmp_path / "url").with_suffix("") for path in (tmp_path / "url").rglob("*.tar")}
    kept = [set(list_entries(copy_folder(tmp_path / disk, url))) for disk in ("one", "two", "host")]
    assert at_url == set.union(*kept)
    assert not list_entries(tmp_path / "one")
    assert not list((tmp_path / "url" / ".parts").iterdir())


def list_entries(cache: Path) -> list[Path]:
    return [path.parent.relative_to(cache) for path in cache.glob("*/*/entry.json")]


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
    monkeypatch.setattr(tasks, "make_ready", lambda cell, state: state.made.append(cell.recipe.name))
    asked = tasks.Cluster(client, plan.cells, state, noted.append)  # type: ignore[arg-type]
    for cell in plan.cells:
        asked.take(cell, state)  # type: ignore[arg-type]
    assert state.made == ["baseline", "pruned", "int8", "odd"]
    return noted


def test_workers_are_asked_for_cells_in_the_order_in_which_boards_need_them(plan, tmp_path):
    """Without a priority Dask takes tasks that are submitted within 100 ms in any order: boards waited for the last models."""
    asked: list[tuple[int, str]] = []

    class Client:
        def submit(self, *given, priority: int, **__: object) -> SimpleNamespace:
            asked.append((priority, given[2][1]))
            return SimpleNamespace()

    state = SimpleNamespace(plan=plan, setting=SimpleNamespace(cache=tmp_path, progress=lambda *_: None))
    tasks.Cluster(Client(), plan.cells, state, asked.append)  # type: ignore[arg-type]
    assert [key for _, key in sorted(asked, reverse=True)] == [cell.key for cell in plan.cells]


def test_a_cell_waits_for_the_one_that_does_the_same_training(plan, tmp_path):
    steps = "prune(amount=0.5) + finetune(epochs=1)"
    texts = {
        "trained": steps,
        "then int8": f"{steps} + int8(calibration='minmax')",
        "then shared": f"{steps} + share(bits=2)",
        "otherwise": "prune(amount=0.5) + finetune(epochs=2)",
    }
    (baseline, *_) = plan.cells
    cells = [baseline, *(plan_recipe(plan, baseline, parse_recipe(name, text)) for name, text in texts.items())]
    names: dict[object, str] = {cell.key: cell.recipe.name for cell in cells}
    waits: dict[str, object] = {}

    class Client:
        def submit(self, *given: object, **__: object) -> str:
            name = names[given[2][1]]  # type: ignore[index]
            waits[name] = given[-1]
            return name

    state = SimpleNamespace(plan=plan, setting=SimpleNamespace(cache=tmp_path, progress=lambda *_: None))
    tasks.Cluster(Client(), cells, state, print)  # type: ignore[arg-type]
    assert waits == {
        "baseline": None,
        "trained": "baseline",
        "then int8": "trained",
        "then shared": "trained",
        "otherwise": "baseline",
    }


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

    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    monkeypatch.setattr(waiting, "WITHOUT_WORKERS_S", 0.05)
    assert take_all(Idle(), plan, tmp_path, monkeypatch) == [
        "cluster: no worker for 0.05 s; what it does not make is made here"
    ]


def worker(**changed: object) -> dict:
    """What a worker that fits says of itself."""
    return {"versions": versions(), "host": ["elsewhere"], "blind": "", **changed}


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        ({}, Unavailable, "has no workers"),
        ({"w1": worker(versions={**versions(), "torch": "1.0"})}, InvalidInput, r"worker w1 has torch 1\.0, here"),
        (
            {"w1": worker(), "w2": worker(blind="it is full")},
            InvalidInput,
            "worker w2 cannot use the cache /.*: it is full",
        ),
        ({"w1": worker(versions={"torch": versions()["torch"]})}, InvalidInput, "worker w1 has pressbench None, here"),
        (
            {"w1": ModuleNotFoundError("no bench.line")},
            InvalidInput,
            "w1 has another pressbench, which says ModuleNotF",
        ),
        ({"w1": worker(host=["board.invalid"])}, InvalidInput, "worker w1 runs on board.invalid, which target far"),
    ],
)
def test_workers_that_do_not_fit_are_refused_by_name(plan, tmp_path, found, error, said):
    client = SimpleNamespace(run=lambda *_, **__: found)
    with pytest.raises(error, match=said):
        check_workers(client, "tcp://s:8786", plan, tmp_path)
    assert list(tmp_path.glob(".cluster-*")) == []


def test_a_url_that_takes_nothing_ends_the_command_before_anything_is_made(plan, tmp_path):
    cache = copy_folder(tmp_path, f"file://{tmp_path}/unmounted")
    client = SimpleNamespace(run=lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(Unavailable, match=r"unmounted cannot be written and read.*workers and host need file://"):
        check_workers(client, "tcp://s:8786", plan, cache)


def test_a_worker_says_why_it_cannot_use_the_cache(tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="pip install fsspec")
    (tmp_path / "url").mkdir()
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "worker"))
    url = f"file://{tmp_path / 'url'}"
    with workers.show_probe(copy_folder(tmp_path / "host", url), url) as probe:
        assert workers.find_blind(url, probe) == ""
    assert workers.find_blind(url, probe).startswith("FileNotFoundError: ")
    assert "unmounted cannot be written and read" in workers.find_blind(f"file://{tmp_path}/unmounted", probe)
    assert "pip install s3fs" in workers.find_blind("s3://bucket/x", probe)
    with workers.show_probe(tmp_path, str(tmp_path)) as probe:
        assert workers.find_blind(str(tmp_path), probe) == ""
    assert workers.find_blind(str(tmp_path), probe).startswith("it does not see the folder. Share it under one path")


def test_a_worker_that_cannot_put_its_files_says_so_before_it_trains(plan, tmp_path, monkeypatch):
    cache = copy_folder(tmp_path, f"file://{tmp_path}/unmounted")
    open_shared(f"file://{tmp_path}/unmounted").check()
    monkeypatch.setattr(fill, "make_artifact", lambda *_: pytest.fail("made"))
    with pytest.raises(Unavailable, match="unmounted cannot be written"):
        fill.make_files(plan, plan.cells[0], cache)


def test_a_cell_that_cannot_be_made_keeps_no_other_from_its_worker(plan, tmp_path):
    """Dask gives what waits for a task that raised to no worker."""
    asked, where = json.dumps(asdict(plan.request)), (str(tmp_path), str(tmp_path), None)
    assert fill.fill_cache(asked, tasks.call_planned(plan.cells[3]), *where).startswith("Unsupported: ")
    said = fill.fill_cache(asked, (fill.find_planned, "another"), *where)
    assert said.startswith("InvalidInput: this worker plans other cells")


def test_no_worker_runs_on_a_board_of_a_fleet_by_whatever_it_is_called(fleet, monkeypatch):
    addresses = {"one.lab": "10.0.0.11", "two.lab": "10.0.0.12"}
    monkeypatch.setattr(workers.socket, "getaddrinfo", lambda host, _port: [(0, 0, 0, "", (addresses[host], 0))])
    with pytest.raises(InvalidInput, match=r"worker w1 runs on two\.lab, which target far"):
        workers.check_place(fleet, {"w1": ["somewhere", "10.0.0.12"]})
    workers.check_place(fleet, {"w1": ["somewhere", "10.0.0.13"]})


def test_loopback_says_nothing_of_a_machine():
    assert workers.name_host("localhost") == workers.name_host("127.0.0.5") == set()
    assert not any(name.startswith("127.") for name in workers.name_this_host())


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
    monkeypatch.setattr(workers, "CONNECT_S", 0.2)
    for where in ("tcp://127.0.0.1:9", "nonsense"):
        with (
            pytest.raises(Unavailable, match=f"--cluster {where}: no scheduler answers"),
            open_cluster(where, plan, tmp_path),
        ):
            pass
