"""Series searched for changes by Dask workers: the same answers, whatever becomes of the workers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bench.errors import InvalidInput, Unavailable
from bench.line.cluster import series, waiting, workers
from bench.line.cluster.series import answer_elsewhere, describe_searcher, open_searcher
from bench.stats import changes
from bench.stats.changes import Question, answer


@pytest.fixture
def questions() -> list[Question]:
    """More than a task takes: quiet, with a new step, with an old one, and too short for any."""
    random = np.random.default_rng(0)
    kinds = {"quiet": (60, 60), "new": (60, 55), "old": (60, 20), "short": (3, 3)}
    found = []
    for number in range(series.TOGETHER // 2):
        for points, step in kinds.values():
            values = random.normal(1.0, 0.01, points)
            values[step:] *= 1.1
            found.append(Question(values=tuple(values.tolist()), seed=number, exact_from=points - 14))
    return found


class Here:
    """A client whose tasks run in this process; every second is lost with its worker, where `loses`."""

    def __init__(self, *, loses: bool = False, works: bool = True) -> None:
        self.loses, self.works, self.asked = loses, works, 0

    def submit(self, function, part, *, pure: bool) -> SimpleNamespace:
        assert not pure
        self.asked += 1
        lost = self.loses and self.asked % 2 == 0

        def result(timeout: float = 0.0) -> object:
            if lost:
                raise OSError("worker lost")
            if not self.works:
                raise TimeoutError
            return function(part)

        return SimpleNamespace(result=result, done=lambda: self.works)

    def scheduler_info(self) -> dict:
        return {"workers": {}}


def test_questions_go_out_in_parts_and_answers_come_in_their_order(questions):
    noted: list[str] = []
    client = Here()
    assert answer_elsewhere(client, noted.append, questions) == answer(questions)
    assert (client.asked, noted) == (2, [])
    assert answer_elsewhere(client, noted.append, []) == []


@pytest.mark.parametrize(
    ("client", "why"), [(Here(loses=True), "OSError: worker lost"), (Here(works=False), "no worker for 0.01 s")]
)
def test_what_workers_do_not_answer_is_answered_here_and_said_once(client, why, questions, monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_S", 0.001)
    monkeypatch.setattr(waiting, "WITHOUT_WORKERS_S", 0.01)
    noted: list[str] = []
    assert answer_elsewhere(client, noted.append, questions) == answer(questions)
    assert noted == [f"cluster: {why}; what it does not search is searched here"]


def test_workers_of_another_version_are_refused():
    theirs = {"versions": {**describe_searcher()["versions"], "numpy": "1.0"}}
    client = SimpleNamespace(run=lambda *_, **__: {"w1": theirs})
    ours = describe_searcher()["versions"]
    with pytest.raises(InvalidInput, match=r"worker w1 has numpy 1\.0, here .*: install the same"):
        workers.ask_workers(client, "tcp://s:8786", describe_searcher, ours)
    nobody = SimpleNamespace(run=lambda *_, **__: {})
    with pytest.raises(Unavailable, match="the scheduler has no workers"):
        workers.ask_workers(nobody, "tcp://s:8786", describe_searcher, ours)


@pytest.mark.slow
def test_a_cluster_answers_bit_for_bit_as_this_process(questions, monkeypatch):
    pytest.importorskip("distributed", reason="pip install 'pressbench[cluster]'")
    here, noted = answer(questions), list[str]()
    monkeypatch.setattr(changes, "find_changes", lambda *_, **__: pytest.fail("searched here"))
    with open_searcher("local:2", noted.append) as search:
        assert search(questions) == here
    assert noted == []
    assert any(here)
