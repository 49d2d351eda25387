"""Recipes that begin alike train their beginning once, and get the bytes they would have got alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file
from small_network import MODEL, settled, small_data

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.types import Compressed, Model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    file = tmp_path / "small.safetensors"
    save_file(settled().state_dict(), str(file))
    return replace(MODEL, weights=file)


def make(text: str, model: Model, cache: Path, seed: int = 0) -> tuple[Compressed, list[str]]:
    """What a recipe gives, and which steps trained for it."""
    said: list[str] = []
    result = compress(
        model,
        parse_recipe("r", text),
        data=small_data(),
        cache=cache,
        seed=seed,
        progress=lambda what, fraction: said.append(what),
    )
    return result, [what for what in dict.fromkeys(said) if ":" not in what]


BEGINNING = "channels(amount=0.5) + prune(amount=0.5) + finetune(epochs=1)"


def test_a_longer_recipe_goes_on_from_what_a_shorter_one_trained(model: Model, tmp_path: Path):
    assert make(BEGINNING, model, tmp_path / "shared")[1] == ["finetune(epochs=1)"]
    longer = f"{BEGINNING} + prune(amount=0.7) + finetune(epochs=3, learning_rate=0.01)"
    shared, trained = make(longer, model, tmp_path / "shared")
    assert trained == ["finetune(epochs=3, learning_rate=0.01)"]
    alone, trained_alone = make(longer, model, tmp_path / "alone")
    assert len(trained_alone) == 2
    assert shared.digest == alone.digest
    assert shared.notes == alone.notes
    assert shared.notes["sparsity"] == pytest.approx(0.7, abs=1e-3)


def test_masks_of_a_kept_training_hold_in_what_follows(model: Model, tmp_path: Path):
    make("iterative(to=0.8, steps=2, scope='layer')", model, tmp_path)
    result, trained = make("iterative(to=0.8, steps=2, scope='layer') + finetune(epochs=3)", model, tmp_path)
    assert trained == ["finetune(epochs=3)"]
    assert result.notes["sparsity"] == pytest.approx(0.8, abs=1e-2)


@pytest.mark.parametrize("other", ["prune(amount=0.51) + finetune(epochs=1)", "finetune(epochs=1)"])
def test_what_came_before_or_another_seed_makes_it_another_training(other: str, model: Model, tmp_path: Path):
    make("prune(amount=0.5) + finetune(epochs=1)", model, tmp_path)
    assert make(f"{other} + prune(amount=0.6)", model, tmp_path)[1] == ["finetune(epochs=1)"]
    again = "prune(amount=0.5) + finetune(epochs=1) + prune(amount=0.6)"
    assert make(again, model, tmp_path, seed=1)[1] == ["finetune(epochs=1)"]
    assert make(again, model, tmp_path)[1] == []


def test_a_damaged_kept_training_is_done_anew(model: Model, tmp_path: Path):
    make(BEGINNING, model, tmp_path)
    (kept,) = (tmp_path / "trained").rglob("network.safetensors")
    kept.write_bytes(kept.read_bytes()[:-4] + b"oops")
    result, trained = make(f"{BEGINNING} + prune(amount=0.7)", model, tmp_path)
    assert trained == ["finetune(epochs=1)"]
    assert result.digest == make(f"{BEGINNING} + prune(amount=0.7)", model, tmp_path / "alone")[0].digest


def test_a_training_that_changes_the_structure_is_not_kept_and_still_right(model: Model, tmp_path: Path):
    text = "iterative(to=0.5, steps=2, granularity='channel')"
    make(text, model, tmp_path)
    assert not (tmp_path / "trained").exists()
    result, trained = make(f"{text} + prune(amount=0.5)", model, tmp_path)
    assert trained == ["finetune(epochs=1)"]
    assert "channels" in result.notes
