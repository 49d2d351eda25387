"""Outputs against labels and reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data.datasets import Dataset
from bench.data.shift import SHIFTS
from bench.errors import CellFailed
from bench.line.quality import (
    Evaluation,
    assess,
    explain_missing_accuracy,
    find_baseline_error,
    find_misfit,
    make_evaluation,
)
from bench.types import Compressed, TensorSpec

LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 2.0]])
LABELS = np.array([0, 1, 1, 1])


def images(seed: int = 0, name: str = "a") -> Dataset:
    generator = np.random.default_rng(seed)
    x = generator.random((20, 1, 8, 8)).astype(np.float32)
    y = np.arange(20) % 2
    return Dataset(name=name, x_train=x, y_train=y, x_test=x, y_test=y, classes=2)


def asked(**changes):
    return Evaluation(**{"x": LOGITS, "labels": LABELS, "parts": (("clean", 4),), "classes": 2, **changes})


def test_accuracy_is_the_share_of_right_first_classes():
    quality = assess([LOGITS], asked())
    assert quality.accuracy == 0.75
    assert quality.top1_agreement is None


def test_every_part_has_its_own_accuracy():
    both = np.concatenate([LOGITS, -LOGITS])
    quality = assess([both], asked(labels=np.concatenate([LABELS, LABELS]), parts=(("clean", 4), ("turned", 4))))
    assert quality.accuracy == 0.75
    assert quality.shifted == {"turned": 0.25}


def test_the_reference_judges_the_clean_part_only():
    both = np.concatenate([LOGITS, LOGITS + 50])
    told = asked(labels=np.concatenate([LABELS, LABELS]), parts=(("clean", 4), ("far", 4)), reference=LOGITS + 0.5)
    quality = assess([both], told)
    assert quality.output_max_abs_err == pytest.approx(0.5)
    assert quality.top1_agreement == 1.0
    assert quality.reference_accuracy == 0.75


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_is_no_output(bad):
    with pytest.raises(CellFailed, match="NaN or infinity"):
        assess([np.full((4, 2), bad)], asked())


def test_a_wrong_number_of_rows_is_an_error():
    with pytest.raises(CellFailed, match="3 outputs for 4 samples"):
        assess([LOGITS[:3]], asked())
    with pytest.raises(CellFailed, match="reference has"):
        assess([LOGITS], asked(reference=np.zeros((4, 3))))


def test_without_labels_there_is_no_accuracy_but_an_error():
    quality = assess([LOGITS], Evaluation(x=None, labels=None, parts=(), reference=LOGITS))
    assert quality.accuracy is None
    assert quality.output_max_abs_err == 0.0


def test_a_baseline_may_differ_by_rounding_and_no_more():
    close, far = asked(reference=LOGITS + 0.01), asked(reference=LOGITS + 1.0)
    assert find_baseline_error(assess([LOGITS], close), close) == ""
    assert "differ" in find_baseline_error(assess([LOGITS], far), far)


def test_a_small_output_is_held_to_its_own_scale():
    small = asked(reference=LOGITS * 1e-3)
    assert "differ" in find_baseline_error(assess([LOGITS * 1e-3 + 1e-3], small), small)
    assert find_baseline_error(assess([LOGITS * 1e-3 + 1e-6], small), small) == ""
    assert find_baseline_error(assess([LOGITS * 0], nothing := asked(reference=LOGITS * 0)), nothing) == ""


@pytest.mark.parametrize("columns", [1, 3, 64])
def test_an_output_that_is_no_score_of_the_classes_has_no_accuracy_with_the_reason(columns):
    outputs = np.zeros((4, columns))
    told = asked(reference=outputs)
    quality = assess([outputs], told)
    assert (quality.accuracy, quality.reference_accuracy, quality.top1_agreement) == (None, None, None)
    assert quality.output_max_abs_err == 0.0
    assert f"({columns},)" in explain_missing_accuracy([outputs], told)
    assert "2 classes" in explain_missing_accuracy([outputs], told)
    assert explain_missing_accuracy([LOGITS], asked()) == ""
    assert "drawn inputs" in explain_missing_accuracy([LOGITS], Evaluation(x=None, labels=None, parts=()))


def test_the_classes_are_the_data_sets():
    assert make_evaluation(images(), None, shifts=False, seed=0, limit=0).classes == 2


def test_shifts_and_another_data_set_are_parts_of_their_own():
    found = make_evaluation(images(), images(1, "b"), shifts=True, seed=0, limit=6)
    assert [name for name, _ in found.parts] == ["clean", *SHIFTS, "b"]
    assert len(found.x) == len(found.labels) == 6 * (len(SHIFTS) + 2)
    again = make_evaluation(images(), images(1, "b"), shifts=True, seed=0, limit=6)
    assert np.array_equal(found.x, again.x)
    assert not np.array_equal(found.x[:6], found.x[6:12])


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
def test_a_network_is_judged_on_data_it_can_take_and_calibrated_on_no_other(files, dtype, shape, why):
    spec = TensorSpec(name="x", shape=shape, dtype=dtype)
    source = Compressed(model="m", recipe="r", files=dict.fromkeys(files, Path()), inputs=(spec,), digest="")
    found = make_evaluation(images(), None, shifts=False, seed=0, limit=0, unfit=find_misfit(source, images()))
    assert why in found.unfit
    assert bool(found.unfit) == bool(why) == (found.x is None)
    assert why in explain_missing_accuracy([np.zeros((1, 2))], found)
