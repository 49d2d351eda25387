"""The names of cached results: digests of everything the files of a recipe depend on."""

from __future__ import annotations

from pathlib import Path

from torch import nn

import bench.models
import bench.tasks
from bench import cache
from bench.compress.interface import Compressor, Context
from bench.data.datasets import Dataset
from bench.models.sources import class_digests, describe_network, digests, network_files, package_digests
from bench.models.tensors import Inputs
from bench.plugins import installed_version
from bench.types import Json, Model

PACKAGES = ("numpy", "onnx", "onnxscript", "scipy", "tensorly", "torch", "torch-pruning")
"""Libraries whose version is part of every name."""
CODE = (Path(__file__).parent, Path(bench.models.__file__).parent, Path(bench.tasks.__file__).parent)
"""Our packages whose code is part of every name: all that compresses, and all that builds and trains networks, with the
losses that they are trained by.

`bench.data` is not here because a data set counts by its content, `bench.formats` because a model file does.
"""


def identity(
    model: Model,
    module: nn.Module,
    data: Dataset | None,
    example: Inputs,
    seed: int,
    *,
    content: str = "",
    masked: tuple[str, ...] = (),
) -> Json:
    """Everything but the steps that the files depend on: the network, its source files, shape of the input, data, seed,
    versions of libraries. `content`: digest of the file that the network was made of; its layers do not show the graph.
    `masked`: parameters with zeros that stay."""
    found: Json = {
        "network": describe_network(module),
        "file": content,
        "factory": digests(network_files(model.factory or "")),
        "input": [[str(one.dtype), *one.shape[1:]] for one in example],
        "data": data.training_digest if data else "",
        "seed": seed,
        "versions": {name: installed_version(name) for name in PACKAGES},
    }
    return {**found, "masked": list(masked)} if masked else found


def key_of(base: Json, steps: tuple[Compressor, ...], context: Context) -> str:
    """The name of what these steps make of a network with this `identity`. Builds the networks that the steps bring in."""
    code = code_digests(steps)
    brought = [describe_network(module) for step in steps for module in step.networks(context)]
    return cache.key(base=base, steps=[repr(step) for step in steps], code=code, brought=brought)


def code_digests(steps: tuple[Compressor, ...]) -> list[str]:
    """Digests of our code, of the files of the steps' classes, and of the files that the steps name."""
    ours = [digest for folder in CODE for digest in package_digests(folder)]
    named = digests(file for step in steps for file in step.sources())
    return ours + class_digests(type(step) for step in steps) + named
