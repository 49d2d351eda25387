"""A user's functions around an inference: how they are called and timed, and what is said when they cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.device.processing import LEAST_ROUNDS, WARM_UP, check_functions, load_function, time_end_to_end
from bench.device.timing import RunQueue
from bench.errors import InvalidInput

FUNCTIONS = """
import time
import numpy as np
CALLS = []

def before(raw):
    CALLS.append(("before", {name: array.shape for name, array in raw.items()}))
    return {"x": np.ascontiguousarray(raw["x"] / 2)}

def after(outputs):
    CALLS.append(("after", outputs[0].copy()))
    return outputs[0].argmax(axis=1)

def in_place(raw):
    raw["x"] /= 2
    return raw

def broken(outputs):
    return outputs[0]["boxes"]

NOT_ONE = 3
"""


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "fakes"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    monkeypatch.delitem(sys.modules, "around", raising=False)
    (tmp_path / "around.py").write_text(FUNCTIONS)
    (tmp_path / "needy.py").write_text("import no_such_camera\n\ndef before(raw):\n    return raw\n")
    from fake_session import FakeSession

    model = tmp_path / "model.json"
    model.write_text(json.dumps({"gain": 2.0, "busy": 10}))
    return FakeSession.open(model, threads=1, batch=2, options={})


def timed(session, before="", after=""):
    feed = {"x": np.ones((2, 4), np.float32)}
    return time_end_to_end(session, feed, (before, after), 0.0, 1000, RunQueue(Path("/")))


def test_each_round_runs_both_functions_around_one_inference(session):
    found = timed(session, "around:before", "around:after")
    assert len(found.before_ns) == len(found.infer_ns) == len(found.after_ns) == LEAST_ROUNDS
    assert min(found.before_ns + found.infer_ns + found.after_ns) > 0
    calls = sys.modules["around"].CALLS
    assert [name for name, _ in calls] == ["before", "after"] * (WARM_UP + LEAST_ROUNDS)
    assert calls[-2][1] == {"x": (2, 4)}
    np.testing.assert_array_equal(calls[-1][1], [[4, 1, 1], [4, 1, 1]])  # halved, then doubled by the network


def test_one_function_is_enough(session):
    assert len(timed(session, after="around:after").before_ns) == LEAST_ROUNDS
    assert len(timed(session, before="around:before").after_ns) == LEAST_ROUNDS


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("around:in_place", "", r"around:in_place raised ValueError: .*read-only \(around.py, line 15\)"),
        ("", "around:broken", r"around:broken raised IndexError: .* \(around.py, line 19\)"),
    ],
)
def test_what_they_raise_names_them_and_the_line(session, before, after, words):
    with pytest.raises(InvalidInput, match=words):
        timed(session, before, after)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("needy:before", r"needy:before cannot be imported on the device: No module named 'no_such_camera'.*numpy"),
        ("around:nothing", "around:nothing: the module around has no function 'nothing'"),
        ("around:NOT_ONE", "has no function 'NOT_ONE'"),
    ],
)
def test_one_that_cannot_be_imported_is_said_before_anything_is_measured(session, path, words):
    with pytest.raises(InvalidInput, match=words):
        load_function(path)
    with pytest.raises(InvalidInput, match=words):
        check_functions(("around:before", path))
    assert "needy" not in sys.modules


def test_functions_that_are_there_pass_the_check_and_none_need_none(session):
    check_functions(("around:before", "around:after"))
    check_functions(("", ""))
    assert "around" not in sys.modules
