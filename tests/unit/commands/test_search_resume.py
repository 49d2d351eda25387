"""Which interrupted search `pressbench search --resume` continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.commands.search.command import _find_earlier
from bench.errors import InvalidInput
from bench.line.plan import Request
from bench.line.run import begin
from bench.search.asked import Asked
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
