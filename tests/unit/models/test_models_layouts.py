"""Images in the other layout than the network's are turned where it is certain, and refused where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from ort_nets import save
from torch import nn

from bench.data.datasets import load_data
from bench.device.stored import write_npz
from bench.errors import InvalidInput, Unsupported
from bench.inputs.given import read_given
from bench.inputs.layout import FIRST, LAST, find_layout, find_ways
from bench.models.factory import build
from bench.models.layouts import describe_layout, lay_out
from bench.models.registry import resolve
from bench.types import TensorSpec

FIRST_SHAPE, LAST_SHAPE = (3, 8, 8), (8, 8, 3)


def images(tmp_path, shape):
    x = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    file = tmp_path / f"{'x'.join(map(str, shape))}.npz"
    np.savez(file, x_train=x, y_train=np.arange(4) % 2, x_test=x, y_test=np.arange(4) % 2)
    return load_data(str(file))


def means(tmp_path, shape):
    """An ONNX file that takes images (batch, *shape)."""
    nodes = [helper.make_node("Flatten", ["input"], ["output"])]
    return save(tmp_path / "means.onnx", nodes, {}, ["batch", *shape], ["batch", None])


@pytest.mark.parametrize(
    ("wanted", "given", "layout"),
    [
        ((3, 8, 8), (8, 8, 3), FIRST),
        ((8, 8, 3), (3, 8, 8), LAST),
        ((3, -1, -1), (6, 8, 3), FIRST),
        ((49, 10, 1), (1, 49, 10), LAST),
        ((3, 8, 8), (3, 8, 8), ""),
        ((-1, -1, -1), (8, 8, 3), ""),
        ((3, 8, 8), (8, 3, 8), ""),
        ((3, 32, 32), (32, 3, 32), ""),
        ((8, 8), (8, 8, 3), ""),
        ((3, 3, 8), (3, 8, 3), ""),
        ((4, 8, 8), (8, 8, 3), ""),
    ],
)
def test_a_layout_is_certain_where_the_channels_are_the_fewest_and_the_sizes_fit(wanted, given, layout):
    assert find_layout(wanted, given) == layout


def test_an_image_is_turned_in_one_way_at_most():
    assert find_ways((8, 8, 3)) == (FIRST,)
    assert find_ways((3, 8, 3)) == find_ways((8, 8, 8)) == find_ways((3, 8)) == ()


@pytest.mark.parametrize(("given", "wanted"), [(LAST_SHAPE, FIRST_SHAPE), (FIRST_SHAPE, LAST_SHAPE)])
def test_a_file_gets_the_images_in_its_layout_and_a_note(tmp_path, given, wanted):
    data = images(tmp_path, given)
    model = lay_out(resolve(str(means(tmp_path, wanted)), data), data, 0)
    layout = FIRST if wanted == FIRST_SHAPE else LAST
    assert describe_layout(model) == f"images of {data.name} are turned to {layout}, as the network takes them"
    turned = data.laid_out(model.layouts)
    assert turned is data.laid_out(model.layouts)
    assert turned.digest != data.digest
    (x,), (y,) = data.test.inputs(slice(1, 3)), turned.test.inputs(slice(1, 3))
    assert y.shape == (2, *wanted)
    np.testing.assert_array_equal(y, np.moveaxis(x, -1, 1) if layout == FIRST else np.moveaxis(x, 1, -1))
    np.testing.assert_array_equal(turned.test.targets(slice(None)), data.test.targets(slice(None)))


def test_images_that_fit_as_they_are_stay(tmp_path):
    data = images(tmp_path, LAST_SHAPE)
    model = lay_out(resolve(str(means(tmp_path, LAST_SHAPE)), data), data, 0)
    assert (model.layouts, describe_layout(model), data.laid_out(model.layouts)) == ((), "", data)


class Last(nn.Module):
    """Takes images channels last."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x).mean(dim=(1, 2))


FUNCTIONS = {
    "first": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    "last": Last,
    "both": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 2)),
    "neither": lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)),
}


def of_function(monkeypatch, name, data):
    monkeypatch.setattr("bench.models.factory.load_factory", lambda _path: FUNCTIONS[name])
    return lay_out(resolve("nets:build", data), data, 0)


@pytest.mark.parametrize(
    ("name", "shape", "layouts"),
    [
        ("first", LAST_SHAPE, (FIRST,)),
        ("first", FIRST_SHAPE, ()),
        ("last", FIRST_SHAPE, (LAST,)),
        ("last", LAST_SHAPE, ()),
        ("both", FIRST_SHAPE, ()),
        ("neither", LAST_SHAPE, ()),
    ],
)
def test_a_functions_network_says_by_running_what_it_takes(tmp_path, monkeypatch, name, shape, layouts):
    model = of_function(monkeypatch, name, images(tmp_path, shape))
    assert model.layouts == layouts
    assert model.input_shape == (shape if not layouts else FIRST_SHAPE if layouts == (FIRST,) else LAST_SHAPE)


