"""The one training loop: reference networks, fine-tuning and distillation all go through `fit`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from bench import cache as store
from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.models.catalogue import Training, training_of
from bench.models.checkpoint import load_weights
from bench.models.constraints import constraints_of, restore, tie_gradients
from bench.models.factory import build
from bench.types import Json, Model, Progress

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(module, inputs, labels) -> scalar loss, of a module in training mode."""
Hook = Callable[[nn.Module], None]
SMALL_PARAMS = 1_000_000
WEIGHTS = "weights.safetensors"


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """The ordinary loss of a classifier."""

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(module(x), y, label_smoothing=label_smoothing)

    return loss


def fit(
    module: nn.Module,
    data: Dataset,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    progress: Progress,
    batch: int = 64,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    loss: Loss | None = None,
    masks: Mapping[str, Tensor] | None = None,
    clusters: Mapping[str, Tensor] | None = None,
    extra_parameters: Sequence[Tensor] = (),
    before_step: Hook | None = None,
    after_step: Hook | None = None,
    label: str = "training",
) -> tuple[float, ...]:
    """Trains `module` in place, leaves it in eval mode, and returns the mean loss of each epoch.

    The learning rate falls to 0 along a half cosine (Loshchilov & Hutter 2017), a step at a time.
    `optimizer`: "adam" (AdamW) or "sgd" (Nesterov momentum 0.9). `masks` and `clusters` as in
    `bench.compress.interface.Network`: masked weights stay zero; gradients of a shared weight are
    summed over its cluster (Han et al. 2016, eq. 3) and its members stay equal. `before_step` runs
    after the backward pass and may change gradients, `after_step` may change weights.
    `extra_parameters` are trained along (a projection the loss owns). Networks of under a million
    parameters train on one thread, so that the same seed gives the same bytes whatever the number of
    cores; the caller's random state is left as it was.

    Raises `InvalidInput`: the loss became NaN or infinite, or an argument is out of range.
    """
    if epochs < 1 or not learning_rate > 0 or batch < 1:
        raise InvalidInput(
            f"training needs epochs >= 1, learning_rate > 0, batch >= 1, not {epochs}, {learning_rate}, {batch}"
        )
    stepper = _optimizer(optimizer, [*_trainable(module), *extra_parameters], learning_rate, weight_decay)
    batches = max(1, len(data.x_train) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, epochs * batches)
    constraints = constraints_of(masks or {}, clusters or {})
    objective = loss or cross_entropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        stepper.zero_grad()
        value = objective(module, x, y)
        value.backward()
        tie_gradients(module, constraints)
        if before_step:
            before_step(module)
        stepper.step()
        schedule.step()
        restore(module, constraints)
        if after_step:
            after_step(module)
        return value.detach()

    losses = []
    with torch.random.fork_rng(devices=[]), _few_threads(module):
        torch.manual_seed(seed)
        _lay_out(module.train(), torch.channels_last)  # convolutions train up to 1.5 times faster
        restore(module, constraints)
        for epoch in range(epochs):
            values = []
            for index, (x, y) in enumerate(_batches(data, batch)):
                values.append(step(x, y))
                if index % 20 == 0:
                    progress(label, (epoch + index / batches) / epochs)
            losses.append(float(torch.stack(values).mean()))
            if not np.isfinite(losses[-1]):
                raise InvalidInput(f"{label}: the loss is {losses[-1]} in epoch {epoch + 1}; lower the learning rate")
    progress(label, 1.0)
    _lay_out(module.eval(), torch.contiguous_format)
    return tuple(losses)


def _trainable(module: nn.Module) -> list[Tensor]:
    return [p for p in module.parameters() if p.requires_grad]


