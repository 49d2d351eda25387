"""The exit codes of docs/measuring.md: one for each kind of error, 1 only for regressions."""

from __future__ import annotations

import pytest

from bench import errors
from bench.errors import PressbenchError

CODES = {
    "Regression": 1,
    "InvalidInput": 2,
    "Damaged": 2,
    "OtherNetwork": 2,
    "Unsupported": 2,
    "Unavailable": 3,
    "DatabaseAway": 3,
    "DiskFull": 3,
    "CellFailed": 3,
    "BoardBusy": 3,
    "BoardLost": 3,
    "LeaseLost": 3,
    "Untrusted": 4,
}
KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PressbenchError) and kind is not PressbenchError
}


def test_every_kind_of_error_has_its_code_here():
    assert set(CODES) == KINDS


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_an_error_ends_a_command_with_the_code_of_its_kind(kind, code):
    assert getattr(errors, kind).exit_code == code
