"""The way of one cell, as the docstring of `bench.line` lists it."""

from __future__ import annotations

import re
from importlib import import_module

import bench.line


def test_every_function_on_the_way_exists():
    steps = re.findall(r"^(\d+)\. `([\w.]+):([\w.]+)`", bench.line.__doc__ or "", re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) > 20
    for _, module, name in steps:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), f"{module}:{name}"
