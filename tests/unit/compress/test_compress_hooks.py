"""Hooks see what enters and leaves a layer, may replace it, and are gone afterwards whatever happened."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.compress.hooks import hooked


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_hooks_see_and_replace_what_enters_and_leaves():
    module, x = net(), torch.ones(1, 4)
    seen: list[torch.Tensor] = []

    def entering(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (2 * inputs[0],)

    def leaving(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        seen.extend([*inputs, output])
        return output + 1

    with torch.no_grad(), hooked([(module[1], leaving)], entering=[(module[0], entering)]):
        found = module(x)
    hidden = module[0](2 * x).detach()
    assert torch.equal(seen[0], hidden)
    assert torch.equal(seen[1], module[1](hidden).detach())
    assert torch.equal(found, seen[1] + 1)


def test_inputs_by_keyword_are_seen_and_replaced_too():
    layer, x = nn.Bilinear(4, 4, 2), torch.ones(1, 4)
    seen: list[int] = []

    def entering(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(2 * one for one in inputs)

    def leaving(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.append(len(inputs))

    with torch.no_grad(), hooked([(layer, leaving)], entering=[(layer, entering)]):
        found = [layer(x, input2=x), layer(input1=x, input2=x)]
    assert seen == [2, 2]
    assert all(torch.equal(one, layer(2 * x, 2 * x)) for one in found)


def test_hooks_are_removed_after_an_error_inside_and_after_one_while_they_are_set():
    module = net()

    def leave(layer: nn.Module, inputs: object, output: object) -> None:
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"), hooked([(module[0], leave)]):
        module(torch.ones(1, 4))
    with pytest.raises(AttributeError), hooked([(module[0], leave), (None, leave)]):  # type: ignore[list-item]
        pytest.fail("the second layer does not exist")
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module)
