"""Fixtures every test may use: the shared data, a cache that lives as long as the test run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = (ROOT / os.environ.get("PRESSBENCH_DATA", "../shared")).resolve()


settings.register_profile("untimed", deadline=None)  # a deadline would be a timed assertion
settings.load_profile("untimed")


def shared(relative: str) -> Path:
    """A file or folder of the shared data, or a skip that says how to get it."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"{relative} is not under {SHARED}: set PRESSBENCH_DATA to the folder that has it")
    return path


@pytest.fixture(scope="session")
def mnist() -> Path:
    return shared("data/mnist")


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    return shared("data/fashion-mnist")


@pytest.fixture(scope="session")
def onnx_cases() -> Path:
    return shared("cases/onnx")


@pytest.fixture(scope="session")
def tflite_cases() -> Path:
    return shared("cases/tflite")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty artifact cache shared by the tests of one run."""
    return tmp_path_factory.mktemp("cache")
