"""Compiles for a backend, once for ever: artifacts are cached by the content they are made of."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from pydantic import TypeAdapter

from bench.errors import Unsupported
from bench.plugins import installed_version
from bench.types import Artifact, Backend, Compressed, Conditions, Precision, Scalar


def compiled(
    backend: Backend,
    source: Compressed,
    conditions: Conditions,
    options: Mapping[str, Scalar],
    cache: Path,
) -> Artifact:
    """The artifact, from the cache where its file still has the digest it was stored with.

    Raises `Unsupported` where the backend reads none of the formats the source is in, and what `compile` raises.
    """
    if not set(backend.accepts) & set(source.files):
        takes, there = (" or ".join(f".{kind}" for kind in kinds) for kinds in (backend.accepts, source.files))
        raise Unsupported(
            f"{source.model}: backend {backend.name} takes {takes}, there is {there}; name another backend"
        )
    folder = cache / "compiled" / _key(backend, source, conditions, options)
    kept = _stored(folder)
    if kept:
        return kept
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".part-"))
    try:
        made = backend.compile(source, conditions, options, work)
        sidecar = {
            "file": str(made.path.relative_to(work)),
            "format": made.format,
            "digest": file_digest(made.path),
            "precision": asdict(made.precision),
            "facts": dict(made.facts),
        }
        (work / "artifact.json").write_text(json.dumps(sidecar), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    except OSError:
        if not _stored(folder):  # another run may have put the same content there first
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    stored = _stored(folder)
    assert stored is not None
    return stored


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(folder: Path) -> Artifact | None:
    try:
        sidecar = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
        path = folder / sidecar["file"]
        if file_digest(path) != sidecar["digest"]:
            return None
        return Artifact(
            path=path,
            format=sidecar["format"],
            digest=sidecar["digest"],
            precision=TypeAdapter(Precision).validate_python(sidecar["precision"]),
            facts=sidecar["facts"],
        )
    except (OSError, ValueError, KeyError):
        return None


def _key(backend: Backend, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar]) -> str:
    """Threads are no part of it: a compiled file serves any number of them."""
    parts = [
        source.digest,
        backend.name,
        backend.probe().version,
        [[name, installed_version(name)] for name in backend.compilers],
        _code_digest(type(backend).__module__),
        conditions.batch,
        sorted(options.items()),
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _code_digest(module: str) -> str:
    """Of every source file of the adapter's top package, what adapters share included: changed code compiles anew."""
    spec = find_spec(module.partition(".")[0])
    folders = (list(spec.submodule_search_locations or ()) or [str(Path(spec.origin or "").parent)]) if spec else []
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
