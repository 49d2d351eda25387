"""Networks ready to use: with the user's weights, or ours trained on first use and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import nn

import bench.tasks
from bench.cache import find_or_make
from bench.data.datasets import Dataset
from bench.errors import Unsupported
from bench.models.catalogue import Training, is_reference, training_of
from bench.models.checkpoint import load_weights
from bench.models.copies import set_eval
from bench.models.factory import build
from bench.models.sources import describe_network, digests, network_files, package_digests
from bench.models.training.batchnorm import settle
from bench.models.training.fit import Objective, Schedule, cross_entropy, fit
from bench.types import Json, Model, Progress

WEIGHTS = "weights.safetensors"
CODE = (Path(__file__).parent.parent, Path(bench.tasks.__file__).parent)
"""`bench.models` and `bench.tasks`: the code that builds and trains networks, and the losses it trains them by."""


def train_or_load(
    model: Model,
    data: Dataset | None,
    *,
    cache: Path,
    seed: int,
    progress: Progress,
    training: Training | None = None,
) -> nn.Module:
    """The network in eval mode, with the weights that `describe_weights` names.

    A checkpoint comes first. A user's function keeps the weights it made, unless `model.train` asks for training.
    A reference network is trained on first use, and kept in the cache under a digest of everything its weights
    depend on. Without a data set its weights are seeded noise, and its BatchNorm statistics are set so that outputs
    stay finite. `training`: None for the catalogue's settings.

    Raises `Unsupported` for a model of another shape or number of classes than the data set's,
    `Unavailable` when the cache cannot be written.
    """
    module = build(model, seed)
    if model.weights is not None:
        load_weights(module, model.weights)
        return module
    if not (model.train or is_reference(model)):
        return module
    if data is None:
        settle(module, model.input_shape, seed)
        return module
    _check_fits(model, data)
    settings = training or training_of(model)

    def make(folder: Path) -> Mapping[str, Json]:
        _train(module, model.name, data, settings, seed, progress)
        save_model(module, str(folder / WEIGHTS))
        return {}

    name = f"{_slug(model.name)}-{_digest(model, module, data, seed, settings)}"
    load_model(module, find_or_make(cache, "models", name, make, progress).folder / WEIGHTS)
    return set_eval(module)


def describe_weights(model: Model, data: Dataset | None, seed: int) -> str:
    """Where the weights of a network come from before any step of a recipe: what `train_or_load` gives it."""
    if model.file is not None:
        return "the file's own"
    if model.weights is not None:
        return f"checkpoint {model.weights.name}"
    if not (model.train or is_reference(model)):
        return f"as {model.factory} made them"
    if data is None:
        return f"untrained, seed {seed}"
    return f"trained here on {data.name}, seed {seed}"


def _check_fits(model: Model, data: Dataset) -> None:
    if model.classes != data.classes or model.input_shape != data.input_shape:
        raise Unsupported(
            f"{model.name} ({model.input_shape} -> {model.classes}) does not fit data set {data.name!r} "
            f"({data.input_shape} -> {data.classes})"
        )


def _train(module: nn.Module, name: str, data: Dataset, settings: Training, seed: int, progress: Progress) -> None:
    schedule = Schedule(
        epochs=settings.epochs_for(len(data.train)),
        learning_rate=settings.learning_rate,
        batch=settings.batch,
        optimizer=settings.optimizer,
        weight_decay=settings.weight_decay,
    )
    smoothed = Objective(loss=cross_entropy(settings.label_smoothing)) if settings.label_smoothing else None
    label = f"training {name} on {data.name}"
    fit(module, data, schedule, seed=seed, progress=progress, label=label, objective=smoothed)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:60]


def _digest(model: Model, module: nn.Module, data: Dataset, seed: int, settings: Training) -> str:
    """Covers everything the trained weights depend on: network, first weights, code, data, seed, settings, torch."""
    parts = {
        "model": asdict(replace(model, data=None)),
        "network": describe_network(module),
        "code": [digest for folder in CODE for digest in package_digests(folder)],
        "factory": digests(network_files(model.factory or "")),
        "data": data.training_digest,
        "seed": seed,
        "settings": asdict(settings),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
