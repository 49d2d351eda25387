"""Networks that torch cannot write as files: the reason is what stands in the way, in one line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.compress.export import export
from bench.errors import Unsupported


class Eigenvalues(nn.Module):
    """An operator that ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x[:, :, None] * torch.eye(8))


class Routed(nn.Module):
    """Each sample goes to an expert, which does not run without samples."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(8, 2), nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        chosen, result = self.router(x).argmax(1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            own = (chosen == number).nonzero()[:, 0]
            if len(own):
                result[own] = expert(x[own])
        return result


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Eigenvalues(), r"cannot be exported to ONNX: No ONNX function found for .*linalg_eigh"),
        (Routed(), r"cannot be exported by torch\.export: .*data-dependent"),
    ],
)
def test_the_reason_is_what_stands_in_the_way_and_nothing_else_is_printed(module, said, capfd):
    with pytest.raises(Unsupported, match=said) as caught:
        export(module.eval(), (torch.rand(2, 8),))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not any(capfd.readouterr())
