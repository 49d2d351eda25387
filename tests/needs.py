"""What a test needs of this machine: shared data, programs; without it the test is skipped with the remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = (ROOT / os.environ.get("PRESSBENCH_DATA", "../shared")).resolve()


def shared(relative: str) -> Path:
    """A file or folder of the shared data, or a skip that says how to get it."""
    path = SHARED / relative
    if not path.exists():
        lacking("data", f"{relative} is not under {SHARED}: set PRESSBENCH_DATA to the folder that has it")
    return path


def lacking(what: str, reason: str) -> NoReturn:
    """Skips the test with the reason, or fails it where PRESSBENCH_TEST_NEEDS lists `what` (CI: nothing is skipped)."""
    if what in os.environ.get("PRESSBENCH_TEST_NEEDS", "").split(","):
        pytest.fail(f"PRESSBENCH_TEST_NEEDS asks for {what}: {reason}")
    pytest.skip(reason)
