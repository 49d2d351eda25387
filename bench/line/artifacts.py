"""Compiles for a backend; the artifacts are cached by everything they are made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from pydantic import TypeAdapter

from bench.cache import find_or_make
from bench.errors import Unsupported
from bench.formats.qonnx import FORM, REMEDY
from bench.line.options import check_options
from bench.plugins import installed_version
from bench.types import Artifact, Backend, Compressed, Conditions, Json, Precision, Scalar


def compile_cached(
    backend: Backend,
    source: Compressed,
    conditions: Conditions,
    options: Mapping[str, Scalar],
    cache: Path,
) -> Artifact:
    """The artifact, from the cache if the same was compiled before. The only place where options are checked.

    Raises `InvalidInput` for an option that the backend does not have, `Unsupported` if it reads none of the formats
    that the source is in, and what `Backend.compile` raises.
    """
    check_options(backend, options, f"backend {backend.name}")
    if not set(backend.accepts) & set(source.files):
        if FORM in source.files:
            raise Unsupported(f"{source.model} is a QONNX file, which backend {backend.name} cannot read: {REMEDY}")
        takes, there = (" or ".join(f".{kind}" for kind in kinds) for kinds in (backend.accepts, source.files))
        raise Unsupported(
            f"{source.model}: backend {backend.name} takes {takes}, there is {there}; name another backend"
            + (", as --backend litert" if "tflite" in source.files else "")
        )

    if source.quant is not None and source.quant.kind == "fixed" and not backend.fixed_point:
        raise Unsupported(
            f"{source.model}: backend {backend.name} does not compute in the fixed point of fixed, mixed_fixed and fixed_qat: "
            "target fpga does (pressbench run --target fpga)"
        )

    def make(folder: Path) -> Mapping[str, Json]:
        made = backend.compile(source, conditions, options, folder)
        return {
            "file": made.path.relative_to(folder).as_posix(),
            "format": made.format,
            "precision": asdict(made.precision),
            "facts": dict(made.facts),
        }

    kept = find_or_make(cache, "compiled", _key(backend, source, conditions, options), make)
    return Artifact(
        path=kept.folder / kept.facts["file"],
        format=kept.facts["format"],
        digest=kept.digests[kept.facts["file"]],
        precision=TypeAdapter(Precision).validate_python(kept.facts["precision"]),
        facts=kept.facts["facts"],
    )


def _key(backend: Backend, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar]) -> str:
    """Leaves threads out: a compiled file serves any number of them."""
    parts = [
        source.digest,
        backend.name,
        backend.probe().version,
        [*([name, installed_version(name)] for name in backend.compilers), *sorted(backend.find_programs().items())],
        _code_digest(type(backend).__module__),
        conditions.batch,
        sorted(options.items()),
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _code_digest(module: str) -> str:
    """Of every source file of the adapter's top package, with what adapters share: changed code compiles again."""
    spec = find_spec(module.partition(".")[0])
    folders = (list(spec.submodule_search_locations or ()) or [str(Path(spec.origin or "").parent)]) if spec else []
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
