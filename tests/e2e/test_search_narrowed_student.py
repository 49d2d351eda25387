"""A whole search whose answer is a narrowed student, of small networks that are measured for a moment."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from small_network import write_quarters
from test_search import ask, hurry, interrupt_third

from bench.commands.progress import watching
from bench.commands.search.command import search_best
from bench.store import Store

HEAD = "student(model='mlp(width=0.25)') + distill(epochs=20, learning_rate=0.01)"


@pytest.mark.slow
def test_a_student_is_narrowed_beside_the_users_network_and_one_that_is_not_cheaper_is_not(tmp_path: Path, monkeypatch):
    hurry(monkeypatch)
    write_quarters(tmp_path)
    asked = replace(
        ask(tmp_path),
        budgets=(),
        minimize="size",
        max_drop=70.0,
        recipes=(),
        families=("none",),
        strategy="macs",
        students=(HEAD, "mlp"),
    )
    said = io.StringIO()
    results, cache = tmp_path / "results", tmp_path / "cache"
    with watching(said) as watch, pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(watch, "on_cell", interrupt_third)
        search_best(asked, results=results, url=None, resume=False, cache=cache, watch=watch)
    with watching(said) as watch:
        done = search_best(asked, results=results, url=None, resume=True, cache=cache, watch=watch)
    narrowed = [one["recipe"] for one in done.answer["trials"][3:]]
    assert any(recipe.startswith(f"{HEAD} + widths(keep=(") for recipe in narrowed)
    assert any(recipe.startswith("widths(keep=(") for recipe in narrowed), "the user's own network is narrowed too"
    assert done.answer["winner"]["recipe"].startswith(f"{HEAD} + widths(keep=(")
    assert done.answer["winner"]["file_bytes"] < done.answer["students"][0]["as_written"]["file_bytes"]
    assert [one["not_narrowed"].partition(":")[0] for one in done.answer["students"]] == ["", "it is not cheaper"]
    assert "student mlp is not narrowed: it is not cheaper: file_bytes" in said.getvalue()
    page = next(Path(file) for file in done.answer["files"] if file.endswith(".html")).read_text()
    assert "layers, of student student(" in page
    assert "of 8 outputs</span>" in page
    with Store.open(tmp_path / "results" / "pressbench.db") as store:
        trials = store.records(done.answer["run_id"])
    assert len({one.key for one in trials}) == len(trials), "each trial is measured once"
    assert {one.baseline_key for one in trials} == {trials[0].key}, "drops are from the user's network"
