"""A search whose candidates are trained by Dask workers of this machine, and timed through a reach that stands for a board."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_network import write_quarters
from test_search import hurry

from bench.compress.recipe import parse_recipe
from bench.compress.train.finetune import Finetune
from bench.errors import InvalidInput
from bench.line.plan import Request, plan_recipe
from bench.line.run import Surroundings, plan_run
from bench.models.training import trained_networks
from bench.reach.local import Local
from bench.search import plans
from bench.search.asked import Asked
from bench.search.backends import split
from bench.search.run import find_best
from bench.search.trials_elsewhere import find_candidate
from bench.store import Store

FAR = """
name = "far"
reach = "ssh"
host = "someone@board.invalid"
[[backend]]
name = "ort"
[[backend]]
name = "pytorch"
"""


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """A small network and its data, on a board that is far."""
    (tmp_path / "far.toml").write_text(FAR)
    write_quarters(tmp_path)
    return Request(
        target=str(tmp_path / "far.toml"),
        suite=str(tmp_path / "quick.toml"),
        models=("small_network:factory",),
        recipes=("baseline",),
        backends=("ort",),
        data=str(tmp_path / "quarters.npz"),
        train=True,
        batch=(1,),
        threads=(1,),
    )


def test_a_worker_finds_the_cells_that_the_search_has(request_):
    plan = plan_run(replace(request_, backends=("ort", "pytorch"), threads=(1, 2)))
    each = [(plan, False), (plans.for_trials(plan), True)]
    for own, trials in ((one, quick) for whole, quick in each for one in split(whole)):
        base = own.cells[0]
        narrow = plan_recipe(own, base, parse_recipe("widths-1", "channels(amount=0.5) + finetune(epochs=1)"))
        for cell in (base, narrow):
            said = {"name": cell.recipe.name, "text": cell.recipe.text, "key": cell.key, "trials": trials}
            said |= {"backend": cell.backend.title, "threads": cell.conditions.threads}
            _, found = find_candidate(plan, json.dumps(said))
            assert (found.key, found.recipe.text) == (cell.key, cell.recipe.text)
            assert found.data.digest == cell.data.digest  # type: ignore[union-attr]
        with pytest.raises(InvalidInput, match="this worker plans other cells than the host"):
            find_candidate(plan, json.dumps({**said, "key": "another"}))


@pytest.mark.slow
def test_a_search_on_a_cluster_trains_nothing_here(request_, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    hurry(monkeypatch)
    monkeypatch.setattr(trained_networks, "_train", lambda *_: pytest.fail("trained here"))
    monkeypatch.setattr(Finetune, "apply", lambda *_: pytest.fail("trained here"))
    noted: list[str] = []
    asked = Asked(request=request_, budgets=("file_kb=5.4",), max_drop=60.0, then="finetune(epochs=1)")
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}") as store:
        around = Surroundings(
            store=store,
            cache=tmp_path / "cache",
            folder=tmp_path,
            progress=lambda *_: None,
            on_cell=lambda *_: None,
            open_reach=lambda *_: Local(),
            cluster="local:2",
            note=noted.append,
        )
        (tmp_path / "cache").mkdir()
        found = find_best(replace(asked, strategy="uniform"), around, noted.append, clock=lambda: 0.0)
    assert not [note for note in noted if note.startswith("cluster:")]
    assert [one for one in found.ended.tried if "finetune" in one.recipe and one.counts]
    assert found.finals is not None
    assert found.finals.artifact is not None
