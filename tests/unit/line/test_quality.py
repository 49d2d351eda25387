"""Outputs against labels and reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.compress.calibration import misfit
from bench.data.datasets import Dataset
from bench.data.parts import ArrayPart
from bench.data.shift import SHIFTS
from bench.device.outputs import Output
from bench.errors import CellFailed
from bench.line.judged.assess import assess
from bench.line.judged.baseline import find_baseline_error, find_chance
from bench.line.judged.evaluation import Evaluation, find_misfit, keep_clean, make_evaluation
from bench.line.judged.notes import explain_chance, explain_missing, explain_missing_accuracy
from bench.records import Quality
from bench.types import Compressed, Model, TensorSpec

LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 2.0]])
LABELS = np.array([0, 1, 1, 1])


def images(seed: int = 0, name: str = "a") -> Dataset:
    generator = np.random.default_rng(seed)
    x = generator.random((20, 1, 8, 8)).astype(np.float32)
    y = np.arange(20) % 2
    return Dataset(name=name, train=ArrayPart((x,), y), test=ArrayPart((x,), y), classes=2)


def given(*arrays, names=("y", "z")):
    """Outputs of a file."""
    return tuple(Output(name=name, rows=rows) for name, rows in zip(names, arrays, strict=False))


def asked(**changes):
    if isinstance(changes.get("reference"), np.ndarray):
        changes["reference"] = given(changes["reference"])
    return Evaluation(**{"inputs": (LOGITS,), "targets": LABELS, "parts": (("clean", 4),), "classes": 2, **changes})


def test_accuracy_is_the_share_of_right_first_classes():
    quality = assess(given(LOGITS), asked())
    assert quality.accuracy == 0.75
    assert quality.top1_agreement is None


def test_every_part_has_its_own_accuracy():
    both = np.concatenate([LOGITS, -LOGITS])
    quality = assess(given(both), asked(targets=np.concatenate([LABELS, LABELS]), parts=(("clean", 4), ("turned", 4))))
    assert quality.accuracy == 0.75
    assert quality.shifted == {"turned": 0.25}


def test_the_reference_judges_the_clean_part_only():
    both = np.concatenate([LOGITS, LOGITS + 50])
    told = asked(targets=np.concatenate([LABELS, LABELS]), parts=(("clean", 4), ("far", 4)), reference=LOGITS + 0.5)
    quality = assess(given(both), told)
    assert quality.output_max_abs_err == pytest.approx(0.5)
    assert quality.top1_agreement == 1.0
    assert quality.reference_accuracy == 0.75


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_is_no_output(bad):
    with pytest.raises(CellFailed, match="NaN or infinity"):
        assess(given(np.full((4, 2), bad)), asked())


def test_the_output_that_is_no_number_is_named():
    with pytest.raises(CellFailed, match="output 'z' holds NaN or infinity"):
        assess(given(LOGITS, (np.ones(2), np.array([np.nan]))), asked())


def test_the_scores_are_found_by_their_shape_and_not_by_their_place():
    labels = LOGITS.argmax(axis=1)
    quality = assess(given(labels, LOGITS), asked(reference=given(labels, -LOGITS)))
    assert quality.accuracy == 0.75
    assert quality.reference_accuracy == 0.25
    assert quality.top1_agreement == 0.0
    assert [one.agreement for one in quality.outputs] == [1.0, 0.0]
    assert [one.redeemed for one in quality.outputs] == [True, True]


def test_labels_give_an_accuracy_where_there_are_no_scores():
    labels = LOGITS.argmax(axis=1)
    quality = assess(given(np.zeros((4, 7)), labels), asked(reference=given(np.zeros((4, 7)), labels)))
    assert quality.accuracy == 0.75
    assert quality.top1_agreement == 1.0
    assert [one.redeemed for one in quality.outputs] == [False, True]


@pytest.mark.parametrize("values", [[0, 1, 2, 1], [0, -1, 1, 1]])
def test_integers_that_are_none_of_the_classes_are_no_labels(values):
    found = given(np.array(values))
    assert assess(found, asked()).accuracy is None
    assert "2 classes" in explain_missing_accuracy(found, asked())


def test_the_reference_of_the_clean_part_is_that_part_of_the_baselines_outputs():
    told = asked(parts=(("clean", 4), ("far", 2)))
    (rows, whole) = keep_clean(given(np.arange(6), np.ones((1, 3))), told)
    assert rows.rows.tolist() == [0, 1, 2, 3]
    assert whole.rows.shape == (1, 3)


def test_an_accuracy_of_guessing_is_said_where_the_baseline_does_not_guess():
    told = asked(classes=10, parts=(("clean", 360),))
    assert explain_chance(0.11, 0.97, told).startswith("its accuracy of 11.0% is that of guessing among 10 classes")
    assert explain_chance(0.3, 0.97, told) == ""
    assert explain_chance(0.1, 0.1, told) == ""
    assert explain_chance(None, 0.97, told) == ""


def test_an_uncompressed_file_is_not_blamed_for_its_own_randomness():
    told = asked(reference=LOGITS + 1.0, own_spread=(2.0,))
    assert find_baseline_error(assess(given(LOGITS), told), told) == ""


def test_a_wrong_number_of_rows_is_an_error():
    with pytest.raises(CellFailed, match="3 outputs for 4 samples"):
        assess(given(LOGITS[:3]), asked())
    with pytest.raises(CellFailed, match="reference has"):
        assess(given(LOGITS), asked(reference=np.zeros((4, 3))))


def test_without_labels_there_is_no_accuracy_but_an_error():
    quality = assess(given(LOGITS), Evaluation(inputs=(), targets=None, parts=(), reference=given(LOGITS)))
    assert quality.accuracy is None
    assert quality.output_max_abs_err == 0.0


def test_a_baseline_may_differ_by_rounding_and_no_more():
    close, far = asked(reference=LOGITS + 0.01), asked(reference=LOGITS + 1.0)
    assert find_baseline_error(assess(given(LOGITS), close), close) == ""
    assert "differ" in find_baseline_error(assess(given(LOGITS), far), far)


def test_a_small_output_is_held_to_its_own_scale():
    small = asked(reference=LOGITS * 1e-3)
    assert "differ" in find_baseline_error(assess(given(LOGITS * 1e-3 + 1e-3), small), small)
    assert find_baseline_error(assess(given(LOGITS * 1e-3 + 1e-6), small), small) == ""
    assert find_baseline_error(assess(given(LOGITS * 0), nothing := asked(reference=LOGITS * 0)), nothing) == ""


@pytest.mark.parametrize("columns", [1, 3, 64])
def test_an_output_that_is_no_score_of_the_classes_has_no_accuracy_with_the_reason(columns):
    outputs = np.zeros((4, columns))
    told = asked(reference=outputs)
    quality = assess(given(outputs), told)
    assert (quality.accuracy, quality.reference_accuracy, quality.top1_agreement) == (None, None, None)
    assert quality.output_max_abs_err == 0.0
    assert f"({columns},)" in explain_missing_accuracy(given(outputs), told)
    assert "2 classes" in explain_missing_accuracy(given(outputs), told)
    assert explain_missing_accuracy(given(LOGITS), asked()) == ""
    assert "drawn inputs" in explain_missing_accuracy(
        given(LOGITS), Evaluation(inputs=(), targets=None, parts=(), drawn=True)
    )


def test_the_classes_are_the_data_sets(tmp_path):
    assert make_evaluation(images(), None, shifts=False, seed=0, limit=0, folder=tmp_path).classes == 2


def test_shifts_and_another_data_set_are_parts_of_their_own(tmp_path):
    found = make_evaluation(images(), images(1, "b"), shifts=True, seed=0, limit=6, folder=tmp_path)
    assert [name for name, _ in found.parts] == ["clean", *SHIFTS, "b"]
    assert len(found.inputs[0]) == len(found.targets) == 6 * (len(SHIFTS) + 2)
    (other := tmp_path / "other").mkdir()
    again = make_evaluation(images(), images(1, "b"), shifts=True, seed=0, limit=6, folder=other)
    assert found.inputs[0].file.read_bytes() == again.inputs[0].file.read_bytes()
    assert not np.array_equal(found.inputs[0][:6], found.inputs[0][6:12])
    assert [len(one) for one in found.clean_inputs] == [6]


def test_images_are_corrupted_in_rows_and_columns_wherever_their_channels_lie(tmp_path):
    x = np.random.default_rng(0).random((20, 3, 12, 16)).astype(np.float32)
    found = []
    for name, turned in (("first", x), ("last", x.transpose(0, 2, 3, 1).copy())):
        part = ArrayPart((turned,), np.arange(20) % 2)
        data = Dataset(name=name, train=part, test=part, classes=2)
        found.append(make_evaluation(data, None, shifts=True, seed=0, limit=0, folder=tmp_path).inputs[0])
    assert found[1].shape == (20 * (1 + len(SHIFTS)), 12, 16, 3)
    np.testing.assert_array_equal(found[1][:].transpose(0, 3, 1, 2), found[0][:])


def test_images_whose_channels_are_not_certain_are_not_corrupted_with_the_reason(tmp_path):
    part = ArrayPart((np.ones((20, 8, 8, 8), np.float32),), np.arange(20) % 2)
    data = Dataset(name="cubes", train=part, test=part, classes=2)
    found = make_evaluation(data, None, shifts=True, seed=0, limit=4, folder=tmp_path)
    assert found.parts == (("clean", 4),)
    missing = explain_missing(given(LOGITS), assess(given(LOGITS), found), found)
    assert "inputs of cubes have shape (8, 8, 8), and either the first" in missing["shifted_accuracy"]
    assert not make_evaluation(data, None, shifts=False, seed=0, limit=4, folder=tmp_path).uncorrupted


def test_a_part_of_a_test_set_sorted_by_class_has_every_class_and_is_the_same_for_every_cell(tmp_path):
    x = np.random.default_rng(0).random((400, 1, 8, 8)).astype(np.float32)
    part = ArrayPart((x,), np.repeat(np.arange(10), 40))
    data = Dataset(name="sorted", train=part, test=part, classes=10)
    tried = {"shifts": False, "seed": 3, "limit": 64}
    (tmp_path / "b").mkdir()
    one, two = (make_evaluation(data, data, folder=folder, **tried) for folder in (tmp_path, tmp_path / "b"))
    assert len(set(one.targets[:64])) == 10
    assert one.targets.tolist() == two.targets.tolist() == sorted(one.targets[:64]) * 2
    places = [next(place for place in range(400) if np.array_equal(x[place], image)) for image in one.inputs[0][:64]]
    assert part.y[places].tolist() == one.targets[:64].tolist()
    assert one.source == "64 samples of the test set of sorted, drawn with seed 3"
    assert (
        make_evaluation(data, None, folder=tmp_path, **tried | {"limit": 0}).source
        == "400 samples of the test set of sorted"
    )


@pytest.mark.parametrize(
    ("files", "dtype", "shape", "why"),
    [
        (("onnx",), "float32", (-1, 1, 8, 8), ""),
        (("onnx",), "float32", (-1, 1, -1, -1), ""),
        (("onnx",), "uint8", (-1, 1, 8, 8), "takes uint8"),
        (("tflite",), "int8", (1, 1, 8, 8), ""),
        (("onnx",), "float32", (-1, 3, 8, 8), "takes float32 (3, 8, 8), the data set has float32 (1, 8, 8)"),
    ],
)
def test_a_network_is_judged_on_data_it_can_take_and_calibrated_on_no_other(tmp_path, files, dtype, shape, why):
    spec = TensorSpec(name="x", shape=shape, dtype=dtype)
    source = Compressed(model="m", recipe="r", files=dict.fromkeys(files, Path()), inputs=(spec,), digest="")
    found = make_evaluation(
        images(), None, shifts=False, seed=0, limit=0, folder=tmp_path, unfit=find_misfit(source, images())
    )
    assert why in found.unfit
    assert bool(found.unfit) == bool(why) == (not found.inputs)
    assert why in explain_missing_accuracy(given(np.zeros((1, 2))), found)


def test_few_samples_that_are_all_right_are_not_called_chance():
    model = Model(name="m", file=Path("m.onnx"), data="few")
    for size, right, told in ((1, 1, False), (5, 5, False), (6, 6, False), (20, 20, False), (20, 10, True)):
        evaluation = asked(parts=(("clean", size),), classes=2)
        found = find_chance(model, Quality(samples=size, accuracy=right / size), evaluation)
        assert bool(found) == told, (size, right, found)


def test_images_without_their_one_channel_are_told_how_to_get_it():
    flat = ArrayPart((np.zeros((20, 8, 8), np.float32),), np.arange(20) % 2)
    data = Dataset(name="flat", train=flat, test=flat, classes=2)
    assert "as x[:, None] does" in misfit((TensorSpec(name="x", shape=(-1, 1, 8, 8)),), data)
    assert "x[:, None]" not in misfit((TensorSpec(name="x", shape=(-1, 3, 8, 8)),), data)


def test_a_file_that_takes_bytes_is_told_where_they_are_taken_whole():
    assert "takes them whole: give them with --input-data" in misfit(
        (TensorSpec(name="x", shape=(-1, 1, 8, 8), dtype="uint8"),), images()
    )


def test_every_input_of_a_data_set_is_evaluated_and_each_must_fit_the_file(tmp_path):
    ids, mask = np.arange(40).reshape(20, 2), np.ones((20, 3), np.float32)
    part = ArrayPart((ids, mask), np.arange(20) % 2)
    data = Dataset(name="two", train=part, test=part, classes=2, input_names=("ids", "mask"))
    specs = [TensorSpec(name="ids", shape=(-1, 2), dtype="int64"), TensorSpec(name="mask", shape=(-1, 3))]
    assert misfit(tuple(specs), data) == ""
    assert "keep this order" in misfit(tuple(reversed(specs)), data)
    assert "the model has 1 inputs, the data set 2" in misfit((specs[0],), data)
    found = make_evaluation(data, None, shifts=True, seed=0, limit=5, folder=tmp_path)
    assert [x.dtype.kind for x in found.inputs] == ["i", "f"]
    assert [len(x) for x in found.inputs] == [5, 5]


def test_inputs_of_a_data_set_are_taken_by_name_or_by_number_and_never_by_the_place_of_another_name():
    ids, y = np.arange(40).reshape(20, 2), np.arange(20) % 2
    part = ArrayPart((ids, ids), y)
    specs = tuple(TensorSpec(name=name, shape=(-1, 2), dtype="int64") for name in ("ids", "mask"))

    def told(*names):
        return misfit(specs, Dataset(name="two", train=part, test=part, classes=2, input_names=names))

    assert [told(*names) for names in [(), ("0", "1"), ("1", "2"), ("ids", "mask")]] == [""] * 4
    assert "takes the inputs ids, mask, the data set has x_mask, x_ids: name them alike" in told("x_mask", "x_ids")
    assert "x_train.0, x_train.1" in told("1", "0")
    assert "keep this order" in told("mask", "ids")
