"""A network that takes images with the channels last is exported as plainly as one that takes them first."""

from __future__ import annotations

import io

import onnx
import torch
from torch import nn

from bench.compress.export import export


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.pool(self.conv(x.permute(0, 3, 1, 2))).flatten(1))


def test_a_mean_of_whole_images_with_the_channels_last_gathers_nothing():
    """Torch makes a strided view of it, of which its exporter makes a Range and a Gather."""
    made = export(Turned().eval(), (torch.zeros(2, 8, 8, 3),))
    kinds = [node.op_type for node in onnx.load_model_from_string(made.onnx).graph.node]
    assert kinds == ["Transpose", "Conv", "ReduceMean", "Reshape", "Gemm"]
    program = torch.export.load(io.BytesIO(made.pt2))
    assert torch.ops.aten.adaptive_avg_pool2d.default in {node.target for node in program.graph.nodes}
