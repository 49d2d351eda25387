"""The weights file of a compressed model: it lies beside the ONNX file, says the same, and is what is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from small_network import MODEL, Small, settled, small_data
from torch import nn

from bench.compress.coding.entropy_read import decode_weights
from bench.compress.coding.weights_file import FILE, coded_file, uncoded_bytes, weights_file
from bench.compress.export import layer_weights
from bench.compress.interface import Network
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported
from bench.types import Compressed

Make = Callable[[str], Compressed]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("cache")
    weights = folder / "small.safetensors"
    save_file(settled().state_dict(), str(weights))

    def run(text: str) -> Compressed:
        recipe = parse_recipe("r", text)
        return compress(
            replace(MODEL, weights=weights),
            recipe,
            data=small_data(),
            cache=folder,
            seed=0,
            progress=lambda what, fraction: None,
        )

    return run


def in_onnx(file: Path) -> dict[str, np.ndarray]:
    return {name: onnx.numpy_helper.to_array(item) for name, item in layer_weights(onnx.load(file).graph).items()}


@pytest.mark.parametrize(
    "text", ["prune(amount=0.8)", "share(bits=2)", "hashed(ratio=0.1)", "prune(amount=0.8) + share(bits=2)"]
)
def test_the_file_holds_the_weights_of_the_onnx_file_to_the_bit_and_its_size_is_counted(make: Make, text: str):
    made = make(f"{text} + finetune(epochs=1)")
    file = coded_file(made)
    assert made.entropy_bytes == file.stat().st_size < uncoded_bytes(Network(module=Small()))
    decoded, exported = decode_weights(file.read_bytes()), in_onnx(made.files["onnx"])
    for name in ("fc1", "fc2", "depthwise"):  # BatchNorm is folded into the others on export
        weight = decoded[f"{name}.weight"]
        same = exported[name] if exported[name].shape == weight.shape else exported[name].T
        assert np.ascontiguousarray(same).tobytes() == weight.tobytes()
    module = Small()
    missing, unexpected = module.load_state_dict({k: torch.from_numpy(v) for k, v in decoded.items()}, strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)


def test_what_is_pruned_and_shared_more_takes_fewer_bytes(make: Make):
    most = "amount=0.9, scope='layer'"
    sizes = [
        make(text).entropy_bytes
        for text in ("", "prune(amount=0.5)", f"prune({most})", f"prune({most}) + share(bits=2)")
    ]
    assert all(size is not None for size in sizes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 4


def test_weights_with_nothing_to_gain_are_counted_and_not_written_a_second_time(make: Make):
    made = make("")
    numbers = sum(value.numel() for name, value in Small().state_dict().items() if "num_batches" not in name)
    assert 4 * numbers < made.entropy_bytes < 4 * numbers + 400
    assert not made.files["onnx"].with_name(FILE).exists()
    with pytest.raises(Unsupported, match="coding gains nothing"):
        coded_file(made)


def test_weights_the_runtime_quantizes_have_no_entropy_coded_size_and_a_reason(make: Make):
    made = make("prune(amount=0.8) + dynamic_int8")
    assert made.entropy_bytes is None
    assert "quantizes" in made.notes["entropy"]
    with pytest.raises(Unsupported, match="no coded weights: the runtime quantizes"):
        coded_file(made)


def test_no_zero_of_a_pruned_layer_is_a_negative_one(make: Make):
    exported = in_onnx(make("prune(amount=0.7) + finetune(epochs=1)").files["onnx"])
    zeros = np.concatenate([exported[name][exported[name] == 0] for name in ("fc1", "fc2", "depthwise")])
    assert len(zeros) > 500
    assert not np.signbit(zeros).any()


def test_a_weight_two_layers_have_in_common_is_held_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(30, 30, bias=False)
            self.second = nn.Linear(30, 30, bias=False)
            self.second.weight = self.first.weight

    assert list(decode_weights(weights_file(Network(module=Tied())))) == ["first.weight"]
