"""The exporter's table of operators is collected once per process, and nothing of torch stays changed."""

from __future__ import annotations

import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

from bench.compress import export as exporting
from bench.compress.export import export


def network():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))


def test_two_exports_collect_once_and_give_what_an_export_alone_gives(monkeypatch):
    collected = []
    original = vars(ONNXRegistry)["from_torchlib"]

    def counting(cls, *arguments, **named):
        collected.append(cls)
        return original.__func__(cls, *arguments, **named)

    monkeypatch.setattr(ONNXRegistry, "from_torchlib", classmethod(counting))
    module, example = network().eval(), (torch.zeros(2, 1, 8, 8),)
    first, second = export(module, example), export(module, example)
    assert len(collected) == 1
    assert vars(ONNXRegistry)["from_torchlib"].__func__ is counting
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_collect", lambda collect, *arguments, **named: collect(*arguments, **named))
        alone = export(module, example)
    assert len(collected) == 2
    assert first.onnx == second.onnx == alone.onnx
