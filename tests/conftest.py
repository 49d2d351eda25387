"""Fixtures every test may use: the shared data, a PostgreSQL server, a cache that lives as long as the test run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import sshd
from hypothesis import settings
from needs import lacking, shared

from bench.data.datasets import Dataset, load_data

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run beside each other: two torch pools fight for the cores

settings.register_profile("untimed", deadline=None)  # a deadline would be a timed assertion
settings.load_profile("untimed")


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
def digits() -> Dataset:
    return load_data("digits", None)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty artifact cache shared by the tests of one run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database: the one PRESSBENCH_TEST_POSTGRES names, or a server of this test run's own."""
    asked = os.environ.get("PRESSBENCH_TEST_POSTGRES")
    if asked:
        yield asked
        return
    pytest.importorskip("psycopg", reason="pip install 'pressbench[postgres]'")
    if reason := postgres.missing():
        lacking("postgres", reason)
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Double]:
    """A board's double that answers; tests that break one start their own."""
    if reason := sshd.missing():
        lacking("sshd", reason)
    with sshd.running(tmp_path_factory.mktemp("double")) as double:
        yield double
