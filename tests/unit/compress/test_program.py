"""A .pt2 program is a model: same names and outputs as ONNX, refused where it is damaged, hostile or in training mode."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from bench.commands.inspect import inspect_file
from bench.compress.pipeline import compress
from bench.compress.program import find_program
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput
from bench.line.plan import Request, make_plan
from bench.models.registry import resolve
from bench.types import Model, Recipe

ort = pytest.importorskip("onnxruntime")


class Two(nn.Module):
    """Two inputs, a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.first(left) + right)
        return {"scores": self.second(hidden), "size": hidden.sum(1, keepdim=True)}


EXAMPLE = (torch.randn(2, 8), torch.randn(2, 16))


def save(path: Path, module: nn.Module, *example: torch.Tensor, free: bool = True) -> Path:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example) if free else None
    torch.export.save(torch.export.export(module, example, dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    module = Two().eval()
    return save(tmp_path_factory.mktemp("two") / "net.pt2", module, *EXAMPLE), module


def made(file: Path, cache: Path, recipe: str = ""):
    asked = parse_recipe("asked", recipe) if recipe else Recipe(name="baseline")
    model = find_program(resolve(str(file), None), cache)
    return model, compress(model, asked, data=None, cache=cache, seed=0, progress=lambda *_: None)


def outputs_of(file: Path) -> list[np.ndarray]:
    session = ort.InferenceSession(str(file))
    names = [item.name for item in session.get_inputs()]
    return session.run(None, {name: value.numpy() for name, value in zip(names, EXAMPLE, strict=True)})


def test_the_onnx_form_has_the_programs_names_and_outputs_and_the_program_stays_for_torch(two, tmp_path):
    file, module = two
    model, found = made(file, tmp_path)
    graph = onnx.load(found.files["onnx"]).graph
    assert model.name == "net.pt2"
    assert found.files["pt2"] == file
    assert [item.name for item in graph.input] == ["left", "right"]
    assert [item.name for item in graph.output] == ["scores", "size"]
    assert [spec.shape for spec in found.inputs] == [(-1, 8), (-1, 16)]
    for got, wanted in zip(outputs_of(found.files["onnx"]), module(*EXAMPLE).values(), strict=True):
        np.testing.assert_allclose(got, wanted.detach().numpy(), atol=1e-5)


def test_a_step_of_ours_works_on_the_network_of_the_program(two, tmp_path):
    file, module = two
    _, found = made(file, tmp_path, "prune(amount=0.5)")
    assert found.layers == ("first", "second")
    assert found.files["pt2"] != file
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(found.files["onnx"]).graph.initializer}
    zeros = sum(int((value == 0).sum()) for name, value in weights.items() if name.endswith(".weight"))
    assert zeros == (module.first.weight.numel() + module.second.weight.numel()) // 2


def test_a_run_measures_a_program_with_every_backend_that_takes_either_form(two, tmp_path):
    request = Request(target="cpu", suite="smoke", models=(str(two[0]),), recipes=("float16",), data="")
    plan = make_plan(request, tmp_path)
    assert {cell.backend.name for cell in plan.cells} <= {"ort", "pytorch"}
    assert {cell.model.name for cell in plan.cells} == {"net.pt2"}


def test_inspect_shows_the_programs_names_and_macs(two):
    answer, _ = inspect_file(file=two[0], inputs=(), signature=None)
    assert answer["macs"] == 8 * 16 + 16 * 4
    assert [row["name"] for row in answer["ports"]] == ["left", "right", "scores", "size"]


def test_a_program_of_one_batch_keeps_it(tmp_path):
    file = save(tmp_path / "fixed.pt2", nn.Linear(3, 2).eval(), torch.zeros(1, 3), free=False)
    _, found = made(file, tmp_path / "cache")
    assert [spec.shape for spec in found.inputs] == [(1, 3)]


@pytest.mark.parametrize(
    ("layers", "culprit"),
    [
        (nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), "dropout"),
        (nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), "batch_norm"),
    ],
)
def test_a_program_in_training_mode_is_refused(layers, culprit, tmp_path):
    file = save(tmp_path / "training.pt2", layers.train(), torch.randn(4, 8))
    with pytest.raises(InvalidInput, match=rf"training\.pt2 was exported in training mode .*{culprit}.*eval\(\)"):
        find_program(Model(name="training.pt2", file=file), tmp_path / "cache")


