"""What decides a network's outputs is in the names of cached results, also what `repr` and state_dict() leave out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.models.sources import describe_network


class Holds(nn.Module):
    """A layer, and a factor that is held as the test says."""

    def __init__(self, value: float, hold: Callable[[nn.Module, Tensor], None]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 2)
        hold(self, torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.factor


class Acts(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.act = nn.Linear(4, 2), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fc(x))


HOLDING = {
    "a buffer": lambda module, value: module.register_buffer("factor", value),
    "a buffer that is not kept": lambda module, value: module.register_buffer("factor", value, persistent=False),
    "a parameter": lambda module, value: module.register_parameter("factor", nn.Parameter(value)),
    "a tensor": lambda module, value: setattr(module, "factor", value),
    "a bfloat16 tensor": lambda module, value: setattr(module, "factor", value.bfloat16()),
    "a number": lambda module, value: setattr(module, "factor", float(value)),
}


@pytest.mark.parametrize("hold", HOLDING.values(), ids=HOLDING)
def test_whatever_holds_a_factor_another_factor_is_another_network(hold):
    first, again, other = (describe_network(Holds(value, hold)) for value in (2.0, 2.0, 3.0))
    assert first == again
    assert first != other


def test_traced_networks_of_the_same_layers_and_another_graph_are_not_the_same():
    acts = (F.relu, F.relu, F.leaky_relu, lambda x: F.leaky_relu(x, 0.2))
    relu, again, leaky, slope = (describe_network(fx.symbolic_trace(Acts(act))) for act in acts)
    assert relu == again
    assert len({str(one) for one in (relu, leaky, slope)}) == 3
