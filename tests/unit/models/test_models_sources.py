"""What decides a network's outputs is in the names of cached results, also what `repr` and state_dict() leave out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.models.sources import describe_network, network_files


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


@dataclass
class Config:
    factor: float


class Reads(nn.Module):
    """A layer, and settings that its function may have read from a file of any name."""

    def __init__(self, settings: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.settings, self._log, self._lock = nn.Linear(4, 2), settings, logging.getLogger("reads"), Lock()


SETTINGS = {
    "a function": (F.relu, F.gelu),
    "a partial function": (partial(F.leaky_relu, negative_slope=0.1), partial(F.leaky_relu, negative_slope=0.2)),
    "a tuple": ((1, 2), (2, 1)),
    "a mapping in a list": ([{"pool": "mean"}], [{"pool": "max"}]),
    "a dataclass": (Config(1.0), Config(2.0)),
    "a namespace": (SimpleNamespace(factor=1.0), SimpleNamespace(factor=2.0)),
    "an array": (np.zeros(3), np.ones(3)),
    "a type": (torch.float16, torch.float32),
    "none": (None, 1),
}


@pytest.mark.parametrize(("one", "two"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_of_any_kind_is_in_the_name_of_a_network(one, two):
    first, again, other = (describe_network(Reads(value)) for value in (one, copy.deepcopy(one), two))
    assert first == again
    assert first != other


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


def test_the_files_of_a_users_function_are_those_that_it_imports_also_behind_a_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "sourced_nets"
    package.mkdir()
    (package / "__init__.py").write_text("from sourced_nets.small import make\n")
    (package / "small.py").write_text(
        "from torch import nn\nfrom .blocks import width\n\n\ndef make():\n    return nn.Linear(8, width)\n"
    )
    (package / "blocks.py").write_text("from sourced_widths import width\n")
    (tmp_path / "sourced_widths.py").write_text("width = 3\n")
    wanted = ["__init__.py", "blocks.py", "small.py", "sourced_widths.py"]
    for text in ("sourced_nets:make", "sourced_nets.small:make"):
        assert sorted(file.name for file in network_files(text)) == wanted
    assert [file.name for file in network_files("lenet5(width=0.5)")] == ["lenet.py"]
    assert [file.name for file in network_files("bench.models.networks.lenet:lenet5")] == ["lenet.py"]
    assert [file.suffix for file in network_files("torch.nn:Linear")] == [".py"]
