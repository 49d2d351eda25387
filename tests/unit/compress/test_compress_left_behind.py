"""Networks whose forward leaves tensors in attributes, whose `train` returns nothing, and that give no gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import Small, context_of
from torch import Tensor, nn

from bench.compress.export import export
from bench.compress.interface import Network
from bench.compress.pipeline import apply_steps
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported


class LeavesFeatures(Small):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]  # as in mmdetection
        super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        self.features = [torch.relu(self.bn(self.conv(x)))]
        self.first = self.features[0].mean()
        return super().forward(x)


class WithoutGradient(Small):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def run(text: str, module: nn.Module, folder: Path) -> Network:
    return apply_steps(Network(module=module), parse_recipe("r", text).steps, context_of(module, folder), "left", {})


@pytest.mark.parametrize(
    "text",
    [
        "finetune(epochs=1) + prune(amount=0.5) + distill(epochs=1) + share(bits=4)",
        "channels(amount=0.5) + finetune(epochs=1) + neurons(amount=0.5)",
        "regularize(epochs=1) + lowrank(rank_ratio=0.3, only=('pointwise',))",
        "finetune(epochs=1) + ternary(epochs=1)",
        "sensitivity(max_drop_pp=50.0) + finetune(epochs=1)",
    ],
)
def test_steps_follow_each_other_whatever_a_network_keeps_of_its_last_call(text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = LeavesFeatures()
    module.eval()
    found = run(text, module, tmp_path)
    assert not found.module.training
    assert export(found.module, context_of(module, tmp_path).example).onnx


@pytest.mark.parametrize(
    "text",
    ["channels(amount=0.5)", "neurons(amount=0.5)", "prune(amount=0.5, criterion='taylor')", "finetune(epochs=1)"],
)
def test_a_network_that_gives_no_gradient_is_refused_with_the_remedy(text: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"gradient.*no_grad\(\).*; take that out of forward"):
        run(text, WithoutGradient().eval(), tmp_path)


def test_a_network_is_followed_where_gradients_were_switched_off_by_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        found = run("channels(amount=0.5) + prune(amount=0.5, criterion='taylor')", Small().eval(), tmp_path)
    assert found.module.pointwise.out_channels == 6
