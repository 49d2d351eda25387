"""Which interrupted search `pressbench search --resume` continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.commands.search.command import _find_earlier
from bench.errors import InvalidInput
from bench.line.plan import Request
from bench.line.run import begin
from bench.records import Run
from bench.search.asked import Asked
from bench.search.run import _interrupt, find_best
from bench.store import Store


def ask(model: str) -> Asked:
    """A search of one model."""
    return Asked(request=Request(target="cpu", models=(model,)))


def keep(folder: Path, *searches: Asked) -> None:
    """Searches that were interrupted, in this order."""
    with Store.open(folder / "pressbench.db") as store:
        for place, asked in enumerate(searches):
            run = replace(asked.begin(begin(asked.request)), run_id=f"run-{place}")
            store.begin_run(run)
            store.finish_run(run.run_id, "interrupted", run.started_at)


def test_of_two_interrupted_searches_the_one_with_the_same_options_is_continued(tmp_path):
    keep(tmp_path, ask("resnet8"), ask("resnet8"), ask("lenet5"))
    assert _find_earlier(ask("resnet8"), tmp_path, None).run_id == "run-1"
    assert _find_earlier(ask("lenet5"), tmp_path, None).run_id == "run-2"


def test_where_none_has_the_same_options_the_newest_is_named(tmp_path):
    keep(tmp_path, ask("resnet8"), ask("lenet5"))
    with pytest.raises(InvalidInput, match=r"run run-1 was begun with other options \(models: "):
        _find_earlier(ask("mobilenetv2"), tmp_path, None)
    with pytest.raises(InvalidInput, match="there is no interrupted search on target 'other'"):
        _find_earlier(Asked(request=Request(target="other")), tmp_path, None)


def test_a_run_of_a_suite_called_search_is_no_search(tmp_path):
    keep(tmp_path, ask("resnet8"))
    with Store.open(tmp_path / "pressbench.db") as store:
        run = replace(
            begin(Request(target="cpu", suite="search")), run_id="of a suite", started_at="2100-01-01T00:00:00"
        )
        store.begin_run(run)
        store.finish_run(run.run_id, "interrupted", run.started_at)
    assert _find_earlier(ask("resnet8"), tmp_path, None).run_id == "run-0"
    with pytest.raises(InvalidInput, match="run run-0 was begun with other options"):
        _find_earlier(ask("lenet5"), tmp_path, None)


def test_of_the_options_of_a_search_only_the_one_that_differs_is_named(tmp_path):
    keep(tmp_path, ask("resnet8"))
    with pytest.raises(InvalidInput, match=r"other options \(max_drop: None, now 2.0\): give the same"):
        _find_earlier(replace(ask("resnet8"), max_drop=2.0), tmp_path, None)


class Begun(Exception):
    """What the store of a test raises where the search begins."""


def begin_search(asked: Asked, earlier: Run | None) -> tuple[list[str], Run]:
    """What is noted before the search begins, and its run."""
    noted, begun = [], []

    def begin_run(run: Run) -> None:
        begun.append(run)
        raise Begun

    store = SimpleNamespace(records=lambda _: [], begin_run=begin_run)
    around = SimpleNamespace(note=noted.append, cache=None, store=store, open_reach=None, cluster="", progress=None)
    with pytest.raises(Begun):
        find_best(asked, around, print, earlier=earlier)
    return noted, begun[0]


def test_a_search_that_other_code_or_another_suite_began_says_so():
    asked = Asked(request=Request(target="cpu", models=("lenet5",), recipes=("baseline",), backends=("ort",), data=""))
    noted, begun = begin_search(asked, None)
    assert begin_search(asked, begun)[0] == noted
    (older,) = [one for one in begin_search(asked, replace(begun, revision="abc"))[0] if one not in noted]
    assert f"was begun by pressbench {begun.version} abc, this is another" in older
    (changed,) = [one for one in begin_search(asked, replace(begun, settings="of before"))[0] if one not in noted]
    assert "suite default or target cpu was changed after run" in changed


def test_a_search_that_another_machine_began_is_refused_where_machines_are_timed():
    """Its trials were compared with times of this machine."""
    asked = Asked(request=Request(target="cpu", models=("lenet5",), recipes=("baseline",), backends=("ort",), data=""))
    _, begun = begin_search(asked, None)
    begun = replace(begun, machine={**begun.machine, "cpu": "of a laptop"})
    store = SimpleNamespace(records=lambda _: [], begin_run=lambda _: pytest.fail("begins"))
    around = SimpleNamespace(
        note=lambda _: pytest.fail("says"), cache=None, store=store, open_reach=None, cluster="", progress=None
    )
    with pytest.raises(InvalidInput, match=r"begun on another machine \(cpu of a laptop, here .*\), and times of two"):
        find_best(asked, around, print, earlier=begun)
    fpga = Request(target="fpga", models=("mlp",), recipes=("baseline",))
    _, begun = begin_search(replace(asked, request=fpga), None)
    moved = replace(begun, machine={**begun.machine, "cpu": "of a laptop"})
    assert begin_search(replace(asked, request=fpga), moved)[1].run_id == begun.run_id


def test_a_search_whose_trials_are_of_another_network_is_refused_before_anything_is_said_or_stored():
    """The note said that its cells stay, and with several backends the search went on with another one."""
    asked = Asked(request=Request(target="cpu", models=("lenet5",), recipes=("baseline",), backends=("ort", "pytorch")))
    begun = replace(asked.begin(begin(asked.request)), settings="of before")
    of_before = SimpleNamespace(
        backend="pytorch", conditions=SimpleNamespace(threads=1), baseline_key="of before", recipe="baseline"
    )
    noted: list[str] = []
    store = SimpleNamespace(records=lambda _: [of_before], begin_run=lambda _: pytest.fail("begins"))
    around = SimpleNamespace(note=noted.append, cache=None, store=store, open_reach=None, cluster="", progress=None)
    with pytest.raises(InvalidInput, match=r"--resume: model lenet5: .* the suite or the target is another one"):
        find_best(asked, around, print, earlier=begun)
    assert not [text for text in noted if "stay as they were measured" in text]


def test_an_interrupted_search_does_not_wait_for_a_database_that_is_away():
    hurried, store = [], SimpleNamespace(finish_run=lambda *_: pytest.fail("waits"))
    store.hurry = lambda: SimpleNamespace(finish_run=lambda *said: hurried.append(said[:2]))
    _interrupt(store, "run-1")
    assert hurried == [("run-1", "interrupted")]
