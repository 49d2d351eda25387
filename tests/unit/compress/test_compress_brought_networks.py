"""A student or teacher of a user's function counts by its weights, its file, and all that this file imports."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_network import MODEL, Small, settled, small_data

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.types import Compressed

NETS = """
from pathlib import Path

from brought_blocks import Scaled
from safetensors.torch import load_file


def small():
    network = Scaled()
    network.load_state_dict(load_file(Path(__file__).with_name("small.safetensors")))
    return network
"""
BLOCKS = """
from brought_scales import scale
from small_network import Small


class Scaled(Small):
    def forward(self, x):
        return scale(super().forward(x))
"""
SCALES = "def scale(x):\n    return {factor} * x\n"
STUDENT = "student(model='brought_nets:small')"
TAUGHT = "distill(epochs=1, alpha=0.0, teacher='brought_nets:small')"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's modules and the weights that they load lie."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "brought_nets.py").write_text(NETS)
    (tmp_path / "brought_blocks.py").write_text(BLOCKS)
    (tmp_path / "brought_scales.py").write_text(SCALES.format(factor=1.0))
    save_file(settled().state_dict(), str(tmp_path / "model.safetensors"))
    save_file(settled().state_dict(), str(tmp_path / "small.safetensors"))
    return tmp_path


def made(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Compressed, bool]:
    """What a recipe gives in a process that has not imported the user's modules, and whether a step trained for it."""
    for name in ("brought_nets", "brought_blocks", "brought_scales"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    said: list[str] = []
    found = compress(
        replace(MODEL, weights=folder / "model.safetensors"),
        parse_recipe("r", text),
        data=small_data(),
        cache=folder / "cache",
        seed=0,
        progress=lambda what, fraction: said.append(what),
    )
    return found, any(what.startswith("distill") for what in said)


def train_again(folder: Path) -> None:
    changed = settled()
    with torch.no_grad():
        changed.fc2.bias += torch.arange(4.0)
    save_file(changed.state_dict(), str(folder / "small.safetensors"))


def edit_import(folder: Path) -> None:
    (folder / "brought_scales.py").write_text(SCALES.format(factor=-1.0))


@pytest.mark.parametrize("change", [train_again, edit_import])
@pytest.mark.parametrize("text", [STUDENT, TAUGHT])
def test_other_weights_or_an_edited_import_make_other_files(text, change, folder, monkeypatch):
    first, trained = made(text, folder, monkeypatch)
    again, trained_again = made(text, folder, monkeypatch)
    assert again.files == first.files
    assert (trained, trained_again) == (text == TAUGHT, False)
    change(folder)
    other, trained = made(text, folder, monkeypatch)
    assert other.digest != first.digest
    assert trained == (text == TAUGHT)


def test_a_training_behind_a_student_of_other_weights_is_done_again(folder, monkeypatch):
    text = f"{STUDENT} + distill(epochs=1)"
    assert [made(text, folder, monkeypatch)[1] for _ in range(2)] == [True, False]
    train_again(folder)
    assert made(f"{text} + prune(amount=0.5)", folder, monkeypatch)[1]


def test_the_networks_of_a_step_are_those_of_functions(folder, context):
    steps = {
        "student(model='brought_nets:small')": 1,
        "student(model='lenet300_100(width=0.1)')": 0,
        "distill(teacher='brought_nets:small')": 1,
        "distill(teacher='lenet300_100(width=0.1)')": 0,
        "distill": 0,
        "prune(amount=0.5)": 0,
    }
    for text, count in steps.items():
        (step,) = parse_recipe("r", text).steps
        networks = step.networks(context)
        assert len(networks) == count, text
        assert all(isinstance(one, Small) for one in networks)