def _batches(data: Dataset, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order; what does not fill a batch is left out, unless it is all there is."""
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    for chosen in torch.randperm(len(x)).split(size):
        if len(chosen) == size or len(x) < size:
            yield x[chosen], y[chosen]


def _optimizer(name: str, parameters: list[Tensor], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    raise InvalidInput(f"unknown optimizer {name!r} (known: adam, sgd)")


@contextmanager
def _few_threads(module: nn.Module) -> Iterator[None]:
    """One thread for small networks: a second gains them little on an idle machine, and on a busy one they wait
    for it (ResNet-8 on digits: 3 s on one thread, 170 s on two of a machine with a load of 6)."""
    before = torch.get_num_threads()
    if sum(p.numel() for p in module.parameters()) < SMALL_PARAMS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Of what has four axes alone: a module's own `to` tries those of five (Conv3d) too, and torch refuses them."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=memory_format)


def trained(
    model: Model,
    data: Dataset | None,
    *,
    cache: Path,
    seed: int,
    progress: Progress,
    training: Training | None = None,
) -> nn.Module:
    """The network ready to use, in eval mode: the user's weights if given, else trained on first use.

    Trained weights are kept in the cache under a digest of everything they follow from. Without
    a data set the weights are seeded noise, BatchNorm's statistics settled so that outputs stay sane.
    """
    module = build(model, seed)
    if model.weights is not None:
        load_weights(module, model.weights)
        return module
    if data is None:
        settle(module, model.input_shape, seed)
        return module
    if model.classes != data.classes or model.input_shape != data.input_shape:
        raise Unsupported(
            f"{model.name} ({model.input_shape} -> {model.classes}) does not fit data set {data.name!r} "
            f"({data.input_shape} -> {data.classes})"
        )
    settings = training or training_of(model)

    def make(folder: Path) -> Mapping[str, Json]:
        fit(
            module,
            data,
            epochs=settings.epochs_for(len(data.x_train)),
            learning_rate=settings.learning_rate,
            seed=seed,
            progress=progress,
            batch=settings.batch,
            optimizer=settings.optimizer,
            weight_decay=settings.weight_decay,
            loss=cross_entropy(settings.label_smoothing),
            label=f"training {model.name} on {data.name}",
        )
        save_model(module, str(folder / WEIGHTS))
        return {}

    name = f"{_slug(model.name)}-{_digest(model, module, data, seed, settings)}"
    kept = store.find_or_make(cache, "models", name, make)
    load_model(module, kept.folder / WEIGHTS)
    return module.eval()


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:60]


def _digest(model: Model, module: nn.Module, data: Dataset, seed: int, settings: Training) -> str:
    """Covers all the weights follow from: network, first weights, code, data, seed, settings, torch."""
    weights = hashlib.sha256()
    for value in module.state_dict().values():
        weights.update(value.numpy(force=True).tobytes())
    text = json.dumps(
        {
            "model": asdict(replace(model, data=None)),
            "module": repr(module),
            "weights": weights.hexdigest(),
            "code": _code(model, module),
            "data": data.digest,
            "seed": seed,
            "settings": asdict(settings),
            "torch": torch.__version__,
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _code(model: Model, module: nn.Module) -> list[str]:
    """Digests of this loop's file, the factory's, and those of every layer's class but torch's own."""
    places = {str(model.factory).partition(":")[0], *(type(layer).__module__ for layer in module.modules())}
    own = [place for place in places if place.partition(".")[0] != "torch" and place in sys.modules]
    files = {__file__, *filter(None, (sys.modules[place].__file__ for place in own))}
    return sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files)


def settle(module: nn.Module, input_shape: tuple[int, ...], seed: int) -> None:
    """Sets BatchNorm's running statistics, in place, to those of 8 seeded N(0, 1) inputs."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 - torch has no public base class
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module(torch.randn(8, *input_shape, generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


@torch.no_grad()
def predict(module: nn.Module, x: np.ndarray, batch: int = 256) -> np.ndarray:
    """Outputs of `module` in eval mode for inputs (N, ...); its mode is left as it was."""
    was_training = module.training
    module.eval()
    outputs = [module(torch.from_numpy(x[start : start + batch])).numpy() for start in range(0, len(x), batch)]
    module.train(was_training)
    return np.concatenate(outputs)


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """Share of rows of (N, classes) whose largest value is at the label, 0 to 1."""
    return float(np.mean(np.argmax(logits, axis=1) == y))
