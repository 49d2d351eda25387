"""The source files a result depends on. Caches put their digests into their keys, so changed code makes new files."""

from __future__ import annotations

import hashlib
import inspect
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, fx, nn

from bench.config.grammar import parse_calls
from bench.models.catalogue import MODELS
from bench.models.factory import load_factory
from bench.own_code import file_of, sources_of
from bench.types import Json

OURS = frozenset(entry.factory for entry in MODELS.values())
"""Factories of reference networks. All of `bench.models` is in the names of what they make."""
SETTINGS = (bool, int, float, complex, str, bytes, torch.dtype, torch.Size)
"""Types of attributes that decide what a layer computes; `repr` shows those of torch's own layers only."""
DEEPEST = 3
"""How deep settings are looked for in containers and objects."""
OF_MODULES = frozenset(vars(nn.Module()))
"""Attributes of every module: its tensors, its layers and its hooks."""
NAMESPACES = (SimpleNamespace, Namespace)


def describe_network(module: nn.Module) -> Json:
    """What decides the outputs of a network, for the names of cached results.

    Its layers as text, the code of traced graphs, settings, the files of its classes, and a digest of its tensors, also of
    those that state_dict() leaves out.
    """
    tensors = hashlib.sha256()
    for name, value in _tensors(module):
        tensors.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        tensors.update(_content(value))
    return {
        "structure": repr(module),
        "graphs": [part.code for part in module.modules() if isinstance(part, fx.GraphModule)],
        "settings": [_settings(part) for part in module.modules()],
        "sources": class_digests(type(part) for part in module.modules()),
        "weights": tensors.hexdigest(),
    }


def _settings(part: nn.Module) -> dict[str, str]:
    found = {name: _show(value) for name, value in vars(part).items() if name not in OF_MODULES}
    return {name: text for name, text in found.items() if text}


def _show(value: object, depth: int = 0) -> str:
    """A setting as text, also in containers and objects; a function by its name; "" for other things, as a layer.

    The function that builds a network may read its settings from a file of any name, which no digest of code covers.
    """
    if value is None or isinstance(value, SETTINGS):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if name := getattr(value, "__qualname__", ""):
        return f"{getattr(value, '__module__', '')}.{name}"
    return "" if depth > DEEPEST else _show_parts(value, depth + 1)


def _show_parts(value: object, depth: int) -> str:
    """Of a container, a partial function, or an object of a class that neither torch nor the standard library has."""
    if isinstance(value, partial):
        return _show_parts((value.func, value.args, value.keywords), depth)
    if isinstance(value, (tuple, list)):
        return ", ".join(_show(one, depth) for one in value)
    if isinstance(value, (set, frozenset)):
        return ", ".join(sorted(_show(one, depth) for one in value))
    if isinstance(value, (Tensor, nn.Module)):
        return ""
    foreign = type(value).__module__.partition(".")[0] in {"torch", *sys.stdlib_module_names} - {"__main__"}
    parts = (
        value
        if isinstance(value, Mapping)
        else getattr(value, "__dict__", {})
        if not foreign or type(value) in NAMESPACES
        else {}
    )
    return ", ".join(f"{key}: {_show(one, depth)}" for key, one in parts.items())


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for place, part in module.named_modules(remove_duplicate=False):
        owned = {**dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False))}
        for name, value in {**vars(part), **owned}.items():
            if isinstance(value, Tensor):
                yield f"{place}.{name}", value


def _content(value: Tensor) -> bytes:
    """The values as they lie in memory; nothing of a tensor that has no plain ones."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return b""
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def package_digests(folder: Path) -> list[str]:
    """SHA-256 of every Python file of a package and of all packages below it, in the order of their paths."""
    return digests(sorted(folder.rglob("*.py")))


def class_digests(classes: Iterable[type]) -> list[str]:
    """SHA-256 of the files that hold these classes, sorted. Leaves out torch's own, which its version stands for."""
    files = {inspect.getsourcefile(cls) for cls in classes if not cls.__module__.startswith("torch.")}
    return sorted(digests(Path(file) for file in files if file and Path(file).is_file()))


def digests(files: Iterable[Path]) -> list[str]:
    """SHA-256 of each file's content."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def network_files(model: str) -> tuple[Path, ...]:
    """The file that holds a network's factory, of a user's also those that it imports; () for a text that names no network.

    `model`: a reference network (`lenet5`, `resnet8(width=0.5)`) or `package.module:function`.
    Raises `InvalidInput` for a function that cannot be imported, and as `bench.own_code.sources_of`.
    """
    factory = model
    if ":" not in model:
        calls = parse_calls(model)
        entry = MODELS.get(calls[0].name) if calls else None
        if entry is None:
            return ()
        factory = entry.factory
    file = file_of(factory, load_factory(factory))
    if file is None:
        return ()
    return (file,) if factory in OURS else tuple(sources_of(factory, file))
