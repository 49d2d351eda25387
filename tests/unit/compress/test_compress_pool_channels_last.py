"""A network that takes images with the channels last is exported as plainly as one that takes them first."""

from __future__ import annotations

import io

import onnx
import pytest
import torch
from torch import nn

from bench.compress.export import POOLS, export


class Turned(nn.Module):
    def __init__(self, axes: int) -> None:
        super().__init__()
        kinds = (nn.Conv1d, nn.AdaptiveAvgPool1d), (nn.Conv2d, nn.AdaptiveAvgPool2d), (nn.Conv3d, nn.AdaptiveAvgPool3d)
        conv, pool = kinds[axes - 1]
        self.conv, self.pool, self.fc = conv(3, 4, 3), pool(1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.pool(self.conv(x.movedim(-1, 1))).flatten(1))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_mean_of_whole_images_with_the_channels_last_gathers_nothing(axes):
    """Torch makes a strided view of it, of which its exporter makes a Range and a Gather."""
    made = export(Turned(axes).eval(), (torch.zeros(2, *[8] * axes, 3),))
    kinds = [node.op_type for node in onnx.load_model_from_string(made.onnx).graph.node]
    assert kinds == ["Transpose", "Conv", "ReduceMean", "Reshape", "Gemm"]
    program = torch.export.load(io.BytesIO(made.pt2))
    assert POOLS & {node.target for node in program.graph.nodes}
