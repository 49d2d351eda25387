"""The wheel ships every package of the source tree."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_is_named_in_pyproject():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [place.parent for top in ("bench", "backends", "targets") for place in (ROOT / top).rglob("__init__.py")]
    assert sorted(named) == sorted(".".join(folder.relative_to(ROOT).parts) for folder in found)