def test_a_program_that_takes_keywords_is_refused(tmp_path):
    program = torch.export.export(Two().eval(), (EXAMPLE[0],), {"right": EXAMPLE[1]})
    torch.export.save(program, tmp_path / "named.pt2")
    with pytest.raises(InvalidInput, match="tensors in order"):
        find_program(Model(name="named.pt2", file=tmp_path / "named.pt2"), tmp_path / "cache")


def test_damaged_programs_are_refused(two, tmp_path):
    whole = two[0].read_bytes()
    for place, content in enumerate((b"", b"no archive", whole[: len(whole) // 2], whole[200:])):
        file = tmp_path / f"{place}.pt2"
        file.write_bytes(content)
        with pytest.raises(InvalidInput, match=file.name):
            find_program(Model(name=file.name, file=file), tmp_path / "cache")


def test_every_damaged_entry_is_refused_or_reads_the_same(two, tmp_path):
    with zipfile.ZipFile(two[0]) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    for name in [name for name in entries if name.endswith(".json")]:
        file = tmp_path / "broken.pt2"
        with zipfile.ZipFile(file, "w") as archive:
            for other, content in entries.items():
                archive.writestr(other, b"{}" if other == name else content)
        with pytest.raises(InvalidInput, match=r"broken\.pt2"):
            find_program(Model(name="broken.pt2", file=file), tmp_path / "cache")


def test_a_program_that_holds_a_pickle_is_refused(two, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    with zipfile.ZipFile(two[0]) as source, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as archive:
        for name in source.namelist():
            content = pickle.dumps(Evil()) if "/sample_inputs/" in name else source.read(name)
            archive.writestr(name, content)
    with pytest.raises(InvalidInput, match=r"evil\.pt2.*refused"):
        find_program(Model(name="evil.pt2", file=tmp_path / "evil.pt2"), tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


class Writes(nn.Module):
    """Adds in place to a buffer, or to its input."""

    def __init__(self, *, to_input: bool) -> None:
        super().__init__()
        self.layer, self.to_input = nn.Linear(8, 4), to_input
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mul_(2)) if self.to_input else self.layer(x) + self.calls.add_(1)


@pytest.mark.parametrize(
    ("to_input", "message"), [(False, "changes 'calls' at every call"), (True, "its input 'x' in place")]
)
def test_a_program_that_writes_into_a_buffer_or_its_input_is_refused(to_input, message, tmp_path):
    file = save(tmp_path / "writes.pt2", Writes(to_input=to_input).eval(), torch.randn(4, 8))
    with pytest.raises(InvalidInput, match=message):
        find_program(Model(name=file.name, file=file), tmp_path / "cache")


def test_a_program_that_writes_into_what_it_computed_is_taken(tmp_path):
    layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)).eval()
    _, found = made(save(tmp_path / "inside.pt2", layers, torch.randn(2, 8)), tmp_path / "cache")
    assert [spec.shape for spec in found.inputs] == [(-1, 8)]


def test_a_program_of_half_precision_is_compared_at_its_own_precision(tmp_path):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 10)).eval().half()
    _, found = made(save(tmp_path / "half.pt2", layers, torch.randn(2, 3, 16, 16).half()), tmp_path / "cache")
    assert found.inputs[0].dtype == "float16"


def test_inspect_names_the_file_of_the_user_where_sizes_are_missing(tmp_path):
    free = {0: torch.export.Dim("b"), 2: torch.export.Dim("w", min=4)}
    program = torch.export.export(nn.Conv1d(2, 2, 3).eval(), (torch.randn(2, 2, 9),), dynamic_shapes=(free,))
    torch.export.save(program, tmp_path / "free.pt2")
    answer, _ = inspect_file(file=tmp_path / "free.pt2", inputs=(), signature=None)
    assert "free.pt2: input 'input' has free sizes" in answer["ports"][0]["missing"]
    fixed, _ = inspect_file(file=tmp_path / "free.pt2", inputs=("input=N,2,9",), signature=None)
    assert fixed["macs"] == 7 * 2 * 2 * 3
