"""What makes a cell the same cell in another run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from bench.cache import key as digest_of
from bench.cache import sha256
from bench.compress.calibration import CalibrateOn, calibrates
from bench.config.suite import SearchChoice, Suite
from bench.config.target import BackendChoice, Target
from bench.cost.probe import probe
from bench.data.datasets import NAMED_SETS, Dataset
from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import data_files, fits_one_file, load_onnx, read_onnx
from bench.types import Conditions, Json, Model, Recipe


def describe_feed(input_data: Path | None, calibrate: CalibrateOn) -> list[Json]:
    """What the user's own inputs add to a cell's key: their content, and whether some are kept to calibrate on."""
    if input_data is None:
        return []
    return [f"fed with {_content(input_data)}", *(["half of it kept to calibrate on"] if calibrate.given else [])]


def subject_of(model: Model, data: Dataset | None) -> list[Json]:
    """What a model and its data set add to a cell's key: names, and content where a name says too little.

    The same files give the same keys from any folder. A folder counts only if two files have the same name.
    A user's network trained here is another than the one that the user's function makes.
    """
    named = "" if data is None else data.name if data.name in NAMED_SETS and data.task.labels else data.digest
    brought = model.brought or model.weights
    content = _content(brought) if brought else ""
    said = [*map(str, model.inputs), *model.feedback, *([model.signature] if model.signature else [])]
    return [named, model.name, model.input_shape, content, *(["trained here"] if model.train else []), *said]


def source_of(recipe: Recipe, data: Dataset | None, calibrate: CalibrateOn) -> list[Json]:
    """What a recipe that calibrates adds to a cell's key: a file by its content, or random inputs.

    Nothing where the data set is used, and where there is none: random inputs were then used without being asked for.
    """
    if not calibrates(recipe):
        return []
    if calibrate.file is not None:
        return [f"calibrated on {_content(calibrate.file)}"]
    return ["calibrated on random inputs"] if calibrate.random and data is not None else []


def _content(file: Path) -> str:
    """Digest of a model's file or weights, the weights an ONNX file keeps beside it included."""
    try:
        with suppress(Unsupported):  # a model too large for one file: its cells are skipped, the others go on
            if file.suffix in {".onnx", ".tflite"}:
                probe(file)
            if file.suffix == ".onnx" and (beside := data_files(proto := load_onnx(file), file)):
                if not fits_one_file(proto, file):
                    return digest_of(model=sha256(file), data=[[part.name, sha256(part)] for part in beside])
                proto, _ = read_onnx(file)
                return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
        return sha256(file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}; make it readable") from None


def digest_settings(suite: Suite, target: Target) -> str:
    """Digest of what a suite and a target say that a run depends on: not their descriptions, what a search does, which
    boards a fleet has, nor where they are."""
    devices = target.devices if target.reach == "emulated" else ()
    said = [
        asdict(replace(suite, description="", search=SearchChoice())),
        asdict(replace(target, description="", devices=devices, host="", serial="", ssh_config="")),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:20]


def cell_key(
    suite: Suite,
    target: Target,
    subject: Sequence[Json],
    recipe: Recipe,
    backend: BackendChoice,
    conditions: Conditions,
) -> str:
    """Digest of everything that the user can name about a cell; stable between runs, so histories join on it.

    `subject` is `subject_of` the model and the data set.
    """
    named = [
        target.name,
        suite.seed,
        list(subject),
        recipe.name,
        recipe.text,
        backend.title,
        dict(backend.options),
        asdict(conditions),
    ]
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()[:20]
