"""Networks that call a layer several times, and attention whose result torch views in another shape."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from bench.compress.export import export


class _Twice(nn.Module):
    """One linear layer that sees rows of a sequence two times."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(40, 40)
        self.last = nn.Linear(40, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.step(torch.relu(self.step(x)))).mean(1))


class _Windows(nn.Module):
    """Attention in windows, some of which see only a part of themselves, as Swin computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.last = nn.Linear(8, 8)
        self.bias = nn.Parameter(torch.randn(1, 2, 4, 4))
        self.register_buffer("mask", torch.randn(4, 1, 4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, 1)
        query, key, value = (part.view(*rows.shape[:2], 2, 4).transpose(1, 2) for part in self.qkv(rows).chunk(3, -1))
        mask = self.mask.expand(x.shape[0], -1, -1, -1, -1).reshape(-1, 1, 4, 4) + self.bias
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.last(seen.transpose(1, 2).contiguous().reshape(*rows.shape[:2], -1)).view(x.shape)


def test_a_layer_that_runs_twice_is_stored_once() -> None:
    torch.manual_seed(0)
    module = _Twice()
    found = export(module, (torch.rand(2, 5, 40),))
    model = onnx.load_from_string(found.onnx)
    sizes = sorted(int(np.prod(item.dims)) for item in model.graph.initializer)
    assert sizes.count(1600) == 1
    assert found.layers == ("step", "last")
    _same_outputs(module, model, torch.rand(3, 5, 40))


def test_attention_with_a_bias_over_windows_is_exported() -> None:
    torch.manual_seed(0)
    module = _Windows()
    found = export(module, (torch.rand(2, 4, 4, 8),))
    assert found.fixed_batch == ""
    _same_outputs(module, onnx.load_from_string(found.onnx), torch.rand(3, 4, 4, 8))


def _same_outputs(module: nn.Module, model: onnx.ModelProto, given: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = module(given).numpy()
    (found,) = ReferenceEvaluator(model).run(None, {"input": given.numpy()})
    np.testing.assert_allclose(found, wanted, atol=1e-5)
