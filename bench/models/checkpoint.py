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

# torch.load has no error of its own: these are what 4,500 randomly damaged files raised, and their kin
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


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills `module` in place from a .safetensors file or a .pt/.pth/.ckpt state dict (plain or under `state_dict`).

    A name every tensor begins with, as DataParallel (`module.`) and Lightning (`model.`) write it, is taken off.

    Raises `InvalidInput`: the file is missing, damaged, holds code, or its keys or shapes do not fit the network.
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
        if tensor.shape != wanted[key].shape:
            raise InvalidInput(f"{path}: {key} has shape {tuple(tensor.shape)}, wanted {tuple(wanted[key].shape)}")
        if not torch.isfinite(tensor).all():
            raise InvalidInput(f"{path}: {key} holds NaN or infinite values")
    module.load_state_dict(state, strict=False)  # completeness was checked above


def _safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is no readable safetensors file: {error}") from None


def _pickled(path: Path) -> object:
    if path.suffix not in (".pt", ".pth", ".ckpt"):
        raise InvalidInput(f"{path}: weights are read from .safetensors, .pt, .pth or .ckpt")
    if _scripted(path):
        raise InvalidInput(f"{path} is TorchScript, which is code, and is refused: save module.state_dict()")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InvalidInput(
            f"{path} holds more than tensors (code can hide in it) and is refused: "
            "save module.state_dict(), best as .safetensors"
        ) from None
    except DAMAGE as error:
        raise InvalidInput(f"{path} is no readable state dict: {_reason(error)}") from None


def _scripted(path: Path) -> bool:
    """TorchScript, of which torch.load warns before it advises to run the code after all."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return False  # what else is wrong with it, torch.load says


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _unwrapped(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the one prefix all names share, where the names fit only without it."""
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
        raise InvalidInput(f"{path}: {_few(strange)} is no tensor; a state dict (name -> tensor) is wanted")
    return {str(key): value for key, value in content.items()}


def _few(keys: list[str]) -> str:
    return (", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")) or "nothing"
