"""A text becomes a model, a model becomes a module; what cannot is refused naming what exists."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bench.cost.count import cost_of
from bench.data.datasets import Dataset
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.models.catalogue import MODELS, training_of
from bench.models.factory import build, load_factory
from bench.models.registry import resolve
from bench.tasks.own import find_task
from bench.types import AskedInput

OWN = """
import torch
from torch import nn

CONSTANT = 3

def fitted(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], classes))

def defaults(input_shape=(1, 8, 8), classes=7):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], classes))

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def demanding(input_shape, depth):
    return nn.Identity()

def no_module():
    return "a string"

class Misspelt(nn.Module):
    def forward(self, x):
        return slef.layer(x)

def misspelt():
    return Misspelt()

def unbuilt():
    return nn.Linear("64", 10)

def needs_more():
    import no_such_library

def leaves():
    raise SystemExit(1)

READY = nn.Linear(64, 10)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "ownnet.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "ownnet"
    sys.modules.pop("ownnet", None)


def test_the_data_set_gives_shape_and_classes(digits):
    model = resolve("resnet8", digits)
    assert (model.input_shape, model.classes, model.data) == ((1, 8, 8), 10, "digits")
    alone = resolve("resnet8", None)
    assert (alone.input_shape, alone.classes, alone.data) == ((3, 32, 32), 10, None)


def test_a_name_is_canonical():
    assert resolve("mobilenetv2(width=1.0)").name == "mobilenetv2"
    assert resolve("mobilenetv2( width = .35 )").name == "mobilenetv2(width=0.35)"
    assert resolve("mobilenetv2(width=1)") == resolve("mobilenetv2")
    model = resolve("mobilenetv2(size=96, width=0.5)")
    assert (model.input_shape, resolve(model.name)) == ((3, 96, 96), model)


def test_an_input_shape_can_be_asked_for():
    assert resolve("resnet18", None, input_shape=(1, 64, 48)).input_shape == (1, 64, 48)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("restnet8", "did you mean 'resnet8'"),
        ("resnet8(widht=0.5)", "argument of resnet8 'widht'; did you mean 'width'"),
        ("alexnet(width=0.5)", r"argument of alexnet 'width' .*\(known: size\)"),
        ("dscnn(size=32)", "known: width"),
        ("resnet8(width='wide')", "must be a number"),
        ("resnet8(width=True)", "must be a number"),
        ("resnet8(width=0)", "outside 0.05..4"),
        ("resnet8(width=1e999)", "must be a number"),
        ("mobilenetv2(size=96.5)", "whole number"),
        ("mobilenetv2(size=100000)", "outside 4..1024"),
        ("resnet8 + lenet5", "exactly one"),
        ("missing.onnx", "missing.onnx does not exist"),
        ("missing.tflite", "does not exist"),
        ("folder/net.pt", "--weights, beside the function"),
        ("package.module.function", "neither a reference network, package.module:function"),
    ],
)
def test_what_cannot_be_resolved_is_said_why(text, message):
    with pytest.raises(InvalidInput, match=message):
        resolve(text)


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, InvalidInput, "net.pte cannot be read"),
        (b"x" * 64, InvalidInput, "net.pte is damaged, or no .pte"),
        (b"....ET12", Unsupported, r"net.pte: a .pte is compiled already.*Give the .pt2"),
    ],
)
def test_a_compiled_program_is_refused_with_the_way_to_its_figures(content, error, said, tmp_path):
    path = tmp_path / "net.pte"
    if content is not None:
        path.write_bytes(content)
    for refused in (lambda: resolve(str(path)), lambda: cost_of(path)):
        with pytest.raises(error, match=said):
            refused()


