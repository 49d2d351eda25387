"""Series of many nights, searched for changes by the workers of a cluster. The answers are those of this host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import bench
from bench import stats
from bench.cache import key
from bench.line.cluster.waiting import Waiting
from bench.line.cluster.workers import ask_workers, connect, is_local
from bench.models.sources import package_digests
from bench.plugins import installed_version
from bench.stats.changes import Change, Question, answer

TOGETHER = 16
"""Series of one task: a quiet one of a year takes 13 ms, one with a new step 0.5 s."""


@contextmanager
def open_searcher(
    where: str, note: Callable[[str], None]
) -> Iterator[Callable[[Sequence[Question]], list[list[Change]]]]:
    """What answers questions on the cluster at `where`, as `bench.stats.changes.answer` does here.

    Raises `Unavailable` and `InvalidInput` as `open_cluster`; no cache is needed.
    """
    with connect(where) as client:
        if not is_local(where):
            ask_workers(client, where, describe_searcher, describe_searcher()["versions"])
        yield partial(answer_elsewhere, client, note)


def describe_searcher() -> dict[str, Any]:
    """Runs on a worker: what decides the bits of an answer, besides its processor."""
    return {
        "versions": {
            "pressbench": bench.__version__,
            "Python": ".".join(map(str, sys.version_info[:2])),
            "numpy": installed_version("numpy"),
            "code": key(code=package_digests(Path(stats.__file__).parent))[:12],
        }
    }


def answer_elsewhere(client: Any, note: Callable[[str], None], questions: Sequence[Question]) -> list[list[Change]]:
    """The answers in order. What the workers do not answer, this host does, and says so once."""
    parts = [questions[start : start + TOGETHER] for start in range(0, len(questions), TOGETHER)]
    tasks = [client.submit(answer, part, pure=False) for part in parts]
    waiting, found, noted = Waiting(client), list[list[Change]](), False
    for part, task in zip(parts, tasks, strict=True):
        why = waiting.wait(task)
        if why and not noted:
            note(f"cluster: {why}; what it does not search is searched here")
            noted = True
        found += answer(part) if why else task.result()
    return found
