"""The source files a result depends on. Caches put their digests into their keys, so changed code makes new files."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from bench.config.grammar import parse_calls
from bench.models.catalogue import MODELS
from bench.models.factory import load_factory
from bench.own_code import file_of


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
    """The file that holds a network's factory; () for a text that names no network.

    `model`: a reference network (`lenet5`, `resnet8(width=0.5)`) or `package.module:function`.
    Raises `InvalidInput` for a function that cannot be imported.
    """
    factory = model
    if ":" not in model:
        calls = parse_calls(model)
        entry = MODELS.get(calls[0].name) if calls else None
        if entry is None:
            return ()
        factory = entry.factory
    file = file_of(factory, load_factory(factory))
    return (file,) if file else ()
