"""Training that recipes share is kept whole, however its tensors lie in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import context_of, settled

from bench.compress.interface import Compressor, Context, Network
from bench.compress.train.finetune import Finetune
from bench.compress.trained_cache import apply_or_load


def test_a_mask_that_lies_across_memory_is_kept_and_read_back(tmp_path, monkeypatch):
    module = settled()
    mask = (torch.arange(72).reshape(3, 3, 1, 8) % 4 > 1).float().permute(3, 2, 1, 0)
    assert not mask.is_contiguous()
    context = context_of(module, tmp_path)
    pruned = Network(module=module, masks={"conv.weight": mask})
    first = apply_or_load(Finetune(epochs=1), pruned, context, "kept")

    def again(self: Compressor, network: Network, context: Context) -> Network:
        pytest.fail("trained twice")

    monkeypatch.setattr(Finetune, "apply", again)
    second = apply_or_load(Finetune(epochs=1), replace(pruned), context, "kept")
    assert torch.equal(second.masks["conv.weight"], mask)
    for name, value in first.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], value)