def test_shapes_must_not_contradict_the_data(digits):
    with pytest.raises(InvalidInput, match=r"contradicts data set 'digits'.*--dataset ''"):
        resolve("resnet8", digits, input_shape=(3, 32, 32))
    with pytest.raises(InvalidInput, match="contradicts the inputs' shape"):
        resolve("mobilenetv2(size=96)", digits)
    with pytest.raises(InvalidInput, match="positive sizes"):
        resolve("resnet8", None, input_shape=(3, 0, 32))


def test_a_file_is_a_model_that_no_torch_module_is_built_of(tmp_path, digits):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"anything")
    model = resolve(str(file), digits)
    assert (model.file, model.factory, model.name, model.classes) == (file, None, "net.onnx", 10)
    with pytest.raises(InvalidInput, match="is a file"):
        build(model, 0)
    with pytest.raises(InvalidInput, match="holds its own weights"):
        resolve(str(file), None, weights=file)


def test_weights_must_exist(tmp_path):
    with pytest.raises(InvalidInput, match=r"weights file .* does not exist"):
        resolve("resnet8", None, weights=tmp_path / "none.pt")


def test_a_seed_decides_the_weights_and_the_callers_random_state_is_left_alone():
    model = resolve("resnet8")
    before = torch.get_rng_state()
    first, again, other = build(model, 1), build(model, 1), build(model, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.training
    weights = [net.state_dict()["conv.weight"] for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_width_scales_a_network_down():
    full, slim = (
        sum(p.numel() for p in build(resolve(text), 0).parameters())
        for text in ("lenet300_100", "lenet300_100(width=0.1)")
    )
    assert full == 266_610
    assert full > 10 * slim


def test_a_users_function_is_given_what_it_takes(own, digits):
    module = build(resolve(f"{own}:fitted", digits), 0)
    assert module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert training_of(resolve(f"{own}:fitted", digits)).epochs > 0


def test_what_is_not_known_leaves_the_default_of_a_users_function(own, digits):
    """Without a data set, and for a task that has no classes, `classes` is 0 inside; so `input_shape` is () with --input."""
    flat = torch.zeros(2, 1, 8, 8)
    text = f"{own}:defaults"
    assert build(resolve(text, None, input_shape=(1, 8, 8)), 0)(flat).shape == (2, 7)
    other = replace(digits, classes=0, task=find_task("regression"))
    assert build(resolve(text, other), 0)(flat).shape == (2, 7)
    described = replace(resolve(text), inputs=(AskedInput(name="x", sizes=(None, 1, 8, 8)),))
    assert build(described, 0)(flat).shape == (2, 7)
    assert build(resolve(text, digits), 0)(flat).shape == (2, 10), "what a data set gives comes first"


def test_a_required_parameter_that_is_not_known_is_named_with_the_way_to_give_it(own):
    with pytest.raises(InvalidInput, match=r"'classes'; .*data set for classification: name one with --dataset, or"):
        build(resolve(f"{own}:fitted", None, input_shape=(1, 8, 8)), 0)
    described = replace(resolve(f"{own}:fitted"), inputs=(AskedInput(name="x", sizes=(None, 1, 8, 8)),))
    with pytest.raises(InvalidInput, match=r"'input_shape'; .*--input-shape: name one of them, or give input_shape a"):
        build(described, 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fixed", r"gives \(2, 5\) .* needs \(2, 10\)"),
        ("demanding", "depth"),
        ("no_module", "returned str"),
        ("fited", "did you mean 'fitted'"),
        ("CONSTANT", "unknown function of ownnet"),
        ("READY", "is a network; name a function that returns it"),
        ("a b", "not an import path"),
    ],
)
def test_a_users_function_that_does_not_fit_is_refused(own, digits, function, message):
    with pytest.raises(InvalidInput, match=message):
        build(resolve(f"{own}:{function}", digits), 0)


def test_a_users_network_that_cannot_take_the_inputs_is_refused(own):
    with pytest.raises(InvalidInput, match=r"does not take inputs of shape \(3, 9, 9\)"):
        build(resolve(f"{own}:fixed", None, input_shape=(3, 9, 9)), 0)


def test_a_module_that_is_not_there_is_named(digits):
    with pytest.raises(InvalidInput, match=r"no_such_package.*PYTHONPATH"):
        build(resolve("no_such_package.net:make", digits), 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("misspelt", r"does not run: NameError: name 'slef' .*ownnet.py, line 24\); fix it there"),
        ("unbuilt", r"raised TypeError: .*ownnet.py, line 30\)"),
        ("needs_more", r"raised ModuleNotFoundError: .*no_such_library.*ownnet.py, line 33\)"),
        ("leaves", r"raised SystemExit: 1 .*ownnet.py, line 36\)"),
    ],
)
def test_a_users_error_is_told_with_its_file_and_line(own, digits, function, message):
    with pytest.raises(InvalidInput, match=f"ownnet:{function} {message}"):
        build(resolve(f"{own}:{function}", digits), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef build(:\n", r"SyntaxError: .*brokennet.py, line 2\)"),
        ("x = 1\ny = undefined\n", r"NameError: name 'undefined' .*brokennet.py, line 2\)"),
        ("raise SystemExit('no licence')\n", r"SystemExit: no licence .*line 1\)"),
        ("import no_such_library\n", r"No module named 'no_such_library'; is its folder on PYTHONPATH"),
    ],
)
def test_a_module_that_breaks_while_it_is_imported_is_told_with_its_file_and_line(tmp_path, monkeypatch, text, message):
    (tmp_path / "brokennet.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidInput, match=f"'brokennet' cannot be imported: {message}"):
        load_factory("brokennet:build")


def test_a_builtin_is_no_network():
    with pytest.raises(InvalidInput, match="builtins:dict cannot be called"):
        build(resolve("builtins:dict", None, input_shape=(3,)), 0)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("alexnet", (3, 32, 32), "at least 63x63"),
        ("resnet8", (640,), "channels, height, width"),
        ("autoencoder", (1, 8, 8), "flat inputs"),
        ("lenet5", (1, 3, 3), "at least 4x4"),
    ],
)
def test_a_network_says_which_inputs_it_takes(name, shape, message):
    with pytest.raises(InvalidInput, match=message):
        build(resolve(name, None, input_shape=shape), 0)


