"""While a board measures a cell, the host makes the next ones ready: the same records come out as one after another."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from test_cell import NETWORK, FakeBackend

from bench.compress.pipeline import compress
from bench.errors import InvalidInput, Unsupported
from bench.line.ahead import MOST_AHEAD, Ahead
from bench.line.artifacts import compile_cached
from bench.line.cell import RunState
from bench.line.plan import Request
from bench.line.prepare import Setting
from bench.line.run import Surroundings, plan_run, run
from bench.line.stages import Stages
from bench.reach.local import Local
from bench.reach.open import REACHES
from bench.store import Store
from bench.types import Status

PATIENCE_S = 60
SETTING = ("target", "cache", "folder", "progress", "measure")
SUITE = """
name = "s"
models = ["fakenet:build"]
[recipes]
one = "float16()"
bad = "float16_weights()"
last = "float16()"
[measure]
launches = 1
pairs = 1
blocks = 5
time_s = 0.1
warmup_s = 0.05
limit_s = 60
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent / "fakes"), prepend=os.pathsep)
    monkeypatch.setenv("PRESSBENCH_HOST", "nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fakenet.py").write_text(NETWORK)
    x = np.random.default_rng(0).random((60, 4), dtype=np.float32)
    y = np.arange(60) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    (tmp_path / "suite.toml").write_text(SUITE)
    (tmp_path / "far.toml").write_text(
        'name = "cpu"\nreach = "ssh"\nmin_clean_share = 0.0\n[[backend]]\nname = "ort"\n'
    )

    def planning(target):
        return plan_run(
            Request(target=target, suite=str(tmp_path / "suite.toml"), data=str(tmp_path / "data.npz")), tmp_path
        )

    return planning


class Counted:
    """How many cells were compiled."""

    def __init__(self):
        self.changed, self.number = threading.Condition(), 0

    def add(self):
        with self.changed:
            self.number += 1
            self.changed.notify_all()

    def wait(self, number):
        with self.changed:
            return self.changed.wait_for(lambda: self.number >= number, PATIENCE_S)


class Board(Local):
    """This machine, which measures a cell only after the host has compiled the next one."""

    def __init__(self, compiled: Counted) -> None:
        super().__init__()
        self.compiled, self.measured, self.overlapped = compiled, 0, 0

    def run(self, job, workdir, limit_s):
        if job.task == "measure":
            self.measured += 1
            self.overlapped += self.compiled.wait(self.measured + 1)
        return super().run(job, workdir, limit_s)


def measure(plan, folder, name, reach, compiled=None, *, compiling=lambda recipe: None, on_cell=lambda *_: None):
    """The records of a run by recipe, and how the run ended. `compiling` is called with each recipe."""

    class Compiling(FakeBackend):
        def compile(self, source, conditions, options, out):
            compiling(source.recipe)
            if source.recipe == "bad":
                raise Unsupported("no such kernel")
            return super().compile(source, conditions, options, out)

    def compile_one(*given):
        if compiled is not None:
            compiled.add()
        return compile_cached(*given)

    (folder / name).mkdir(exist_ok=True)
    with Store.open(folder / name / "results.db") as store:
        around = Surroundings(
            store=store,
            cache=folder / name / "cache",
            folder=folder / name,
            progress=lambda *_: None,
            on_cell=on_cell,
            open_reach=lambda *_: reach,
            stages=Stages(
                load_backend=lambda _: Compiling(),
                compress=lambda *given, **more: compress(*given, **{**more, "cache": folder.parent / "compressed"}),
                compile=compile_one,
                predict_reference=lambda *_, **__: None,
            ),
        )
        interrupted = find_earlier(plan, store)
        with suppress(KeyboardInterrupt):
            run(plan, around, earlier=interrupted)
        return {record.recipe: record for record in store.records()}, [one.status for one in store.runs()]


def find_earlier(plan, store):
    """The interrupted run to continue, where there is one."""
    return store.last_interrupted(plan.request.target, plan.request.suite)


def test_the_same_records_come_out_while_the_host_works_beside_the_board(plan, tmp_path):
    here, _ = measure(plan("cpu"), tmp_path, "here", Local())
    compiled = Counted()
    board = Board(compiled)
    there, states = measure(plan(str(tmp_path / "far.toml")), tmp_path, "there", board, compiled)
    assert states == ["finished"]
    assert board.overlapped == board.measured == 3
    assert list(there) == list(here) == ["baseline", "one", "bad", "last"]
    assert there["bad"].status == here["bad"].status == Status.SKIPPED
    assert there["bad"].reasons == here["bad"].reasons
    for recipe, record in here.items():
        other = there[recipe]
        assert (other.digest, other.cost, len(other.pairs)) == (record.digest, record.cost, len(record.pairs))
        assert other.quality == record.quality


def test_ctrl_c_ends_what_the_host_was_making_and_a_resumed_run_makes_the_rest(plan, tmp_path):
    at_work, undone = threading.Event(), []

    def compiling(recipe):
        if recipe == "one" and not undone:
            at_work.set()
            try:
                while True:
                    time.sleep(0.01)
            except BaseException as error:
                undone.append(type(error))
                raise

    def interrupt(*_):
        assert at_work.wait(PATIENCE_S)
        raise KeyboardInterrupt

    far = plan(str(tmp_path / "far.toml"))
    first, states = measure(far, tmp_path, "run", Local(), compiling=compiling, on_cell=interrupt)
    assert list(first) == ["baseline"]
    assert states == ["interrupted"]
    assert undone == [KeyboardInterrupt]
    assert not list((tmp_path / "run" / "cache").rglob(".part-*"))
    second, states = measure(far, tmp_path, "run", Local())
    assert states == ["finished"]
    assert list(second) == ["baseline", "one", "bad", "last"]


def test_the_host_is_at_most_so_many_cells_ahead(plan):
    cells, taken, ahead_by = plan("cpu").cells, [], []
    state = RunState(plan=None, run_id="r", setting=Setting(**dict.fromkeys(SETTING)))

    def make_ready(cell, _state):
        ahead_by.append(cells.index(cell) - len(taken))
        return cell

    state.make_ready = make_ready
    with Ahead(cells, state) as made:
        for cell in cells:
            assert made.take(cell, state) is cell
            taken.append(cell)
    assert max(ahead_by) <= MOST_AHEAD


def test_an_error_is_raised_where_its_cell_is_taken_and_the_next_ones_go_on(plan):
    cells = plan("cpu").cells
    state = RunState(plan=None, run_id="r", setting=Setting(**dict.fromkeys(SETTING)))

    def make_ready(cell, _state):
        if cell.recipe.name == "one":
            raise InvalidInput("not this one")
        return cell

    state.make_ready = make_ready
    with Ahead(cells, state) as made:
        assert made.take(cells[0], state) is cells[0]
        with pytest.raises(InvalidInput, match="not this one"):
            made.take(cells[1], state)
        assert made.take(cells[2], state) is cells[2]


@pytest.mark.parametrize(("reach", "elsewhere"), [("local", False), ("emulated", False), ("ssh", True)])
def test_only_beside_another_machine(reach, elsewhere):
    assert REACHES[reach].elsewhere is elsewhere
