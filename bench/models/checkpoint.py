"""Reads a user's checkpoint without ever running code from it."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.errors import InvalidInput
from bench.formats.zip_archive import check_archive

# torch.load has no error class of its own. 4,500 randomly damaged files raised these.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
NESTED = ("state_dict", "model_state_dict", "model")
MAX_HEADER = 16 * 2**20
"""Bytes of a .safetensors header, which lists the tensors."""


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills `module` in place from a .safetensors file or a .pt/.pth/.ckpt state dict (plain or under `state_dict`).

    A prefix that all names share is removed, as DataParallel (`module.`) and Lightning (`model.`) write it.

    Raises `InvalidInput`: the file is missing, damaged, holds code, inflates beyond the bound of
    `bench.formats.zip_archive`, or its keys, shapes or values do not fit the network.
    """
    if not path.is_file():
        raise InvalidInput(f"weights file {path} does not exist")
    state = _tensors(_safetensors(path) if path.suffix == ".safetensors" else _pickled(path), path)
    wanted = module.state_dict()
    state = _unwrapped(state, wanted)
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(set(wanted) - set(state) - optional)
    surplus = sorted(set(state) - set(wanted))
    if missing or surplus:
        raise InvalidInput(f"{path} does not fit the network: lacks {_few(missing)}; has besides {_few(surplus)}")
    for key, tensor in state.items():
        _check_tensor(tensor, wanted[key], f"{path}: {key}")
    module.load_state_dict(state, strict=False)  # completeness was checked above


def _check_tensor(tensor: Tensor, wanted: Tensor, place: str) -> None:
    if tensor.shape != wanted.shape:
        raise InvalidInput(f"{place} has shape {tuple(tensor.shape)}, wanted {tuple(wanted.shape)}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise InvalidInput(f"{place} is a sparse, quantized or empty tensor; wanted plain numbers")
    if not torch.isfinite(tensor.to(wanted.dtype)).all():
        raise InvalidInput(f"{place} holds NaN or infinite values")


def _safetensors(path: Path) -> object:
    _check_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is not a readable safetensors file: {error}") from None


def _check_header(path: Path) -> None:
    """The first 8 bytes are the length of a JSON header, which must lie inside the file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > size - 8:
        raise InvalidInput(f"{path} is not a readable safetensors file: a header of {length} bytes in {size}")
    if length > MAX_HEADER:
        raise InvalidInput(f"{path} has a header of {length} bytes; at most {MAX_HEADER} are read")


def _pickled(path: Path) -> object:
    if path.suffix not in (".pt", ".pth", ".ckpt"):
        raise InvalidInput(f"{path}: weights are read from .safetensors, .pt, .pth or .ckpt")
    _check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InvalidInput(
            f"{path} holds more than tensors (code can hide in it) and is refused: "
            "save module.state_dict(), best as .safetensors"
        ) from None
    except DAMAGE as error:
        raise InvalidInput(f"{path} is not a readable state dict: {_reason(error)}") from None


def _check_zip(path: Path) -> None:
    """Refuses archives that inflate without bound, and TorchScript: torch.load would advise to run its code."""
    try:
        if not zipfile.is_zipfile(path):
            return  # an old format, or damaged: torch.load says which
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise InvalidInput(f"{path} is not a readable state dict: {_reason(error)}") from None
    check_archive(path, members)
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise InvalidInput(f"{path} is TorchScript, which is code, and is refused: save module.state_dict()")


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _unwrapped(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the prefix that all names share, if the names fit only without it."""
    prefix = next(iter(state)).partition(".")[0] + "."
    if not all(key.startswith(prefix) for key in state) or set(state) & set(wanted):
        return state
    bare = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return bare if set(bare) & set(wanted) else state


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for key in NESTED:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise InvalidInput(f"{path} holds {type(content).__name__}; a state dict (name -> tensor) is wanted")
    if strange := [str(key) for key, value in content.items() if not isinstance(value, Tensor)]:
        raise InvalidInput(f"{path}: {_few(strange)} is not a tensor; a state dict (name -> tensor) is wanted")
    return {str(key): value for key, value in content.items()}


def _few(keys: list[str]) -> str:
    return (", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")) or "nothing"
