"""Residual branches that go: what stands in their place, what goes with them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_network import context_of, run
from torch import Tensor, nn

from bench.compress.export import export
from bench.compress.hooks import hooked
from bench.compress.interface import Network
from bench.compress.prune.branches import Constant
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, Unsupported
from bench.models.networks.mlperf_tiny import TinyBlock


class Residual(nn.Module):
    """Two blocks: one added, one joined behind the other channels."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.in_place = in_place
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 6, 3, stride=1, padding="same")
        self.bn = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.beside = nn.Conv2d(8, 4, 1)
        self.down = nn.Conv2d(12, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = self.bn2(self.last(torch.relu(self.bn(self.first(x)))))
        if self.in_place:
            y += x
        else:
            y = y + x
        y = torch.cat([y, self.beside(y)], 1)
        return self.fc(torch.relu(self.down(y)).mean((2, 3)))


class Gated(nn.Module):
    """Linear layers over a sequence, one of which runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.twice, self.fc = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.fc(x + self.twice(self.twice(x))).mean(1)


@pytest.fixture
def whole() -> nn.Module:
    torch.manual_seed(0)
    module = Residual()
    module(torch.rand(32, 1, 8, 8))
    return module.eval()


def dropped(module: nn.Module, folder: Path, *names: str, keep: str = "mean") -> Network:
    (step,) = parse_recipe("r", f"branches(drop={names}, keep={keep!r})").steps
    return step.apply(Network(module=module), context_of(module, folder))


def test_a_branch_computes_the_mean_of_its_last_layer_and_its_layers_leave_the_file(whole, tmp_path):
    context = context_of(whole, tmp_path)
    short = dropped(whole, tmp_path, "last")
    assert short.notes["branches"] == {"last": ["first"]}
    means: list[Tensor] = []

    def hold(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not means:
            means.append(output.mean((0, 2, 3), keepdim=True))
        return means[0].expand_as(output)

    with torch.no_grad(), hooked([(whole.last, hold)]):
        wanted = whole(*context.example)
    assert torch.allclose(short.module(*context.example), wanted, atol=1e-5)

    def layers(module: nn.Module) -> list[str]:
        return sorted(export(module, context.example).layers)

    assert layers(whole) == ["beside", "down", "fc", "first", "last", "stem"]
    assert layers(short.module) == ["beside", "down", "fc", "stem"]


def test_the_means_are_of_the_calibration_samples_and_none_are_made_up(whole, tmp_path):
    context = context_of(whole, tmp_path)
    (step,) = parse_recipe("r", "branches(drop=('last',))").steps
    known = step.apply(Network(module=whole), replace(context, calibration=(np.ones((4, 1, 8, 8), np.float32),)))
    with torch.no_grad():
        ones = whole.last(torch.relu(whole.bn(whole.first(torch.relu(whole.stem(torch.ones(4, 1, 8, 8)))))))
    assert torch.allclose(known.module.last.value, ones.mean((0, 2, 3)), atol=1e-5)
    with pytest.raises(Unsupported, match="no data set"):
        step.apply(Network(module=whole), replace(context, data=None))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_branch_that_leaves_nothing_leaves_no_addition_in_the_file_before_and_after_training(
    in_place, whole, tmp_path
):
    whole.in_place = in_place
    context = context_of(whole, tmp_path)
    (step,) = parse_recipe("r", "branches(drop=('last',), keep='nothing')").steps
    short = step.apply(Network(module=whole), replace(context, data=None))
    assert short.notes["branches"] == {"last": ["first"]}
    x = context.example[0]
    with torch.no_grad():
        y = torch.relu(whole.stem(x))
        y = torch.cat([y, whole.beside(y)], 1)
        wanted = whole.fc(torch.relu(whole.down(y)).mean((2, 3)))
    assert torch.allclose(short.module(x), wanted, atol=1e-6)
    for network in (short, run("finetune(epochs=1)", short, context)):
        exported = export(network.module, context.example)
        proto = onnx.load_from_string(exported.onnx)
        assert "Add" not in {node.op_type for node in proto.graph.node}
        got = onnx.reference.ReferenceEvaluator(proto).run(None, {"input": x.numpy()})[0]
        assert torch.allclose(torch.from_numpy(got), network.module(x), atol=1e-5)


def test_a_relu_behind_a_block_that_left_nothing_is_not_computed_twice(tmp_path):
    block = TinyBlock(4, 4, 1, project=False)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), block, nn.Flatten(), nn.Linear(144, 4)).eval()
    short = dropped(module, tmp_path, "2.conv2", keep="nothing")
    proto = onnx.load_from_string(export(short.module, context_of(module, tmp_path).example).onnx)
    assert [node.op_type for node in proto.graph.node if node.op_type != "Reshape"] == ["Conv", "Relu", "Gemm"]


def test_a_normalization_that_sees_more_than_the_branch_stays(tmp_path):
    """With `y += x` before it, a norm reads the tensor that the branch's last layer gave, but not its values."""

    class Behind(Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            y = self.last(torch.relu(self.bn(self.first(x))))
            y += x
            y = self.bn2(y)
            return self.fc(torch.relu(self.down(torch.cat([y, self.beside(y)], 1))).mean((2, 3)))

    torch.manual_seed(0)
    short = dropped(Behind().eval(), tmp_path, "last", keep="nothing").module
    assert isinstance(short.bn2, nn.BatchNorm2d)


def test_zero_stays_zero_where_channels_go_before_training(whole, tmp_path):
    context = context_of(whole, tmp_path)
    short = dropped(whole, tmp_path, "last", keep="nothing")
    trained = run("channels(amount=0.5, round_to=1) + finetune(epochs=1)", short, context).module
    assert trained.stem.out_channels < 8
    assert not trained.last.value.any()
    assert "Add" not in {
        node.op_type for node in onnx.load_from_string(export(trained, context.example).onnx).graph.node
    }


def test_a_sum_with_zeros_that_are_larger_stays_in_the_file():
    class Grown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zeros = nn.Parameter(torch.zeros(3, 1), requires_grad=False)
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x[:, None] + self.zeros)

    module, x = Grown().eval(), torch.rand(2, 4)
    proto = onnx.load_from_string(export(module, (x,)).onnx)
    got = onnx.reference.ReferenceEvaluator(proto).run(None, {"input": x.numpy()})[0]
    assert got.shape == (2, 3, 4)


def test_a_zero_that_training_may_change_is_added_in_the_file(whole, tmp_path):
    context = context_of(whole, tmp_path)
    short = dropped(whole, tmp_path, "last", keep="nothing").module.requires_grad_()
    proto = onnx.load_from_string(export(short, context.example).onnx)
    assert "Add" in {node.op_type for node in proto.graph.node}


@pytest.mark.parametrize(
    ("name", "in_place", "broadcast"), [("last", False, True), ("last", True, False), ("beside", False, False)]
)
def test_the_file_computes_what_the_network_does(name, in_place, broadcast, whole, tmp_path):
    """Where outputs are added the constant is broadcast; where they are joined, or added in place, it keeps its size."""
    whole.in_place = in_place
    context = context_of(whole, tmp_path)
    module = dropped(whole, tmp_path, name).module
    constant = module.get_submodule(name)
    assert isinstance(constant, Constant)
    assert constant.broadcast == broadcast
    proto = onnx.load_from_string(export(module, context.example).onnx)
    got = onnx.reference.ReferenceEvaluator(proto).run(None, {"input": context.example[0].numpy()})[0]
    assert torch.allclose(torch.from_numpy(got), module(*context.example), atol=1e-5)


def test_training_goes_on_with_whole_outputs_and_moves_the_constant(whole, tmp_path):
    whole.in_place = True
    module = dropped(whole, tmp_path, "last", "beside").module.train()
    before = module.beside.value.detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    module(torch.rand(4, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(module.beside.value, before)
    assert torch.isfinite(module.eval()(torch.rand(2, 1, 8, 8))).all()


def test_linear_layers_are_branches_too(tmp_path):
    torch.manual_seed(0)
    module = Gated().eval()
    short = dropped(module, tmp_path, "outer")
    assert short.notes["branches"] == {"outer": ["inner"]}
    x = torch.rand(2, 1, 8, 8)
    rows = x[:, 0] + short.module.outer.value
    assert torch.allclose(short.module(x), module.fc(rows + module.twice(module.twice(rows))).mean(1), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (Residual, "stem", "without stem nothing of the input reaches the outputs"),
        (Residual, "fc", "without fc nothing of the input reaches the outputs"),
        (Gated, "twice", "does not run exactly once"),
    ],
)
def test_what_is_no_branch_is_refused(make, name, said, tmp_path):
    with pytest.raises(Unsupported, match=said):
        dropped(make().eval(), tmp_path, name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("branches(drop=())", "name the last layer"),
        ("branches(drop=('a', 'a'))", "named twice"),
        ("branches(drop=('lost',))", "nearest: last"),
        ("branches(drop=('last',), keep='zero')", "keep must be"),
    ],
)
def test_bad_names_are_refused(text, said, whole, tmp_path):
    with pytest.raises(InvalidInput, match=said):
        parse_recipe("r", text).steps[0].apply(Network(module=whole), context_of(whole, tmp_path))


@pytest.mark.parametrize("keep", ["mean", "nothing"])
@pytest.mark.parametrize("text", ["channels(amount=0.5, round_to=1)", "widths(keep=('down=4',))", "prune(amount=0.5)"])
def test_later_steps_see_the_shorter_network(text, keep, whole, tmp_path):
    short = dropped(whole, tmp_path, "last", keep=keep)
    context = context_of(whole, tmp_path)
    made = parse_recipe("r", text).steps[0].apply(short, context)
    assert made.module(*context.example).shape == (2, 4)
    assert set(export(made.module, context.example).layers) == {"beside", "down", "fc", "stem"}


def test_a_weight_of_zero_that_is_not_trained_yet_stays_in_the_file():
    """A bias of a linear layer of sequences is an addition of its own."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 4)
            nn.init.zeros_(self.line.bias)
            self.nothing = nn.Parameter(torch.full((4,), -0.0), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(torch.relu(self.line(x)) + self.nothing)

    proto = onnx.load_from_string(export(Both(), (torch.rand(2, 3, 4),)).onnx)
    assert [node.op_type for node in proto.graph.node] == ["MatMul", "Add", "Relu", "Tanh"]
    assert "line.bias" in {one.name for one in proto.graph.initializer}
