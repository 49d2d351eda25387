"""Reads a user's checkpoint without ever running code from it."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
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
DEEPEST = 3
"""How deep sets of weights are looked for in a file."""
AVERAGED = "n_averaged"
"""A count that torch's AveragedModel keeps beside the weights."""
COMPILED = "_orig_mod."
"""What torch.compile puts before the names of a layer that is compiled."""
MAX_HEADER = 16 * 2**20
"""Bytes of a .safetensors header, which lists the tensors."""


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills `module` in place from a .safetensors file or a .pt/.pth/.ckpt state dict (plain or under `state_dict`).

    Prefixes that all names share are removed, as DataParallel (`module.`) and Lightning (`model.`) write them, and so is
    `_orig_mod.` of torch.compile, wherever it stands. A tensor that the network has under several names may be there under one of them, as safetensors
    writes it.

    Raises `InvalidInput`: the file is missing, damaged, holds code, inflates beyond the bound of
    `bench.formats.zip_archive`, holds two sets of weights or two values of one tensor, or its keys, shapes, types or values do not fit the network.
    """
    if not path.is_file():
        raise InvalidInput(f"weights file {path} does not exist")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    wanted = module.state_dict()
    _refuse_rivals(content, wanted, path)
    state = _unwrapped(_tensors(content, path), wanted)
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    tied = _tied(module)
    missing = sorted(key for key in set(wanted) - set(state) - optional if not tied[key] & set(state))
    surplus = sorted(set(state) - set(wanted))
    if missing or surplus:
        raise InvalidInput(
            f"{path} does not fit the network: lacks {_few(missing)}; has besides {_few(surplus)}; save the state_dict() of "
            "this network"
        )
    for key, tensor in state.items():
        _check_tensor(tensor, wanted[key], f"{path}: {key}")
    _check_tied(state, tied, path)
    module.load_state_dict(state, strict=False)  # completeness was checked above


def _tied(module: nn.Module) -> dict[str, frozenset[str]]:
    """Name in the state dict -> all names of that tensor."""
    state = module.state_dict(keep_vars=True)
    names: dict[int, frozenset[str]] = {}
    for name, value in state.items():
        names[id(value)] = names.get(id(value), frozenset()) | {name}
    return {name: names[id(value)] for name, value in state.items()}


def _check_tied(state: Mapping[str, Tensor], tied: Mapping[str, frozenset[str]], path: Path) -> None:
    """Raises `InvalidInput` for two values of one tensor, of which the last would win."""
    for key, tensor in state.items():
        others = sorted(tied[key] & set(state) - {key})
        if other := next((name for name in others if not torch.equal(state[name].double(), tensor.double())), ""):
            raise InvalidInput(
                f"{path}: {key} and {other} differ, and the network has one tensor for both; build the network without "
                "tying them, or save the weights of a network that ties them"
            )


def _check_tensor(tensor: Tensor, wanted: Tensor, place: str) -> None:
    if tensor.shape != wanted.shape:
        raise InvalidInput(f"{place} has shape {tuple(tensor.shape)}, wanted {tuple(wanted.shape)}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise InvalidInput(f"{place} is a sparse, quantized or empty tensor; wanted plain numbers")
    if _loses_meaning(tensor, wanted):
        raise InvalidInput(
            f"{place} holds {_show_type(tensor)}, the network {_show_type(wanted)}: as such it would be another number; save "
            "the network's own weights, not quantized or packed ones"
        )
    values = tensor.to(wanted.dtype)
    if bool((~torch.isfinite(values) & (values != wanted)).any()):  # a mask of -inf is the network's own
        raise InvalidInput(f"{place} holds NaN or infinite values")


def _loses_meaning(tensor: Tensor, wanted: Tensor) -> bool:
    """Whether values are of a kind that torch converts silently: int8 codes for real weights, complex for real numbers,
    fractions for whole ones. Floats of another width are what they were, as far as that width goes."""
    if tensor.is_complex() or wanted.is_complex():
        return tensor.dtype != wanted.dtype
    if wanted.is_floating_point():
        return not tensor.is_floating_point()
    return not torch.equal(tensor.to(wanted.dtype).to(tensor.dtype), tensor)


def _show_type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _refuse_rivals(content: object, wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raises `InvalidInput` for a file of two sets of weights that both fit by name, as of a network and its average."""
    fitting = [place for place, state in _sets(content) if set(wanted) & set(_unwrapped(state, wanted))]
    if len(fitting) > 1:
        keys = "".join(f"[{key!r}]" for key in fitting[0])
        raise InvalidInput(
            f"{path} holds several sets of weights ({', '.join('.'.join(map(str, place)) for place in fitting)}): save the one "
            f"you mean by itself, as torch.save(torch.load({path.name!r}){keys}, 'weights.pt')"
        )


def _sets(content: object, place: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], dict[str, Tensor]]]:
    """The mappings of names to tensors in a file, with the keys that lead to each: `ema` and `module`, for example."""
    if not isinstance(content, Mapping) or not content or len(place) > DEEPEST:
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield place, {str(name): value for name, value in content.items()}
        return
    for key, value in content.items():
        yield from _sets(value, (*place, key))


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is refused is refused below, once
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
    """The state without the prefixes that all names share, if the names fit only without them, and without what
    torch.compile and AveragedModel add."""
    bare = {key.replace(COMPILED, ""): tensor for key, tensor in state.items() if key != AVERAGED or key in wanted}
    state = bare
    while bare and not set(bare) & set(wanted):
        prefix = next(iter(bare)).partition(".")[0] + "."
        if not all(key.startswith(prefix) for key in bare):
            return state
        bare = {key.removeprefix(prefix): tensor for key, tensor in bare.items()}
    return bare


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
