"""A user's network that is more than a function of its inputs and its own weights is refused by what it does."""

from __future__ import annotations

import random
import sys
import threading
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from bench.compress.export import export
from bench.errors import InvalidInput
from bench.models.copies import duplicate
from bench.models.factory import build
from bench.types import AskedInput, Model


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return self.layer(x) + self.calls


class Remembers(nn.Module):
    """Zeros leave its state at zero."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3, bias=False)
        self.register_buffer("state", torch.zeros(3))

    def forward(self, x):
        self.state = 0.5 * self.state + self.layer(x).mean(0)
        return self.layer(x) + self.state


class CountsInPython(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(8, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) * self.calls


class WritesInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x.mul_(2))


class HidesLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.last = [nn.Linear(8, 8)], nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.layers[0](x))


class FillsACache(nn.Module):
    """A table that the first call makes and no later call changes, as of rotary positions."""

    def __init__(self):
        super().__init__()
        self.layer, self.table = nn.Linear(8, 3), None
        self.register_buffer("filled", torch.zeros(8))

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(8.0)
            self.filled = self.table * 2
        return self.layer(x * self.table + self.filled)


class DrawsNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x + torch.randn_like(x))


class ExtraState(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


class SparseMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.register_buffer("mask", torch.eye(8).to_sparse())

    def forward(self, x):
        return self.layer(x * self.mask.to_dense()[0])


class ComplexWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.turns = nn.Parameter(torch.randn(8, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.turns).abs()


class CallsByLambda(nn.Module):
    """A copy of it still calls the first one's layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.block = lambda x: 2 * self.layer(x)

    def forward(self, x):
        return self.block(x)


def replaced_forward():
    module = nn.Linear(8, 3)
    whole = module.forward
    module.forward = lambda x: 2 * whole(x)
    return module


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(8, 3)
        self.lock = threading.Lock()


class KeepsFeatures(nn.Module):
    """With their gradient, where the function has run it already."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self(torch.zeros(1, 8))

    def forward(self, x):
        self.features = [self.layer(x)]
        return self.features[0] * 2


class NumpyWeights(nn.Linear):
    def __init__(self):
        super().__init__(8, 3)
        self.weight.data = torch.from_numpy(np.random.randn(3, 8)).float() + random.random()  # noqa: NPY002


class KeepsByLambda(nn.Module):
    """A hook fills a dictionary of the network that it was made for."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.kept = nn.Linear(8, 8), nn.Linear(8, 3), {}
        self.watch()

    def watch(self):
        self.layer.register_forward_hook(lambda layer, inputs, output: self.kept.update(x=output))

    def forward(self, x):
        self.layer(x)
        return self.head(self.kept["x"])


class KeepsByContainer(KeepsByLambda):
    def watch(self):
        kept = self.kept
        self.layer.register_forward_pre_hook(lambda layer, inputs: kept.update(x=inputs[0]))


class KeepsByMethod(KeepsByLambda):
    def watch(self):
        self.layer.register_forward_hook(self.keep)

    def keep(self, layer, inputs, output):
        self.kept["x"] = output


class CompiledInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([torch.compile(nn.Linear(8, 8)), torch.compile(nn.Sequential(nn.Linear(8, 3)))])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


class Wrapper(nn.Module):
    """Hands on what it lacks, as wrappers of PEFT do."""

    def __init__(self):
        super().__init__()
        self.inner, self.post = torch.compile(nn.Linear(8, 8)), nn.Linear(8, 3)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, x):
        return self.post(self.inner(x))


class CompiledTwice(nn.Module):
    """One compiled layer under two names, and a count of what is set."""

    def __init__(self):
        super().__init__()
        self.__dict__["assigned"] = []
        self.a, self.head = torch.compile(nn.Linear(8, 8)), nn.Linear(8, 3)
        self.b = self.a
        self.assigned.clear()

    def __setattr__(self, name, value):
        self.assigned.append(name)
        super().__setattr__(name, value)

    def forward(self, x):
        return self.head(self.b(self.a(x)))


class ReadsSettings(KeepsByLambda):
    """A hook reads a constant of the network."""

    def watch(self):
        self.settings = settings = {"scale": 2.0, "sizes": [1, 2], "bias": None}
        self.layer.register_forward_hook(lambda layer, inputs, output: output * settings["scale"])

    def forward(self, x):
        return self.head(self.layer(x))


class KeepsInPlace(KeepsByLambda):
    """A hook fills what has a place, and nothing in it yet."""

    def watch(self):
        self.kept = kept = {"x": None}
        self.layer.register_forward_hook(lambda layer, inputs, output: kept.update(x=output))