def test_a_functions_network_that_takes_both_layouts_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="look channels last, and nets:build takes"):
        of_function(monkeypatch, "both", images(tmp_path, LAST_SHAPE))


def test_a_reference_network_takes_images_channels_first(tmp_path):
    data = images(tmp_path, LAST_SHAPE)
    model = resolve("resnet8", data)
    assert (model.input_shape, model.layouts) == (FIRST_SHAPE, (FIRST,))
    assert torch.from_numpy(data.laid_out(model.layouts).sample[0]).shape == (1, *FIRST_SHAPE)


def test_a_file_of_inputs_is_turned_and_says_so(tmp_path):
    x = np.random.default_rng(0).random((2, *LAST_SHAPE)).astype(np.float32)
    write_npz(tmp_path / "x.npz", {"x": x})
    taken = read_given(tmp_path / "x.npz", [TensorSpec(name="x", shape=(-1, *FIRST_SHAPE))])
    np.testing.assert_array_equal(taken.arrays[0], np.moveaxis(x, -1, 1))
    assert taken.notes == ("x.npz: 'x' is turned to channels first",)
    with pytest.raises(Unsupported, match=r"has shape \(2, 8, 8, 3\); wanted \(samples, 4, 8, 8\)"):
        read_given(tmp_path / "x.npz", [TensorSpec(name="x", shape=(-1, 4, 8, 8))])


class Pair(nn.Module):
    """Takes an image channels first beside numbers; `mixed`: and another one channels last."""

    def __init__(self, *, mixed=False):
        super().__init__()
        self.image, self.numbers = nn.Conv2d(3, 2, 3), nn.Linear(5, 2)
        self.other = nn.Linear(3, 2) if mixed else None

    def forward(self, image, numbers, other=None):
        found = self.image(image).mean((2, 3)) + self.numbers(numbers)
        return found if self.other is None else found + self.other(other).mean((1, 2))


class Loose(nn.Module):
    """Takes images in both layouts."""

    def __init__(self):
        super().__init__()
        self.numbers = nn.Linear(5, 2)

    def forward(self, image, numbers):
        return self.numbers(numbers) + image.mean((1, 2, 3))[:, None]


class Twice(nn.Module):
    """Takes two images of one layout, whichever it is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, image, other):
        assert image.shape != other.shape
        return self.layer((image - image).flatten(1)[:, :3] + (other - other).flatten(1)[:, :3])


PAIRS = {"pair": Pair, "mixed": lambda: Pair(mixed=True), "loose": Loose, "twice": Twice}


def several(tmp_path, monkeypatch, name, **shapes):
    """What `lay_out` makes of a function's network and a data set with an input of each shape, and the data set."""
    generator = np.random.default_rng(0)
    arrays = {"y_train": np.arange(4) % 2, "y_test": np.arange(4) % 2}
    for key, shape in shapes.items():
        arrays |= {f"x_{part}.{key}": generator.random((4, *shape), dtype=np.float32) for part in ("train", "test")}
    np.savez(tmp_path / "several.npz", **arrays)
    data = load_data(str(tmp_path / "several.npz"))
    monkeypatch.setattr("bench.models.factory.load_factory", lambda _path: PAIRS[name])
    return lay_out(resolve("nets:build", data), data, 0), data


@pytest.mark.parametrize(
    ("name", "shapes", "layouts"),
    [
        ("pair", {"image": LAST_SHAPE, "numbers": (5,)}, (FIRST, "")),
        ("pair", {"numbers": (5,), "image": LAST_SHAPE}, ("", FIRST)),
        ("pair", {"image": FIRST_SHAPE, "numbers": (5,)}, ()),
        ("mixed", {"image": LAST_SHAPE, "numbers": (5,), "other": LAST_SHAPE}, (FIRST, "", "")),
    ],
)
def test_images_among_several_inputs_are_turned_each_for_itself(tmp_path, monkeypatch, name, shapes, layouts):
    model, data = several(tmp_path, monkeypatch, name, **shapes)
    assert model.layouts == layouts
    laid = data.laid_out(model.layouts)
    assert [item.sizes[1:] for item in model.inputs] == [one.shape[1:] for one in laid.sample]
    assert model.input_shape == laid.input_shape
    build(model, 0)


def test_images_among_several_inputs_that_could_be_either_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="look channels last, and nets:build takes them and"):
        several(tmp_path, monkeypatch, "loose", image=LAST_SHAPE, numbers=(5,))
    with pytest.raises(InvalidInput, match="takes them turned in 2 ways"):
        several(tmp_path, monkeypatch, "twice", image=(8, 9, 3), other=(8, 9, 3))
