"""Users' own networks, data and tasks, from the command line to the CSV's score through every kind of step."""

from __future__ import annotations

import pytest
import quick_run
from own_networks import write_answers, write_pairs, write_series, write_words
from quick_run import settle
from task_networks import masks, numbers

TRAIN = "finetune(epochs=40, learning_rate=0.01)"
WORKED = {
    "tokens": ("own_networks:tokens", write_words, "classification", "neurons(amount=0.5)"),
    "two": ("own_networks:two", write_pairs, "classification", "neurons(amount=0.5)"),
    "series": ("own_networks:series", write_series, "classification", "channels(amount=0.5)"),
    "answers": ("own_networks:answers", write_answers, "own_networks:Both", "neurons(amount=0.5)"),
    "regression": ("task_networks:mlp", numbers, "regression", "neurons(amount=0.5)"),
    "segmentation": ("task_networks:unet", masks, "segmentation", "channels(amount=0.5)"),
    "own task": ("task_networks:mlp", numbers, "task_networks:Huber", "neurons(amount=0.5)"),
}
"""What -> model, data set, task, and the step that makes it narrower."""
SLOW = ("segmentation", "answers")
"""tests/contract/test_steps_of_tasks.py takes the steps on them too."""
IN_FLOAT = "float32"
"""In a reason: what the runtime kept in floats is named, and the cell untrusted."""


@pytest.fixture(autouse=True)
def place(cache, tmp_path, monkeypatch):
    settle(tmp_path, cache, monkeypatch)


def run(*arguments, code=0):
    return quick_run.run("--backend", "ort", *arguments, code=code)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in WORKED]
)
def test_a_users_network_is_pruned_trained_quantized_and_distilled_on_its_own_data(kind, tmp_path):
    model, make, task, narrow = WORKED[kind]
    recipes = {
        "int8": f"{narrow} + {TRAIN} + distill(epochs=1) + int8()",
        "qat": f"{TRAIN} + qat(epochs=1)",
    }
    asked = (item for text in recipes.values() for item in ("--recipe", text))
    cells = run("--model", model, "--dataset", make(tmp_path), "--task", task, *asked)
    scores = {name: float(cells[text]["score"]) for name, text in {"baseline": "baseline", **recipes}.items()}
    lower_is_better = cells["baseline"]["score_name"] in {"RMSE", "mean absolute error"}
    for name, text in recipes.items():
        cell = cells[text]
        assert cell["status"] in {"ok", "inconclusive"} or IN_FLOAT in cell["reason"], cell["reason"]
        gained = scores["baseline"] - scores[name] if lower_is_better else scores[name] - scores["baseline"]
        assert gained > 0, scores
        assert float(cell["score_drop"]) == pytest.approx(-gained, rel=1e-4, abs=1e-6)
        assert cell["calibration"].startswith("96 samples of the training set")


def test_an_lstm_that_int8_leaves_in_float_is_named(tmp_path):
    cells = run("--model", "own_networks:series", "--dataset", write_series(tmp_path), "--recipe", "int8()")
    assert "stayed float32 although keep_float does not name them: node_lstm" in cells["int8()"]["reason"]


def test_a_function_of_named_inputs_in_any_order_trains_a_network_of_two():
    text = f"student(model='own_networks:tokens') + {TRAIN}"
    cells = run("--model", "own_networks:tokens", "--dataset", "own_networks:word_samples", "--recipe", text)
    assert float(cells[text]["accuracy"]) > 0.9
    assert cells["baseline"]["data"] == "own_networks:word_samples"


def test_a_data_set_that_does_not_fit_the_inputs_is_refused_with_a_remedy_that_works(tmp_path, capsys):
    asked = ("--model", "own_networks:tokens", "--dataset", write_series(tmp_path))
    run(*asked, code=2)
    said = capsys.readouterr().err
    assert "and mask is not given: data set" in said
    assert "x_train.ids, x_train.mask" in said
    run("--model", "own_networks:tokens", "--dataset", write_pairs(tmp_path), code=2)
    said = capsys.readouterr().err
    assert "names its inputs left, right, and forward takes ids, mask: name them alike" in said
    run("--model", "own_networks:tokens", "--dataset", write_words(tmp_path), "--input", "ids=N,8:int64", code=2)
    assert "gives the inputs (mask=N,8:int64, ids=N,8:int64): leave --input out" in capsys.readouterr().err
    run("--model", "resnet8", "--dataset", write_words(tmp_path), code=2)
    assert "takes one input of floats" in capsys.readouterr().err
