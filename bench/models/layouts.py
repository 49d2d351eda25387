"""Which layout the images of a data set get for a model: as they are, or turned where that is certain."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.inputs.layout import FIRST, find_layout, find_ways, looks_last, turned
from bench.inputs.of_file import read_inputs
from bench.models.catalogue import is_reference
from bench.models.factory import build
from bench.types import Model

MOST_WAYS = 7
"""Ways to turn some of the inputs that are tried: all of three images."""


def lay_out(model: Model, data: Dataset | None, seed: int) -> Model:
    """The model with the layouts that it gets the data's images in. A reference network has its own already.

    A file says what it takes. A function's network is run on both layouts of each input. Raises `InvalidInput` for
    images that look channels last where it takes both, and for images that it takes in several ways but not as they are.
    """
    if data is None or is_reference(model):
        return model
    shapes = [sample.shape[1:] for sample in data.sample]
    if not any(map(find_ways, shapes)):
        return model
    if model.file is not None:
        layouts = _of_file(model, shapes)
        return replace(model, layouts=layouts) if any(layouts) else model
    return _of_function(model, data, shapes, seed)


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


def _of_function(model: Model, data: Dataset, shapes: list[tuple[int, ...]], seed: int) -> Model:
    """The network is run on its images as they are, and where it does not take them on every way to turn some of them."""
    suspect = [place for place, shape in enumerate(shapes) if looks_last(shape)]
    as_it_is = _runs(model, seed)
    if as_it_is and not suspect:
        return model
    choices = [("", *find_ways(shape)) if not as_it_is or looks_last(shape) else ("",) for shape in shapes]
    others = [_turn(model, layouts) for layouts in product(*choices) if any(layouts)]
    fit = [other for other in others[:MOST_WAYS] if _runs(other, seed)]
    if as_it_is and fit:
        shape = shapes[suspect[0]]
        raise InvalidInput(
            f"data set {data.name}: inputs of shape {shape} look channels last, and {model.name} takes them and "
            f"{turned(shape, FIRST)}: save them as (N, C, H, W), or name another data set"
        )
    if len(fit) > 1:
        raise InvalidInput(
            f"data set {data.name}: {model.name} takes no images as they are, and takes them turned in {len(fit)} ways: save "
            "them in the layout that the network takes"
        )
    return fit[0] if fit else model


def _turn(model: Model, layouts: tuple[str, ...]) -> Model:
    inputs = tuple(
        replace(item, sizes=(None, *turned([size or 0 for size in item.sizes[1:]], layout)))
        for item, layout in zip(model.inputs, layouts, strict=False)
    )
    return replace(model, layouts=layouts, inputs=inputs, input_shape=turned(model.input_shape, layouts[0]))


def _runs(model: Model, seed: int) -> bool:
    try:
        build(model, seed)
    except InvalidInput:
        return False
    return True
