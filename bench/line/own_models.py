"""What goes with a user's own model: the backends of a target that take its file, and a data set that it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.compress.calibration import misfit
from bench.config.target import BackendChoice, Target
from bench.data.datasets import Dataset
from bench.errors import InvalidInput
from bench.formats.onnx_file import load_onnx
from bench.formats.onnx_inputs import fix_shape, input_specs
from bench.formats.tflite_file import tflite_inputs
from bench.models.catalogue import is_reference
from bench.models.factory import build
from bench.plugins import load
from bench.types import Model, TensorSpec

Accepts = Callable[[str], Sequence[str]]
"""Name of a backend -> the formats it takes."""


def load_accepts(backend: str) -> Sequence[str]:
    """The formats that a backend takes. Raises as `bench.plugins.load`."""
    accepts: Sequence[str] = load("backend", backend).accepts
    return accepts


def choose_backends(
    model: Model, planned: Sequence[BackendChoice], target: Target, accepts: Accepts = load_accepts
) -> tuple[list[BackendChoice], str]:
    """The planned backends that take the file, and a note if others of the target had to stand in for them.

    If none of the target takes the file, the planned ones stay: their cells say what they take.
    """
    if model.file is None:
        return list(planned), ""
    form = model.file.suffix.removeprefix(".")
    fit = [choice for choice in planned if form in accepts(choice.name)]
    if fit:
        return fit, ""
    others = [choice for choice in target.backend if choice not in planned and form in accepts(choice.name)]
    if not others:
        return list(planned), ""
    names, missed = (", ".join(choice.title for choice in choices) for choices in (others, planned))
    return others, f"{model.name}: measured by {names}, because {missed} takes no .{form} file"


def check_fit(model: Model, data: Dataset, seed: int) -> None:
    """Raises `InvalidInput` for a data set that the user named and their own model cannot take.

    A function is called and its network run once on inputs of the data set's shape. A reference network fits any.
    """
    if model.file is not None:
        if unfit := find_unfit(model.file, model.input_shape, data):
            raise InvalidInput(
                f"--dataset {data.name}: {model.file}: {unfit}; name a data set that fits, or none by --dataset ''"
            )
    elif not is_reference(model):
        build(model, seed)


def find_unfit(file: Path, shape: tuple[int, ...], data: Dataset) -> str:
    """Why a file cannot take the data set's inputs; "" if it can. Raises `InvalidInput` for a damaged file."""
    tflite = file.suffix == ".tflite"
    return misfit(tflite_inputs(file) if tflite else _read_onnx_inputs(file, shape), data, any_type=tflite)


def _read_onnx_inputs(file: Path, shape: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    proto = load_onnx(file)
    if shape:
        fix_shape(proto, shape, file)
    return input_specs(proto.graph, file)


def describe_suite_data(model: Model, data: Dataset | None, suite: str) -> str:
    """Says that the suite's data set judges a model that the user named; "" where it does not."""
    if data is None or is_reference(model):
        return ""
    if model.file is not None and find_unfit(model.file, model.input_shape, data):
        return ""
    return (
        f"{model.name}: judged on {data.name}, the data set of suite {suite}, because its inputs fit; "
        "name yours with --dataset, or none with --dataset ''"
    )