IMAGE_NETS = sorted(set(MODELS) - {"autoencoder", "dscnn", "alexnet", "vgg16"})


@pytest.mark.parametrize("name", IMAGE_NETS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 40)])
def test_every_image_network_takes_small_and_odd_images(name, shape):
    model = resolve(name, None, input_shape=shape)
    with torch.no_grad():
        outputs = build(model, 0)(torch.rand(2, *shape))
    assert outputs.shape == (2, model.classes)
    assert torch.isfinite(outputs).all()


def test_vgg16_on_a_small_image_begins_with_a_signal_that_reaches_its_logits(digits):
    network = build(resolve("vgg16", digits), seed=0).eval()
    seen = {}
    for name in ("classifier.0", "classifier.3"):
        network.get_submodule(name).register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0], y)}))
    with torch.no_grad():
        network(torch.rand(16, 1, 8, 8))
    gains = [float(after.std() / before.square().mean().sqrt()) for before, after in seen.values()]
    assert gains == pytest.approx([2**0.5] * 2, rel=0.2), "He et al. 2015; torch's own first weights give 3**-0.5"


def test_listing_the_networks_imports_no_torch():
    code = "import sys, bench.models.registry, bench.data.datasets, bench.data.shift; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_reference_network_says_where_it_comes_from():
    assert all(entry.source for entry in MODELS.values())


def test_a_flat_data_set_reaches_the_mlp():
    x = np.ones((4, 6), np.float32)
    y = np.array([0, 1, 0, 1])
    data = Dataset(name="flat", train=ArrayPart((x,), y), test=ArrayPart((x,), y), classes=2)
    assert isinstance(build(resolve("lenet300_100", data), 0), nn.Module)
