"""A network's entropy-coded weights file: which tensors it holds, and how large they are uncoded."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from bench.compress.coding.entropy import Hashing, encode_weights
from bench.compress.interface import Network
from bench.compress.notes import ENTROPY, HASHED
from bench.errors import Unsupported
from bench.types import Compressed

FILE = "weights.pbw"
"""Its name in the cache, beside the ONNX file of the same network."""
COUNTER = "num_batches_tracked"
"""BatchNorm's count of training steps, which inference does not need."""


def weights_file(network: Network) -> bytes:
    """Parameters and buffers under torch's names, each once. BatchNorm is not folded, which would hide sharing."""
    module = network.module
    names = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    state = {
        name: value.numpy(force=True)
        for name, value in module.state_dict().items()
        if name in names and not name.endswith(COUNTER)
    }
    hashed = {name: Hashing(**facts) for name, facts in network.notes.get(HASHED, {}).items()}
    return encode_weights(state, hashed)


def coded_file(source: Compressed) -> Path:
    """The coded weights of a compressed model, in the cache. Raises `Unsupported` with the reason if it has none."""
    if source.entropy_bytes is None:
        raise Unsupported(f"no coded weights: {source.notes[ENTROPY]}")
    file = source.files["onnx"].with_name(FILE)
    if not file.is_file():
        raise Unsupported(f"no coded weights: coding gains nothing, it takes {source.entropy_bytes} bytes")
    return file


def uncoded_bytes(network: Network) -> int:
    """Bytes of the parameters as they are."""
    return sum(parameter.numel() * parameter.element_size() for parameter in network.module.parameters())


@torch.no_grad()
def plain_zeros(module: nn.Module, names: list[str]) -> None:
    """Makes negative zeros, which masking leaves, positive in place, so that all zeros are one symbol."""
    for name in names:
        module.get_parameter(name).add_(0.0)
