"""What counts as broken by a step: a tensor that was finite and is not, never a mask that was infinite before."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench.models.finite import find_broken


def holding(**values: float) -> nn.Module:
    module = nn.Module()
    for name, value in values.items():
        module.register_buffer(name, torch.tensor([0.0, value]))
    return module


@pytest.mark.parametrize(
    ("before", "after", "trained", "broken"),
    [
        ({"mask": -math.inf}, {"mask": -math.inf}, True, ""),
        ({"mask": math.nan}, {"mask": math.nan}, True, ""),
        ({"mask": -math.inf}, {"mask": math.nan}, False, "mask"),
        ({"mask": -math.inf, "weight": 1.0}, {"mask": -math.inf, "weight": math.inf}, True, "weight"),
        ({"weight": 1.0}, {"weight": math.nan}, False, "weight"),
        ({"weight": 1.0}, {"mask": -math.inf}, False, ""),
        ({"weight": 1.0}, {"factor": math.nan}, False, "factor"),
        ({"weight": 1.0}, {"factor": math.inf}, True, "factor"),
    ],
)
def test_a_tensor_is_broken_where_it_became_worse_than_it_was(before, after, trained, broken):
    assert find_broken(holding(**after), holding(**before), trained=trained) == broken
