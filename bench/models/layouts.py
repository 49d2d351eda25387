"""Which layout the images of a data set get for a model: as they are, or turned where that is certain."""

from __future__ import annotations

from dataclasses import replace

from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.inputs.layout import FIRST, find_layout, find_ways, looks_last, turned
from bench.inputs.of_file import read_inputs
from bench.models.catalogue import is_reference
from bench.models.factory import build
from bench.types import Model


def lay_out(model: Model, data: Dataset | None, seed: int) -> Model:
    """The model with the layouts that it gets the data's images in. A reference network has its own already.

    A file says what it takes. A function's network is run on both layouts. Raises `InvalidInput` for images that look
    channels last where it takes both.
    """
    if data is None or is_reference(model):
        return model
    shapes = [sample.shape[1:] for sample in data.sample]
    if not any(map(find_ways, shapes)):
        return model
    if model.file is not None:
        layouts = _of_file(model, shapes)
        return replace(model, layouts=layouts) if any(layouts) else model
    layout = _of_function(model, data, shapes, seed)
    return _turn(model, layout) if layout else model


def describe_layout(model: Model) -> str:
    """That images are turned for the model; "" where they are not."""
    found = dict.fromkeys(filter(None, model.layouts))
    return f"images of {model.data} are turned to {' and '.join(found)}, as the network takes them" if found else ""


def _of_file(model: Model, shapes: list[tuple[int, ...]]) -> tuple[str, ...]:
    try:
        specs = read_inputs(model).specs
    except (InvalidInput, Unsupported):  # said where the file is used
        return ()
    if len(specs) != len(shapes):
        return ()
    return tuple(find_layout(spec.sample_shape, shape) for spec, shape in zip(specs, shapes, strict=True))


def _of_function(model: Model, data: Dataset, shapes: list[tuple[int, ...]], seed: int) -> str:
    if model.inputs or len(shapes) != 1 or not (ways := find_ways(shapes[0])):
        return ""
    as_it_is, suspect = _runs(model, seed), looks_last(shapes[0])
    if as_it_is and not suspect:
        return ""
    other = _runs(_turn(model, ways[0]), seed)
    if as_it_is and other:
        raise InvalidInput(
            f"data set {data.name}: inputs of shape {shapes[0]} look channels last, and {model.name} takes them and "
            f"{turned(shapes[0], FIRST)}: save them as (N, C, H, W), or name another data set"
        )
    return ways[0] if other else ""


def _turn(model: Model, layout: str) -> Model:
    return replace(model, layouts=(layout,), input_shape=turned(model.input_shape, layout))


def _runs(model: Model, seed: int) -> bool:
    try:
        build(model, seed)
    except InvalidInput:
        return False
    return True
