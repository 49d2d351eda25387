"""How far outputs are from the reference, relative to their own spread."""

from __future__ import annotations

import numpy as np
import pytest

from bench.device.outputs import Output
from bench.errors import CellFailed
from bench.line.judged.distance import compare_outputs, find_far, match_outputs, measure_own_spread

RNG = np.random.default_rng(0)
Y = RNG.normal(3, 1, (64, 10)).astype(np.float32)


def output(rows, name="y", again=None):
    return Output(name=name, rows=rows, again=again)


def compare(ours, theirs, classes=0, own=()):
    """The answer about one output."""
    return compare_outputs([output(ours)], [output(theirs)], own, classes)[0]


def far(ours, theirs, own=()):
    """The reasons against one output."""
    return find_far([compare(ours, theirs, own=own)], [output(theirs)])


def test_the_relative_error_is_that_of_the_formula():
    noise = RNG.normal(0, 0.3, Y.shape).astype(np.float32)
    found = compare(Y + noise, Y)
    spread = np.sqrt(Y.astype(float).var(axis=0).mean())
    assert found.relative_rms == pytest.approx(np.sqrt(np.square(noise.astype(float)).mean()) / spread, rel=1e-5)
    assert found.max_abs_err == pytest.approx(np.abs(noise).max(), rel=1e-5)
    assert found.compared == 64


def test_chunks_change_nothing():
    many = RNG.normal(0, 1, (1000, 3))
    assert compare(many * 1.1, many).relative_rms == pytest.approx(
        0.1 * np.sqrt(np.square(many).mean() / many.var(axis=0).mean())
    )


def test_the_spread_is_over_the_samples_and_not_between_the_places_of_a_row():
    offsets = np.linspace(-1, 1, 10)
    assert compare(Y * 0 + Y.mean(axis=0) + offsets, Y + offsets).relative_rms == pytest.approx(1.0)


def test_an_output_that_hardly_varies_is_held_to_a_tenth_of_its_magnitude():
    constant = np.full((20, 4), 5.0)
    assert compare(constant + 0.05, constant).relative_rms == pytest.approx(0.1)
    assert far(constant + 0.05, constant) == ()
    assert far(constant * 0, constant) == ("output 'y' is 10 of its own spread away from the uncompressed network's",)


def test_zeros_have_no_spread():
    zeros = np.zeros((20, 4))
    assert compare(zeros, zeros).relative_rms == 0
    assert far(zeros + 0.5, zeros) == ("output 'y' is always 0 in the uncompressed network, and up to 0.5 here",)


def test_an_empty_output_is_no_error():
    assert compare(np.zeros((8, 0)), np.zeros((8, 0))).max_abs_err == 0


def test_honest_int8_is_near_and_another_network_is_far():
    step = 8 / 255
    assert far(np.round(Y / step) * step, Y) == ()
    (reason,) = far(RNG.permutation(Y), Y)
    assert "of its own spread away" in reason


def test_scores_that_name_other_classes_are_far_though_their_error_is_small():
    scores = np.full((32, 4), 10, np.float32)
    scores[:, 0] += 1e-3
    turned = np.roll(scores, 1, axis=1)
    assert compare(turned, scores).relative_rms < 0.01
    assert far(turned, scores) == (
        "output 'y' has the same first class as the uncompressed network's for 0% of 32 samples",
    )


def test_few_samples_do_not_prove_disagreement():
    scores = np.eye(4, dtype=np.float32)[np.zeros(8, int)] * 1e-3 + 10
    assert compare(np.roll(scores, 1, axis=1), scores).agreement == 0
    assert far(np.roll(scores, 1, axis=1), scores) == ()
    sixteen = np.concatenate([scores, scores])
    assert "same first class" in far(np.roll(sixteen, 1, axis=1), sixteen)[0]


def test_half_the_samples_of_two_classes_is_chance():
    scores = np.tile(np.array([[10.0, 10.001]], np.float32), (16, 1))
    half = scores.copy()
    half[::2] = half[::2, ::-1]
    assert compare(half, scores).agreement == 0.5
    assert far(half, scores)


def test_labels_are_compared_exactly():
    labels = np.arange(20) % 3
    assert compare(labels, labels).agreement == 1
    assert far(labels, labels) == ()
    assert far((labels + 1) % 3, labels) == ("output 'y' equals the uncompressed network's in 0% of its values",)


def test_an_image_of_integers_may_be_off_by_one_everywhere():
    image = RNG.integers(0, 255, (16, 8, 8)).astype(np.uint8)
    assert compare(image + 1, image).agreement == 0
    assert far(image + 1, image) == ()


def test_a_map_of_classes_that_are_other_ones_is_far():
    classes = RNG.integers(0, 5, (16, 8, 8))
    assert far((classes + 2) % 5, classes)


def test_only_the_references_rows_are_compared():
    assert compare(np.concatenate([Y, Y + 100]), Y).max_abs_err == 0


def test_another_shape_is_an_error_that_names_the_output():
    with pytest.raises(CellFailed, match=r"output 'y' has shape \(64, 10\), the reference has \(64, 9\)"):
        compare(Y, Y[:, :9])


def test_outputs_are_matched_by_name_and_else_by_position():
    one, two = output(Y, "a"), output(Y + 1, "b")
    assert match_outputs([two, one], [one, two]) == [two, one]
    assert match_outputs([output(Y, "c"), two], [output(Y, "x")])[1] is None
    unnamed = output(Y, "")
    assert match_outputs([one], [unnamed]) == [unnamed]


def test_the_second_of_two_outputs_is_judged_too():
    good, bad, wanted = output(Y, "a"), output(-Y, "b"), output(Y, "b")
    found = compare_outputs([good, bad], [good, wanted], (), 0)
    (reason,) = find_far(found, [good, wanted])
    assert reason.startswith("output 'b'")


def test_rows_of_other_lengths_are_left_out():
    theirs = tuple(np.full((length, 4), 1.0 + length) for length in (1, 2, 3, 2))
    ours = tuple(np.full((length, 4), 1.0 + length) for length in (1, 3, 3, 1))
    found = compare(ours, theirs)
    assert (found.varying, found.compared, found.rows, found.max_abs_err) == (True, 2, 4, 0.0)
    assert not found.counts
    assert far(tuple(row + 50 for row in ours), theirs) == ()


def test_rows_that_all_have_their_reference_length_are_judged():
    theirs = tuple(np.full((length, 4), 1.0 + length) for length in (1, 2, 3, 2))
    assert compare(theirs, theirs).counts
    assert far(tuple(-row for row in theirs), theirs)


def test_random_numbers_explain_as_much_as_two_runs_differ():
    noise = [RNG.normal(0, 1, Y.shape) for _ in range(3)]
    (own,) = measure_own_spread([output(Y + noise[0], again=Y + noise[1])])
    assert own == pytest.approx(1.0, rel=0.1)
    assert compare(Y + noise[2], Y + noise[0], own=(own,)).is_own_noise
    assert far(Y + noise[2], Y + noise[0], own=(own,)) == ()
    assert far(10 * Y, Y + noise[0], own=(own,))
    assert far(Y + noise[2], Y + noise[0])


def test_the_same_output_twice_has_no_spread_of_its_own():
    assert measure_own_spread([output(Y)]) == (0.0,)
    assert not compare(Y, Y).is_own_noise