def built(make, monkeypatch, seed=0, inputs=()):
    module = ModuleType("brought")
    module.make = make
    monkeypatch.setitem(sys.modules, "brought", module)
    return build(Model(name="m", factory="brought:make", input_shape=(8,), inputs=inputs), seed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Counts, "keeps state in 'calls'.*take it as an input and return it"),
        (Remembers, "keeps state in 'state'"),
        (CountsInPython, "gives other outputs when it is called again"),
        (WritesInput, "changes its inputs in place"),
        (HidesLayers, r"a weight of shape \(8, 8\) that is not among its parameters.*ModuleList"),
        (CallsByLambda, r"shape \(3, 8\) that is not among its parameters.*a lambda or a function set as an attribute"),
        (replaced_forward, r"shape \(3, 8\) that is not among its parameters"),
        (Locked, r"cannot be copied by copy\.deepcopy.*lock.*out of the network"),
        (KeepsByLambda, r"a hook on 'layer' is a lambda.*register a method"),
        (KeepsByContainer, r"a hook on 'layer' is a lambda"),
        (KeepsInPlace, r"a hook on 'layer' is a lambda"),
        (
            lambda: torch.jit.trace(nn.Linear(8, 3), torch.zeros(2, 8)),
            r"TorchScript.*return the network that it was made of",
        ),
        (
            lambda: nn.Linear(8, 3, device="meta"),
            r"its weights are on meta: return a network whose weights are on the CPU",
        ),
        (lambda: nn.Linear(8, 3).half(), r"its weights are float16: call \.float\(\)"),
        (lambda: ExtraState(8, 3), r"'_extra_state' of its state_dict\(\) is dict; wanted tensors of plain numbers"),
        (SparseMask, r"'mask' of its state_dict\(\) is a sparse tensor"),
        (ComplexWeight, r"its 'turns' is complex64, .*torch.view_as_real"),
    ],
)
def test_what_a_file_would_lose_is_refused_with_a_remedy(make, message, monkeypatch):
    with pytest.raises(InvalidInput, match=message):
        built(make, monkeypatch)


@pytest.mark.parametrize(
    "make",
    [
        FillsACache,
        DrawsNoise,
        lambda: nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()),
        KeepsFeatures,
        KeepsByMethod,
        ReadsSettings,
        lambda: nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train(),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3)),
        lambda: nn.DataParallel(nn.Linear(8, 3)),
    ],
)
def test_networks_whose_calls_are_alike_are_taken(make, monkeypatch):
    built(make, monkeypatch)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_that_numpy_cannot_hold_are_refused_where_inputs_are_not_floats(kind, monkeypatch):
    def make():
        return nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(32, 3)).to(kind)

    ids = (AskedInput(name="ids", sizes=(None, 4), dtype="int64"),)
    if kind != torch.bfloat16:
        assert built(make, monkeypatch, inputs=ids)[0].weight.dtype == kind
        return
    with pytest.raises(
        InvalidInput, match=r"brought:make: its '0\.weight' is bfloat16, .*: call \.float\(\) on the network"
    ):
        built(make, monkeypatch, inputs=ids)


def test_weights_that_the_first_call_draws_are_seeded(monkeypatch):
    first, again, other = (built(lambda: nn.LazyLinear(3), monkeypatch, seed).weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_that_numpy_and_python_draw_are_seeded_and_the_callers_states_stay(monkeypatch):
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = (built(NumpyWeights, monkeypatch, seed).weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_a_network_that_a_module_holds_is_not_changed_by_what_is_done_to_it(monkeypatch):
    held = nn.Linear(8, 3)
    first = built(lambda: held, monkeypatch)
    nn.init.zeros_(first.weight)
    assert bool(built(lambda: held, monkeypatch).weight.any())


def test_a_compiled_network_is_the_one_that_it_was_made_of(monkeypatch):
    assert isinstance(built(lambda: torch.compile(nn.Linear(8, 3)), monkeypatch), nn.Linear)


def test_compiled_layers_inside_a_network_are_those_that_they_were_made_of(monkeypatch):
    names = [name for name, _ in built(CompiledInside, monkeypatch).named_parameters()]
    assert names == ["layers.0.weight", "layers.0.bias", "layers.1.0.weight", "layers.1.0.bias"]


@pytest.mark.parametrize("make", [Wrapper, lambda: nn.Sequential(Wrapper())])
def test_a_wrapper_of_a_compiled_network_stays(make, monkeypatch):
    wrapper = next(part for part in built(make, monkeypatch).modules() if not isinstance(part, nn.Sequential))
    assert [type(part) for part in wrapper.modules()] == [Wrapper, nn.Linear, nn.Linear]


def test_a_compiled_layer_with_two_names_is_plain_under_both_and_nothing_else_is_set(monkeypatch):
    network = built(CompiledTwice, monkeypatch)
    assert type(network.a) is nn.Linear
    assert network.b is network.a
    assert {*network.assigned} == {"a", "b", "training"}


def test_a_hook_that_is_a_method_works_on_copies(monkeypatch):
    network = built(KeepsByMethod, monkeypatch)
    copied = duplicate(network)
    nn.init.zeros_(copied.layer.weight)
    x = torch.ones(2, 8)
    assert torch.equal(network(x), network.head(network.layer(x)))
    assert torch.equal(copied(x), copied.head(copied.layer(x)))
    assert "Gemm" in {node.op_type for node in onnx.load_from_string(export(copied, (x,)).onnx).graph.node}
