"""Samples that are drawn, and samples of a user's file."""

from __future__ import annotations

import numpy as np
import pytest

from bench.errors import InvalidInput, Unsupported
from bench.inputs.draw import CALIBRATION, describe_drawn, draw_inputs, warn_of_unbounded
from bench.inputs.given import read_given
from bench.inputs.split import split_given
from bench.types import TensorSpec

IDS = TensorSpec(name="ids", shape=(-1, 6), dtype="int64", integers=(3, 9))
MASK = TensorSpec(name="mask", shape=(-1, 6), dtype="int64", integers=(0, 1), is_mask=True)
STATE = TensorSpec(name="state", shape=(2, -1, 4), batch_axis=1)
RATE = TensorSpec(name="rate", shape=(), dtype="int64", batch_axis=None)
SPECS = (IDS, MASK, STATE, RATE)


def test_every_input_is_drawn_with_its_samples_first_and_its_own_numbers():
    ids, mask, state, rate = draw_inputs(SPECS, 50, 0, zeros=["state"])
    assert (ids.shape, mask.shape, state.shape, rate.shape) == ((50, 6), (50, 6), (50, 2, 4), (50,))
    assert (ids.min(), ids.max()) == (3, 9)
    assert not state.any()
    assert len(set(rate.tolist())) == 1, "one value serves a whole batch"


def test_a_mask_is_ones_then_zeros_and_the_first_is_all_ones():
    (mask,) = draw_inputs([MASK], 50, 0)
    assert mask[0].all()
    assert mask[:, 0].all()
    assert (np.diff(mask, axis=1) <= 0).all()
    assert not mask.all()


def test_draws_depend_on_seed_and_position_and_calibration_has_others():
    one, again, other, calibration = (
        draw_inputs([STATE, STATE], 4, seed, stream=stream)
        for seed, stream in ((1, ()), (1, ()), (2, ()), (1, CALIBRATION))
    )
    assert np.array_equal(one[0], again[0])
    assert not any(np.isin(one[0], array).any() for array in (one[1], *other, *calibration))


def test_text_cannot_be_drawn():
    with pytest.raises(Unsupported, match=r"input 's' is not numeric \(text\)"):
        draw_inputs([TensorSpec(name="s", shape=(-1, 2), dtype="object")], 2, 0)


def test_whole_numbers_without_a_bound_are_said():
    (said,) = warn_of_unbounded(SPECS)
    assert said == "integers of input 'rate' drawn from 0..127: the graph gives no bound; --input-data gives real ones"
    assert describe_drawn(SPECS, ["state"]) == (
        "ids: whole numbers 3..9, mask: mask of ones, then zeros, state: 0 at first, rate: whole numbers 0..127"
    )


def arrays(count=5, **changes):
    return {
        "ids": np.full((count, 6), 4),
        "mask": np.ones((count, 6), np.int64),
        "state": np.arange(8 * count, dtype=np.float64).reshape(count, 2, 4),
        "rate": np.array(8000),
        **changes,
    }


def given(tmp_path, specs=SPECS, optional=(), **changes):
    file = tmp_path / "own.npz"
    np.savez(file, **{name: array for name, array in arrays(**changes).items() if array is not None})
    return read_given(file, specs, optional=optional).arrays


def test_a_file_gives_samples_of_every_input_in_its_own_type(tmp_path):
    found = given(tmp_path)
    assert [array.dtype.name for array in found] == ["int64", "int64", "float32", "int64"]
    assert found[3].tolist() == [8000] * 5


def test_a_state_that_is_fed_back_begins_at_zero_where_the_file_has_none(tmp_path):
    found = given(tmp_path, optional=["state"], state=None)
    assert found[2].shape == (5, 2, 4)
    assert not found[2].any()


def test_a_model_of_one_input_takes_an_array_of_any_name(tmp_path):
    np.savez(tmp_path / "own.npz", anything=np.ones((3, 6), np.int32))
    assert read_given(tmp_path / "own.npz", [IDS]).arrays[0].dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"mask": None}, InvalidInput, "no array for input 'mask'"),
        ({"maks": np.ones(5)}, InvalidInput, "unknown input in .*own.npz 'maks'; did you mean 'mask'"),
        ({"ids": np.full((5, 7), 4)}, Unsupported, r"'ids' has shape \(5, 7\); wanted \(samples, 6\)"),
        ({"ids": np.full((4, 6), 4)}, InvalidInput, "ids has 4, .* samples; every input needs as many"),
        ({"ids": np.full((5, 6), 4.5)}, Unsupported, "holds float64 that int64 cannot"),
        ({"ids": np.full((5, 6), 2.0**70)}, Unsupported, "holds float64 that int64 cannot"),
        ({"state": np.full((5, 2, 4), np.nan)}, InvalidInput, "holds NaN or infinity"),
        ({"state": np.full((5, 2, 4), 1e300)}, Unsupported, "holds float64 that float32 cannot"),
        ({"rate": np.array(["a"])}, InvalidInput, "not numbers"),
        ({"ids": np.zeros((0, 6))}, InvalidInput, r"shape \(0, 6\); wanted at least one sample"),
        ({"state": np.zeros((5, 2, 4), np.uint8)}, Unsupported, "holds uint8, the input takes float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        given(tmp_path, **changes)


def test_no_sample_both_judges_and_calibrates(tmp_path):
    x = np.arange(7, dtype=np.float32)[:, None]
    np.savez(tmp_path / "own.npz", x=x)
    spec = TensorSpec(name="x", shape=(-1, 1))
    found = split_given(tmp_path / "own.npz", [spec], seed=3, calibrates=True)
    judging, kept = found.judges(0)[0].ravel().tolist(), found.calibration(99)[0].ravel().tolist()
    assert sorted([*judging, *kept]) == list(range(7))
    assert (len(judging), judging) == (4, sorted(judging))
    assert len(split_given(tmp_path / "own.npz", [spec], seed=3, calibrates=False).judges(0)[0]) == 7


def test_samples_that_are_fed_back_keep_their_order(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.arange(6, dtype=np.float32)[:, None])
    spec = TensorSpec(name="x", shape=(-1, 1))
    found = split_given(tmp_path / "own.npz", [spec], seed=3, calibrates=True, state=["x"])
    assert found.judges(0)[0].ravel().tolist() == [0, 1, 2]
    assert found.calibration(2)[0].ravel().tolist() == [3, 4]
