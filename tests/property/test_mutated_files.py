"""A file with flipped, cut, removed or repeated bytes is read or refused by name: no other error, no crash, no hang.

The mutations of one kind of file run in one process of their own, so that a crash cannot take the tests down.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.cost.count import cost_of
from bench.data.datasets import load_data
from bench.errors import InvalidInput
from bench.formats import onnx_inputs, tflite_inputs
from bench.formats.onnx_file import read_onnx
from bench.formats.tflite_file import read_tflite
from tests.limited import answer_of

if TYPE_CHECKING:
    from torch.nn import Module

BYTES = (0, 1, 127, 128, 255)
HEAD = 3000
"""Where the tables of a file are: half of the flips fall there, because most other bytes are weights."""


def damage(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    kind = rng.choice(["flip", "flip", "flip", "cut", "remove", "repeat"])
    place, size = rng.randrange(len(changed)), rng.randrange(1, 200)
    if kind == "cut":
        return bytes(changed[:place])
    if kind == "remove":
        del changed[place : place + size]
    elif kind == "repeat":
        changed[place:place] = changed[place : place + size]
    else:
        end = rng.choice([len(changed), min(len(changed), HEAD)])
        for _ in range(rng.choice([1, 2, 5, 20])):
            changed[rng.randrange(end)] = rng.choice([*BYTES, rng.randrange(256)])
    return bytes(changed)


def read_as_onnx(file: Path) -> None:
    onnx_inputs.declared_inputs(read_onnx(file)[0], file)


def read_as_tflite(file: Path) -> None:
    tflite_inputs.declared_inputs(read_tflite(file), file)


def read_as_data(file: Path) -> None:
    load_data(str(file))


def fill(file: Path) -> None:
    from bench.models.checkpoint import load_weights

    load_weights(small(), file)


READERS: dict[str, Sequence[Callable[[Path], object]]] = {
    ".onnx": (cost_of, read_as_onnx),
    ".tflite": (cost_of, read_as_tflite),
    ".npz": (read_as_data,),
    ".pt": (fill,),
    ".safetensors": (fill,),
}


def hunt(sources: Sequence[str], folder: str, count: int) -> None:
    """Runs in the child: prints how many reads ended well and how many were refused."""
    read = refused = 0
    for number in range(count):
        rng = random.Random(number)
        source = Path(rng.choice(sources))
        file = Path(folder) / f"damaged{source.suffix}"
        file.write_bytes(damage(source.read_bytes(), rng))
        for reader in READERS[source.suffix]:
            complaint = complaint_of(reader, file)
            assert not complaint or str(file) in complaint, complaint
            read, refused = read + (not complaint), refused + bool(complaint)
    print(read, refused)


def complaint_of(reader: Callable[[Path], object], file: Path) -> str:
    try:
        reader(file)
    except InvalidInput as error:
        return str(error)
    return ""


def small() -> Module:
    """Imports torch only where weights are read: the other formats need not wait for it."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


def own_onnx(file: Path) -> None:
    """Control flow, a function, constants of several kinds."""
    value = helper.make_tensor_value_info("then", TensorProto.FLOAT, [1, 4])
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(operator, ["h"], ["then"])], name, [], [value])
        for name, operator in (("then", "Relu"), ("else", "Neg"))
    }
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    double = helper.make_function("own", "double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("double", ["m"], ["h"], domain="own"),
        helper.make_node("If", ["c"], ["y"], **branches),
    ]
    constants = {"q": np.arange(-8, 8, dtype=np.int8).reshape(4, 4), "s": np.float32(0.5), "c": np.array(True)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    model = helper.make_model(graph, opset_imports=opsets, functions=[double], ir_version=10)
    file.write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("whole")
    own_onnx(folder / "own.onnx")
    state = small().state_dict()
    torch.save(state, folder / "w.pt")
    save_file(state, folder / "w.safetensors")
    x, y = np.ones((6, 1, 5, 5), np.float32), np.arange(6) % 3
    np.savez_compressed(folder / "packed.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(folder / "plain.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in READERS}


@pytest.mark.parametrize("suffixes", [(".onnx", ".tflite", ".npz"), (".pt", ".safetensors")], ids=" ".join)
def test_every_mutation_is_read_or_refused_by_name(
    sources: dict[str, list[Path]], onnx_cases: Path, tflite_cases: Path, tmp_path: Path, suffixes: tuple[str, ...]
):
    cases = sorted([*onnx_cases.glob("*.onnx"), *tflite_cases.glob("*.tflite")])
    files = [str(file) for suffix in suffixes for file in (*sources[suffix], *cases) if file.suffix == suffix]
    code = f"from tests.property.test_mutated_files import hunt; hunt({files!r}, {str(tmp_path)!r}, 250)"
    said, _ = answer_of(code, memory=8 * 2**30, seconds=120)
    read, refused = map(int, said.split())
    assert read > 10
    assert refused > 100
