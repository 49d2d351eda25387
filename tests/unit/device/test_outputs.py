"""Outputs of all samples: joined, repeated, written and read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.device.inputs import input_specs
from bench.device.job import Job
from bench.device.outputs import REPEATED, Output, infer_all, read_outputs, write_outputs
from bench.device.stored import write_npz
from bench.errors import InvalidInput
from bench.types import TensorSpec


class Told:
    """A session that answers as `answer` says: a tuple of arrays for the batch it is given."""

    def __init__(self, answer, batch=1, names=()):
        self.answer, self.batch, self.names, self.calls = answer, batch, names, 0

    def inputs(self):
        return (TensorSpec(name="x", shape=(self.batch, 2)),)

    def outputs(self):
        return self.names

    def run(self, feed):
        self.calls += 1
        return self.answer(feed["x"])


def infer(session, samples=5, tmp_path=None):
    job = Job(task="measure", session="", subjects=(), batch=session.batch, random_samples=samples)
    return infer_all(job, session)


def test_every_sample_has_a_row_though_the_last_batch_is_filled_up():
    session = Told(lambda x: (x * 2, x[:, 0]), batch=2, names=("double", "first"))
    (double, first), samples = infer(session)
    assert samples == len(double.rows) == len(first.rows) == 5
    assert (double.name, first.name) == ("double", "first")
    assert np.array_equal(double.rows[:, 0] / 2, first.rows)


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_an_output_without_a_batch_axis_has_a_row_per_inference(shape):
    (found,), _ = infer(Told(lambda _x: (np.ones(shape, np.float32),), batch=2))
    assert found.rows.shape == (3, *shape)


def test_a_single_value_per_sample_is_a_row_each():
    (found,), _ = infer(Told(lambda x: (x[:, 0].sum(),)))
    assert found.rows.shape == (5,)


def test_an_output_whose_length_depends_on_the_input_keeps_every_length():
    lengths = iter([3, 1, 0, 2, 1, *[3, 1]])
    (found,), _ = infer(Told(lambda x: (np.full((next(lengths), 4), x[0, 0]),)))
    assert [row.shape for row in found.rows] == [(3, 4), (1, 4), (0, 4), (2, 4), (1, 4)]
    assert found.again is None


def test_a_batch_whose_rows_vary_in_length_is_taken_apart():
    widths = iter([3, 4, 3, *[3, 4]])
    (found,), _ = infer(Told(lambda _x: (np.ones((2, next(widths))),), batch=2))
    assert [row.shape for row in found.rows] == [(3,), (3,), (4,), (4,), (3,)]


def test_a_network_that_always_says_the_same_runs_a_few_batches_more():
    session = Told(lambda x: (x,))
    (found,), _ = infer(session)
    assert session.calls == 5 + REPEATED
    assert found.again is None


def test_a_network_that_draws_random_numbers_runs_everything_twice():
    drawn = np.random.default_rng(0)
    session = Told(lambda x: (x, x + drawn.normal(size=x.shape)))
    (same, random), _ = infer(session)
    assert session.calls == 10
    assert np.array_equal(same.rows, same.again)
    assert random.again.shape == random.rows.shape
    assert not np.array_equal(random.rows, random.again)


def test_sums_in_another_order_are_no_randomness():
    drawn = np.random.default_rng(0)
    (found,), _ = infer(Told(lambda x: (x + 1e-6 * drawn.normal(size=x.shape),)))
    assert found.again is None


def test_labels_that_change_are_random_however_large_they_are():
    count = iter(range(100_000, 200_000))
    (found,), _ = infer(Told(lambda _x: (np.array([next(count)]),)))
    assert found.again is not None


def test_what_is_written_is_read_back(tmp_path):
    ragged = (np.ones((2, 3)), np.zeros((0, 3)), np.float64(7).reshape(()))
    outputs = (
        Output(name="a/b", rows=np.arange(6, dtype=np.int64)),
        Output(name="", rows=ragged, again=ragged[::-1]),
        Output(name="c", rows=np.ones((2, 2), np.float16), again=np.zeros((2, 2), np.float16)),
    )
    write_outputs(outputs, tmp_path / "o.npz")
    found = read_outputs(tmp_path / "o.npz")
    assert [one.name for one in found] == ["a/b", "", "c"]
    for one, wanted in zip(found, outputs, strict=True):
        for left, right in ((one.rows, wanted.rows), (one.again, wanted.again)):
            assert type(left) is type(right)
            if right is not None:
                assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(left, right, strict=True))


def test_a_file_that_is_none_of_ours_is_an_error(tmp_path):
    np.savez(tmp_path / "o.npz", **{"0": np.ones(3)})
    with pytest.raises(KeyError):
        read_outputs(tmp_path / "o.npz")


class Stateful:
    """A session whose state (2, batch) is fed back: it counts the calls it has seen, by sample."""

    def inputs(self):
        state = TensorSpec(name="state", shape=(2, 3), batch_axis=1)
        return (TensorSpec(name="x", shape=(3, 1)), replace(state, batch_axis=0), TensorSpec(name="rate", shape=()))

    def outputs(self):
        return ("y", "next")

    def run(self, feed):
        assert feed["rate"].shape == ()
        state = feed["state"] + 1
        return feed["x"] * feed["rate"] + state[:1].T, state


STATE = TensorSpec(name="state", shape=(2, -1), batch_axis=1)


def run_stateful(tmp_path, feedback, rate=(5.0,) * 6):
    x, state = np.zeros((6, 1), np.float32), np.zeros((6, 2), np.float32)
    write_npz(tmp_path / "e.npz", {"0": state, "1": np.array(rate, np.float32), "2": x})
    job = Job(
        task="measure",
        session="",
        subjects=(),
        batch=3,
        evaluate=str(tmp_path / "e.npz"),
        inputs=(STATE, TensorSpec(name="rate", shape=(), batch_axis=None), TensorSpec(name="x", shape=(-1, 1))),
        output_axes={"y": 0, "next": 1},
        feedback=feedback,
    )
    return infer_all(Job.from_json(job.to_json()), Stateful())


def test_a_state_is_fed_back_and_its_samples_lie_on_its_own_axis(tmp_path):
    (y, state), samples = run_stateful(tmp_path, (("next", "state"),))
    assert samples == 6
    assert y.rows.ravel().tolist() == [1, 1, 1, 2, 2, 2]
    assert state.rows.shape == (6, 2)
    assert (y.again, state.again) == (None, None)


def test_without_feedback_each_call_begins_with_the_samples_own_state(tmp_path):
    (y, _), _ = run_stateful(tmp_path, ())
    assert y.rows.ravel().tolist() == [1] * 6


@pytest.mark.parametrize(
    ("feedback", "said"),
    [
        ((("other", "state"),), "has the outputs y, next and the inputs"),
        ((("y", "state"),), r"the output is float32 \(3, 1\), the input takes float32 \(2, 3\)"),
    ],
)
def test_what_cannot_be_fed_back_is_refused(tmp_path, feedback, said):
    with pytest.raises(InvalidInput, match=said):
        run_stateful(tmp_path, feedback)


def test_an_input_without_a_batch_axis_has_one_value_in_a_batch(tmp_path):
    with pytest.raises(InvalidInput, match="'rate' has no batch axis, and its samples differ within a batch of 3"):
        run_stateful(tmp_path, (), rate=(1, 2, 3, 4, 5, 6))


def test_a_batch_that_is_not_the_files_is_refused():
    job = Job(task="measure", session="", subjects=(), batch=2, inputs=(TensorSpec(name="x", shape=(-1, 2)),))
    with pytest.raises(InvalidInput, match="its batch is not the 2 that was asked for"):
        input_specs(job, Told(lambda x: (x,), batch=4))
