"""Loads a torch.export archive (.pt2) without ever running code that came with it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from importlib import import_module
from pathlib import Path

import torch
from torch.export import ExportedProgram

from backends.programs.safe_graph import find_danger
from bench.errors import InvalidInput

PLAIN = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/\w+|extra/.*|models/[^/]+\.json"
    r"|data/weights/(weight_\d+|\w+\.json)|data/constants/(tensor_\d+|\w+\.json)|data/sample_inputs/[^/]+\.pt)"
)

OUTPUT_NAMES = "output_names"
"""Extra file of a .pt2 in which `bench.compress.export` names the outputs."""
INTEGER_OPERATORS = b"quantized_decomposed"


def load_archive(path: Path) -> ExportedProgram:
    """The exported program of a .pt2 file. Raises `InvalidInput` for anything that is not a plain one.

    `torch.export.load` unpickles weights, constants and sample inputs that ask for it, with
    `weights_only=False`, opens shared libraries, and evaluates sizes and names of operators: each is found first and
    refused.
    """
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file; a torch.export archive (.pt2) is wanted")
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_code(archive, path)
            quantized = any(INTEGER_OPERATORS in archive.read(name) for name in _graphs(archive))
        if quantized:
            import_module("torch.ao.quantization.fx._decomposed")  # registers them; half a second, so only here
        return torch.export.load(path)
    except (zipfile.BadZipFile, RuntimeError, ValueError, KeyError, AssertionError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(f"{path}: no torch.export archive that torch {torch.__version__} reads: {reason}") from error


def read_output_names(path: Path) -> tuple[str, ...]:
    """The names that a .pt2 file of ours gives its outputs; () where it names none."""
    with zipfile.ZipFile(path) as archive:
        entry = next((name for name in archive.namelist() if name.endswith(f"/extra/{OUTPUT_NAMES}")), "")
        try:
            found = json.loads(archive.read(entry)) if entry else ()
        except ValueError:
            return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(name, str) for name in found) else ()


def write_output_names(names: tuple[str, ...]) -> dict[str, str]:
    """The extra files of `torch.export.save` that keep these names."""
    return {OUTPUT_NAMES: json.dumps(names)} if names else {}


def _graphs(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in archive.namelist() if name.endswith(".json") and "/models/" in name]


def _refuse_code(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise InvalidInput(f"{path}: two entries have one name, refused")
    for name in names:
        if not PLAIN.fullmatch(name):
            raise InvalidInput(f"{path}: entry {name!r} is neither graph nor weights, refused: it could hold code")
        if "/data/sample_inputs/" in name:
            _check_sample_inputs(archive.read(name), f"{path}: {name}")
        elif name.endswith("_config.json") and _asks_to_unpickle(json.loads(archive.read(name))):
            raise InvalidInput(f"{path}: {name} asks to unpickle an entry, refused: a pickle can hold code")
        elif "/models/" in name and (danger := find_danger(json.loads(archive.read(name)))):
            raise InvalidInput(f"{path}: {name} holds {danger}, refused: it could run code")


def _asks_to_unpickle(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value.get("use_pickle")) or any(_asks_to_unpickle(item) for item in value.values())
    if isinstance(value, list):
        return any(_asks_to_unpickle(item) for item in value)
    return isinstance(value, str) and value.startswith(("custom_obj_", "opaque_obj_"))


def _check_sample_inputs(content: bytes, where: str) -> None:
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # whatever the safe loader refuses would be unpickled unsafely
        raise InvalidInput(f"{where} is a pickle of more than tensors, refused") from error
