"""What a format's own runtime makes of a user's file that only another backend of the run computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from bench.config.target import BackendChoice
from bench.device.stored import as_array, first_rows, write_npz
from bench.errors import DiskFull, PressbenchError
from bench.line.measure import Outputs
from bench.line.plan import PlannedCell
from bench.line.prepare import Prepared, Setting, prepare

READERS: Mapping[str, str] = {".onnx": "ort", ".tflite": "litert"}
"""Ending of a file -> the backend that its format was made for."""
COMPARED = {("litert", ".onnx")}
"""Backends that compare what they make of a file with its own runtime when they convert it."""
SAMPLES = 64
"""As many are compared, and more where they fill the last batch: it has to hold what the cell's own does."""


def read_again(cell: PlannedCell, prepared: Prepared, setting: Setting) -> dict[str, Outputs]:
    """Name of the file's own runtime -> its outputs for the first samples, in a process of this machine.

    {} for a network of a function, where that runtime is the cell's own, is not installed or refuses the file, and where
    another machine measures. Its own cell may still come: that one, compared with this, would be called wrong. Raises `DiskFull`.
    """
    ending = cell.model.file.suffix if cell.model.file else ""
    name, bench = READERS.get(ending, cell.backend.name), prepared.bench
    if (
        bench is None
        or name == cell.backend.name
        or setting.target.reach != "local"
        or (cell.backend.name, ending) in COMPARED
    ):
        return {}
    setting.progress(f"compare with {name}", 0.0)
    samples = setting.folder / f"again-{cell.key}.npz"
    try:
        other = prepare(cell.model, cell.recipe, BackendChoice(name=name), cell.conditions, setting)
        if other.bench is None:
            return {}
        rows = cell.conditions.batch * math.ceil(SAMPLES / cell.conditions.batch)
        arrays = [as_array(first_rows(array, rows)) for array in prepared.evaluation.inputs]
        write_npz(samples, {str(place): array for place, array in enumerate(arrays)})
        outputs = setting.stages.infer(replace(other.bench, evaluate=samples), other.artifact)
    except DiskFull:
        raise
    except PressbenchError:
        return {}
    return {name: outputs} if outputs else {}
