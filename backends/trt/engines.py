"""Keeps engines and timings on the device that made them, and knows when they no longer hold.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from backends.trt.build import Settings
from backends.trt.cuda.device import Device
from backends.trt.loading import TensorRT
from bench.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A serialized engine, and the facts of its build."""

    plan: bytes
    facts: Mapping[str, Json]


def cache_folder(option: str, environment: Mapping[str, str], beside: Path) -> Path:
    """The option, else `tensorrt` in PRESSBENCH_CACHE or in the user's cache, else beside the file."""
    if option:
        return Path(option).expanduser()
    cache = environment.get("XDG_CACHE_HOME") or (environment.get("HOME") and Path(environment["HOME"], ".cache"))
    base = environment.get("PRESSBENCH_CACHE") or (cache and Path(cache, "pressbench"))
    folder = Path(base, "tensorrt") if base else None
    return folder if folder and _writable(folder) else beside / "tensorrt"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def engine_key(content: bytes, tensorrt: TensorRT, device: Device, settings: Settings) -> str:
    """What an engine depends on: the file, TensorRT's version, the GPU, how it was built."""
    parts = [
        sha256(content).hexdigest(),
        tensorrt.flavour,
        tensorrt.version,
        device.gpu,
        device.compute_capability,
        settings.facts(),
    ]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def timings_path(folder: Path, tensorrt: TensorRT, device: Device) -> Path:
    """One file of timings (or, for RTX, of compiled kernels) for each GPU and version of TensorRT."""
    gpu = re.sub(r"[^a-z0-9]+", "-", device.gpu.lower()).strip("-")
    return (
        folder / f"{gpu}-sm{device.compute_capability.replace('.', '')}-{tensorrt.flavour}-{tensorrt.version}.timings"
    )


def load_engine(folder: Path, key: str) -> Engine | None:
    """The engine stored under `key`; None where there is none, or its file has changed."""
    try:
        facts = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        plan = (folder / f"{key}.engine").read_bytes()
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or facts.pop("sha256", "") != sha256(plan).hexdigest():
        return None
    with suppress(OSError):
        os.utime(folder / f"{key}.json")  # when it was last used: `pressbench cache prune` goes by it
    return Engine(plan=plan, facts=facts)


def keep_engine(folder: Path, key: str, engine: Engine) -> None:
    """Stores the engine, then what makes it believed."""
    keep(folder / f"{key}.engine", engine.plan)
    facts = {**engine.facts, "sha256": sha256(engine.plan).hexdigest()}
    keep(folder / f"{key}.json", json.dumps(facts).encode())


def keep(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all. Where it cannot, the next process builds again."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def read_kept(path: Path) -> bytes:
    """A file's bytes; empty where there is no file."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
