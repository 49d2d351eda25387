"""A whole search on this machine's CPU, of a small network that is measured for a moment."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_network import write_quarters

from bench.commands.progress import watching
from bench.commands.search.command import Answer, search_best
from bench.config.suite import Measure
from bench.errors import InvalidInput
from bench.line.plan import Request
from bench.records import Record
from bench.search import plans
from bench.search.asked import Asked
from bench.search.prediction import board
from bench.store import Store


def interrupt_third(record: Record, done: int, total: int) -> None:
    """As Ctrl-C does after the second candidate."""
    del total
    if done == 3 and record.recipe != "winner":
        raise KeyboardInterrupt


def die_at_second(record: Record, done: int, total: int) -> None:
    """As kill -9 does after the first candidate."""
    del record, total
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Trials and checks of a moment."""
    quick = Measure(launches=1, pairs=1, blocks=5, warmup_s=0.01, time_s=0.05, profile_runs=0)
    patch.setattr(plans, "TRIAL", quick)
    patch.setattr(board, "CHECKED", 2)


def ask(folder: Path) -> Asked:
    """A small network on a file of its own, under a suite and a size that only a narrower one has."""
    request = Request(
        target="cpu",
        suite=str(folder / "quick.toml"),
        models=("small_network:factory",),
        recipes=("baseline",),
        data=str(folder / "quarters.npz"),
        train=True,
        batch=(1,),
        threads=(1,),
    )
    return Asked(
        request=request,
        budgets=("file_kb=5.4",),
        max_drop=60.0,
        then="finetune(epochs=1)",
        recipes=("prune(amount=0.3)",),
    )


def search_until_killed(folder: Path) -> None:
    """What the child process does."""
    hurry(pytest.MonkeyPatch())
    with watching(io.StringIO()) as watch:
        watch.on_cell = die_at_second
        search_best(
            ask(folder), results=folder / "results", url=None, resume=False, cache=folder / "cache", watch=watch
        )


def trials_of(done: Answer) -> list:
    """Those with figures."""
    return [one for one in done.answer["trials"] if one["latency_ms"] and one["quality_loss"] is not None]


@pytest.mark.slow
def test_a_search_goes_on_after_kill_9_and_after_ctrl_c_and_finds_a_narrower_network(tmp_path: Path, monkeypatch):
    hurry(monkeypatch)
    write_quarters(tmp_path)
    asked = ask(tmp_path)
    child = f"import sys; sys.path[:0] = {sys.path!r}; import test_search, pathlib; "
    child += f"test_search.search_until_killed(pathlib.Path({str(tmp_path)!r}))"
    with (tmp_path / "child.txt").open("w+") as printed:  # a pipe would be held open by what the child leaves
        killed = subprocess.run([sys.executable, "-c", child], stdout=printed, stderr=printed, check=False)
        printed.seek(0)
        assert killed.returncode == -signal.SIGKILL, printed.read()
    said = io.StringIO()
    results, cache = tmp_path / "results", tmp_path / "cache"
    with watching(said) as watch, pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(watch, "on_cell", interrupt_third)
        search_best(asked, results=results, url=None, resume=True, cache=cache, watch=watch)
    with watching(said) as watch, pytest.raises(InvalidInput, match="was begun with other options"):
        search_best(replace(asked, max_drop=2.0), results=results, url=None, resume=True, cache=cache, watch=watch)
    with watching(said) as watch:
        done = search_best(asked, results=results, url=None, resume=True, cache=cache, watch=watch)
    winner = done.answer["winner"]
    assert winner["recipe"].startswith("widths(keep=(")
    assert done.answer["trials"][1]["recipe"] == "prune(amount=0.3)"
    assert winner["file_bytes"] <= 5400 < done.answer["finals"][0]["file_bytes"]
    assert {Path(file).name for file in done.answer["files"]} == {"winner.onnx", "recipe.txt", "search.html"}
    page = next(Path(file) for file in done.answer["files"] if file.endswith(".html")).read_text()
    assert page.count("<circle") >= 2 * len(trials_of(done))
    assert "outputs</span>" in page
    with Store.open(tmp_path / "results" / "pressbench.db") as store:
        stored = {run.run_id: run for run in store.runs()}
        trials = store.records(done.answer["run_id"])
    assert len({one.key for one in trials}) == len(trials) >= 3, "each trial is measured once"
    assert {one.status for one in stored.values()} == {"finished"}
    assert [one.recipe_text for one in trials][1:] == [one["recipe"] for one in done.answer["trials"]][1:]
    assert all("a fifth of its training set" in one.data for one in trials)
    assert "random networks, each predicted from the others" in said.getvalue()
    assert said.getvalue().count(" ms") >= len(trials_of(done)), "each candidate has a line"
    assert ", the best so far" in said.getvalue()


def test_without_time_for_a_recipe_it_is_said_and_no_table_is_begun(tmp_path: Path, monkeypatch):
    hurry(monkeypatch)
    write_quarters(tmp_path)
    asked, said = replace(ask(tmp_path), time_s=0.001), io.StringIO()
    with watching(said) as watch:
        done = search_best(
            asked, results=tmp_path / "results", url=None, resume=False, cache=tmp_path / "cache", watch=watch
        )
    assert "recipe prune(amount=0.3) is not tried: the time is over" in said.getvalue()
    assert (done.answer["ended"], done.answer["predictor"], len(done.answer["trials"])) == ("the time is over", None, 1)
    assert "random networks" not in said.getvalue()


@pytest.mark.slow
def test_a_search_of_several_backends_continues_with_one_of_them_and_after_ctrl_c_with_the_same(tmp_path, monkeypatch):
    hurry(monkeypatch)
    write_quarters(tmp_path)
    asked = ask(tmp_path)
    asked = replace(
        asked,
        request=replace(asked.request, backends=("pytorch", "ort")),
        families=("share(clusters=16)",),
    )
    said, results, cache = io.StringIO(), tmp_path / "results", tmp_path / "cache"

    def interrupt(record: Record, _done: int, _total: int) -> None:
        if record.recipe.startswith("widths"):
            raise KeyboardInterrupt

    with watching(said) as watch, pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(watch, "on_cell", interrupt)
        search_best(asked, results=results, url=None, resume=False, cache=cache, watch=watch)
    with Store.open(results / "pressbench.db") as store:
        (run,) = store.runs()
        before = store.records(run.run_id)
    assert {(one.backend, one.recipe) for one in before if not one.recipe.startswith(("widths", "prune"))} == {
        (backend, recipe) for backend in ("pytorch", "ort") for recipe in ("baseline", "family-1")
    }
    (chosen,) = {one.backend for one in before if one.recipe.startswith("widths")}
    assert f"the search continues with {chosen}" in said.getvalue()
    with watching(said) as watch:
        done = search_best(asked, results=results, url=None, resume=True, cache=cache, watch=watch)
    assert done.answer["backend"] == chosen
    assert f"--resume: the search continues on backend {chosen}" in said.getvalue()
    with Store.open(results / "pressbench.db") as store:
        after = store.records(run.run_id)
    assert {one.key for one in before} <= {one.key for one in after}
    assert len({one.key for one in after}) == len(after), "nothing is measured twice"
    assert {one.backend for one in after[len(before) :]} <= {chosen}
