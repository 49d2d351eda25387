"""Which code travels to a device: the device side, and what its sessions and meters import of their own packages."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.errors import Unavailable
from bench.own_code import files_of, find_imported, imported_files

ALWAYS = ("bench/device/**/*.py", "bench/types.py", "bench/records.py", "bench/errors.py")
"""What every job needs; the rest is what a session or a meter imports."""


def collect(modules: Sequence[str]) -> Mapping[str, Path]:
    """Name in the package -> file: the device side and the modules, with what they import of their own packages.

    `modules`: those that a job names. Raises `Unavailable` for one that cannot be found.
    """
    found: dict[str, Path] = {}
    for module in ("bench.device", *modules):
        root = find_root(module)
        starts, place = list(files_of(module, root)), root.joinpath(*module.split("."))
        if not {place.with_suffix(".py"), place / "__init__.py"} & set(starts):
            raise Unavailable(f"module {module} cannot be found to be sent to the device")
        if module == "bench.device":
            starts += [path for pattern in ALWAYS for path in root.glob(pattern)]
        found |= {path.relative_to(root).as_posix(): path for path in find_imported(root, starts)}
        found |= _of_bench(find_imported(root, starts))
    return found


def pack(files: Mapping[str, Path]) -> bytes:
    """A zip of the files. Equal files give equal bytes: no times, in order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(
                zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), files[name].read_bytes(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


def pack_program(module: str) -> bytes:
    """A zip that runs a module by itself: it and what it imports of its own package. Raises `Unavailable`."""
    root = find_root(module)
    files = find_imported(root, list(files_of(module, root)))
    return pack({path.relative_to(root).as_posix(): path for path in files})


def digest(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _of_bench(files: Sequence[Path]) -> dict[str, Path]:
    """What files of another package import of `bench`."""
    root = find_root("bench")
    starts = {found for path in files for found in imported_files(path, root)}
    return {path.relative_to(root).as_posix(): path for path in find_imported(root, sorted(starts))}


def find_root(module: str) -> Path:
    """The folder that holds the module's top package, found without importing it."""
    top = module.partition(".")[0]
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise Unavailable(f"package {top} cannot be found to be sent to the device")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(str(spec.origin)).resolve().parent
