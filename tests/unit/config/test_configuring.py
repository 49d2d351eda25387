"""docs/configuring.md says every key of a suite and a target, with the default the code has."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest

from bench.config.suite import Measure, SearchChoice, Suite, load_suite
from bench.config.target import BackendChoice, Budget, Target, load_target

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "configuring.md").read_text(encoding="utf-8")
TABLES = re.findall(r"\| key \| default \| meaning \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", TEXT)
ELSEWHERE = {
    (Suite, "measure"),
    (Suite, "search"),
    (Target, "ceiling_c"),
    *((Budget, item.name) for item in fields(Budget)),
}
"""Told by a table of its own, or with no default to compare."""


def rows(table: str) -> dict[str, str]:
    cells = (line.strip("|\n").split(" | ") for line in table.splitlines())
    return {key.strip(" `"): default.strip(" `") for key, default, _ in cells}


@pytest.mark.parametrize(("place", "kind"), list(enumerate((Suite, Measure, Target, BackendChoice, Budget))))
def test_every_key_is_told_with_its_default(place, kind):
    told = rows(TABLES[place])
    assert set(told) == {item.name for item in fields(kind)} - {"measure", "search"}
    shown = {item.name: told[item.name] for item in fields(kind) if (kind, item.name) not in ELSEWHERE}
    assert shown == {name: expected(kind, name, text) for name, text in shown.items()}


def test_every_key_of_search_is_named():
    (told,) = (part for part in TEXT.split("\n\n") if part.startswith("`[search]`"))
    assert {item.name for item in fields(SearchChoice)} <= set(re.findall(r"`(\w+)`", told))


def expected(kind: type, name: str, shown: str) -> str:
    """The default as the page must write it; a default that is a table, or the name itself, stays as the page has it."""
    item = next(item for item in fields(kind) if item.name == name)
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    if default is MISSING:
        return "required"
    same = is_dataclass(default) or shown == "the name" or json.loads(shown) == json.loads(json.dumps(default))
    return shown if same else json.dumps(default)


def test_the_examples_load(tmp_path):
    suite, target = (tmp_path / name for name in ("suite.toml", "target.toml"))
    for path, text in zip((suite, target), re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL), strict=True):
        path.write_text(text)
    assert load_suite(str(suite)).measure.launches == 5
    assert [choice.title for choice in load_target(str(target)).backend] == ["ort", "litert-plain"]
