"""Recipes that begin with the same training do it once: results are cached by what they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from bench import cache
from bench.compress.interface import Compressor, Context, Network
from bench.models.copies import duplicate, set_eval
from bench.types import Json

FILE = "network.safetensors"
PARTS = ("module", "masks", "clusters")


def apply_or_load(step: Compressor, network: Network, context: Context, name: str) -> Network:
    """What `step.apply` gives, from the cache's entry `name` where it was kept before. The bytes are the same.

    Keeps weights, masks, clusters and notes. The structure comes from the steps before, so a step that changes
    the structure is not kept and trains every time.
    """
    kept = cache.read(context.cache, "trained", name)
    if kept is not None:
        return _load(network, kept)
    result = step.apply(network, context)
    if _structure(result) == _structure(network) and result.quant == network.quant:
        tensors = {f"{part}:{name}": value for part in PARTS for name, value in _tensors(result, part).items()}
        content = safetensors.torch.save(
            {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        )

        def write(folder: Path) -> Mapping[str, Json]:
            (folder / FILE).write_bytes(content)
            return {"notes": dict(result.notes)}

        cache.find_or_make(context.cache, "trained", name, write)
    return result


def _load(network: Network, kept: cache.Entry) -> Network:
    tensors = safetensors.torch.load((kept.folder / FILE).read_bytes())
    found: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, value in tensors.items():
        part, _, name = key.partition(":")
        found[part][name] = value
    module = duplicate(network.module)
    module.load_state_dict(found["module"])
    return replace(
        network, module=set_eval(module), masks=found["masks"], clusters=found["clusters"], notes=kept.facts["notes"]
    )


def _tensors(network: Network, part: str) -> Mapping[str, Tensor]:
    if part == "module":
        state: Mapping[str, Tensor] = network.module.state_dict()
        return state
    return network.masks if part == "masks" else network.clusters


def _structure(network: Network) -> tuple[str, dict[str, tuple[int, ...]]]:
    """What shows of a network's structure: its layers as text, the names and shapes of its tensors."""
    state = network.module.state_dict()
    return repr(network.module), {name: tuple(value.shape) for name, value in state.items()}
