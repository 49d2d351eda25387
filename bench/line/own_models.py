"""What goes with a user's own model: backends that take its file, a data set that it fits, what is said of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.compress.calibration import FROM_DATA, CalibrateOn, calibrates, misfit, parse_calibrate
from bench.config.target import BackendChoice, Target
from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import load_onnx
from bench.formats.qonnx import FORM, is_qonnx
from bench.inputs.given import read_given
from bench.inputs.of_file import read_inputs
from bench.inputs.options import parse_feedback, parse_inputs
from bench.models.catalogue import is_reference
from bench.models.factory import build
from bench.models.training.judge import judge
from bench.plugins import load
from bench.types import Model, Recipe

FEW = 64
"""Samples on which a network and a task are tried before anything is measured."""
Accepts = Callable[[str], Sequence[str]]
"""Name of a backend -> the formats it takes."""


def load_accepts(backend: str) -> Sequence[str]:
    """The formats that a backend takes. Raises as `bench.plugins.load`."""
    accepts: Sequence[str] = load("backend", backend).accepts
    return accepts


def choose_backends(
    model: Model, planned: Sequence[BackendChoice], target: Target, accepts: Accepts = load_accepts
) -> tuple[list[BackendChoice], str]:
    """The planned backends that take the file, and a note if the target's first other one that does stands in for them.

    If none of the target takes the file, the planned ones stay: their cells say what they take.
    """
    if model.file is None:
        return list(planned), ""
    form = find_form(model.file)
    forms = {form, "pt2"} if model.program else {form}
    fit = [choice for choice in planned if forms & {*accepts(choice.name)}]
    if fit:
        return fit, ""
    others = [choice for choice in target.backend if choice not in planned and forms & {*accepts(choice.name)}]
    if not others:
        return list(planned), ""
    missed = ", ".join(choice.title for choice in planned)
    return others[:1], f"{model.name}: measured by {others[0].title}, because {missed} takes no .{form} file"


def find_form(file: Path) -> str:
    """The format of a model file: its suffix, or `qonnx` for an .onnx file of QONNX. Raises as `load_onnx`."""
    if file.suffix == ".onnx" and file.is_file() and is_qonnx(load_onnx(file)):
        return FORM
    return file.suffix.removeprefix(".")


def check_fit(model: Model, data: Dataset, seed: int) -> None:
    """Raises `InvalidInput` for a data set that the user named and their own model cannot take.

    A function is called, and its network run and judged on a few samples by the task. A reference network fits any.
    """
    if model.file is not None:
        if unfit := find_unfit(model, data):
            raise InvalidInput(
                f"--dataset {data.name}: {model.brought}: {unfit}; name a data set that fits, or none by --dataset ''"
            )
    elif not is_reference(model):
        module = build(model, seed)
        train = data.laid_out(model.layouts).train
        judge(module, train, np.arange(min(FEW, len(train))), data.task)


def find_unfit(model: Model, data: Dataset) -> str:
    """Why a file cannot take the data set's inputs; "" if it can. Raises `InvalidInput` for a damaged file."""
    assert model.file is not None
    try:
        specs = read_inputs(model).specs
    except Unsupported as error:
        return str(error)
    return misfit(specs, data.laid_out(model.layouts), any_type=model.file.suffix == ".tflite")


def describe_suite_data(model: Model, data: Dataset | None, own: Dataset | None, suite: str) -> str:
    """Says whether the suite's data set judges a model that the user named; "" for ours. `own`: the model's, if any."""
    if data is None or is_reference(model):
        return ""
    if own is None:
        return (
            f"{model.name}: has no data set, because {data.name} of suite {suite} is for the suite's own networks; name "
            "one with --dataset to train, to calibrate and for an accuracy"
        )
    if model.file is not None and find_unfit(model, data):
        return ""
    return (
        f"{model.name}: judged on {data.name}, the data set of suite {suite}, because its inputs fit; "
        "name yours with --dataset, or none with --dataset ''"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """What the user says of the inputs of one model, as text: `--input`, `--feedback`, `--signature`, `--input-data`."""

    inputs: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    signature: str = ""
    data: str = ""

    def given(self) -> list[str]:
        """The options that were given."""
        pairs = {
            "--input": self.inputs,
            "--feedback": self.feedback,
            "--signature": self.signature,
            "--input-data": self.data,
        }
        return [option for option, value in pairs.items() if value]

    def file(self) -> Path | None:
        """The file of `--input-data`. Raises `InvalidInput` for another kind of file, or one that does not exist."""
        if not self.data:
            return None
        if not self.data.endswith(".npz"):
            raise InvalidInput(f"--input-data {self.data}: wanted an .npz of arrays by input name, samples first")
        if not Path(self.data).is_file():
            raise InvalidInput(f"--input-data: file {self.data} does not exist")
        return Path(self.data)


NOTHING_SAID = InputOptions()


def describe_inputs(models: Sequence[Model], options: InputOptions, dataset: str = "") -> list[Model]:
    """The one model with what the user says of its inputs; the models as they are where nothing is said.

    A file is read here, so that a wrong name or size ends the command before it begins. `dataset`: that the user named.
    Raises `InvalidInput` for options that do not fit the model, or are given for several.
    """
    given = options.given()
    if dataset and options.data:
        raise InvalidInput(
            f"--input-data {options.data} takes the place of a data set, and --dataset {dataset} names one: give one"
        )
    if given and len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise InvalidInput(f"{given[0]} belongs to one model: give one --model, not {names}")
    for model in models:
        if options.inputs and model.data and model.factory:
            raise InvalidInput(
                f"data set {model.data!r} gives the inputs{_show_inputs(model)}: leave --input out, or name no data set: "
                "--dataset ''"
            )
    described = [
        replace(
            model,
            inputs=parse_inputs(options.inputs) or model.inputs,
            feedback=parse_feedback(options.feedback),
            signature=options.signature,
        )
        for model in models
    ]
    for model in described:
        if given or (model.file and model.input_shape):
            _check_inputs(model, options)
        if model.factory and not model.input_shape and not model.inputs:
            raise InvalidInput(
                f"{model.name!r} needs the shape of its inputs: name a data set, or give --input-shape 3,224,224, or for "
                "several inputs and other types --input NAME=N,SIZES:TYPE each"
            )
    return described


def _check_inputs(model: Model, options: InputOptions) -> None:
    if model.input_shape and options.inputs:
        raise InvalidInput("--input-shape is short for --input of one input: give one of them")
    if model.file is None:
        if wrong := [option for option in options.given() if option in {"--feedback", "--signature"}]:
            raise InvalidInput(f"{wrong[0]} describes a model file, and {model.name} is not one: leave it out")
        if options.inputs and is_reference(model):
            raise InvalidInput(f"--input describes a user's network, and {model.name} is one of ours: leave it out")
        return
    found = read_inputs(model)
    if file := options.file():
        read_given(file, found.specs, optional=[name for _, name in model.feedback])


def _show_inputs(model: Model) -> str:
    return f" ({', '.join(map(str, model.inputs))})" if model.inputs else ""


def choose_calibration(text: str, input_data: Path | None, recipes: Sequence[Recipe]) -> CalibrateOn:
    """What `--calibrate` says, and which file judges; without it a part of the user's own inputs, where they were given and
    a recipe calibrates."""
    asked = parse_calibrate(text)
    shares = input_data is not None and asked == FROM_DATA and any(map(calibrates, recipes))
    return CalibrateOn(given=input_data) if shares else replace(asked, judges=asked.file and input_data)
