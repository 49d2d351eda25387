"""The one training loop. Reference networks, fine-tuning and distillation all train through `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.models.copies import set_eval
from bench.models.seeds import seeded
from bench.models.tensors import Inputs, as_tensors
from bench.models.training.constraints import FREE, Constraints, Enforced, enforce, restore, tie_gradients
from bench.own_code import users_code
from bench.tasks.base import Task
from bench.types import Progress

Loss = Callable[[nn.Module, Inputs, Tensor], Tensor]
"""(module in training mode, inputs, targets) -> scalar loss."""
Hook = Callable[[nn.Module], None]
Step = Callable[[Inputs, Tensor], Tensor]
"""(inputs, targets) of one batch -> its loss, after the weights have moved."""
OPTIMIZERS = ("adam", "sgd")
SMALL_PARAMS = 1_000_000
"""Networks with fewer parameters train on one thread."""
REPORT_EVERY = 20
"""Batches between two reports of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to train. The learning rate falls from `learning_rate` to 0 along a half cosine
    (Loshchilov & Hutter 2017), one batch at a time.

    `optimizer`: "adam" (AdamW) or "sgd" (Nesterov momentum 0.9). `batch`: examples of one step.
    Raises `InvalidInput` for a value out of range or an unknown optimizer.
    """

    epochs: int
    learning_rate: float
    batch: int = 64
    optimizer: str = "adam"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.learning_rate > 0 or self.batch < 1:
            raise InvalidInput(
                "training needs epochs >= 1, learning_rate > 0, batch >= 1, "
                f"not {self.epochs}, {self.learning_rate}, {self.batch}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise InvalidInput(f"unknown optimizer {self.optimizer!r} (known: {', '.join(OPTIMIZERS)})")


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """The ordinary loss of a classifier."""

    def loss(module: nn.Module, x: Inputs, y: Tensor) -> Tensor:
        return F.cross_entropy(module(*x), y, label_smoothing=label_smoothing)

    return loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What training minimizes. `parameters`: tensors that belong to the loss and are trained with the network."""

    loss: Loss
    parameters: Sequence[Tensor] = ()


def objective_of(task: Task) -> Objective:
    """The task's own training step."""
    return Objective(loss=task.step)


def fit(
    module: nn.Module,
    data: Dataset,
    schedule: Schedule,
    *,
    seed: int,
    progress: Progress,
    label: str = "training",
    objective: Objective | None = None,
    constraints: Constraints = FREE,
    after_step: Hook | None = None,
) -> tuple[float, ...]:
    """Trains `module` in place for the data's task or another `objective`, leaves it in eval mode, and returns the mean
    loss of each epoch.

    `constraints` hold after every step. `after_step` runs last in a step and may change weights. `label`
    names the training in progress reports and errors. A small network trains on one thread, so the same
    seed gives the same bytes on any number of cores. The caller's random state stays as it was.

    Raises `Unsupported` for a network whose parameters are all frozen or whose loss has no gradient, `InvalidInput` when the
    loss becomes NaN or infinite, and for what the network or a loss raises in training mode.
    """
    _refuse_frozen(module, label)
    steps = max(1, len(data.train) // schedule.batch)
    kept = enforce(constraints)
    step = _stepper(module, schedule, _guarded(objective or objective_of(data.task), label), kept, steps, after_step)
    losses: list[float] = []
    with seeded(seed), _few_threads(module), torch.enable_grad():
        module.train()
        _lay_out(module, _training_layout())
        restore(module, kept)
        for epoch in range(schedule.epochs):
            values = []
            for index, (x, y) in enumerate(_batches(data, schedule.batch)):
                values.append(step(x, y))
                if index % REPORT_EVERY == 0:
                    progress(label, (epoch + index / steps) / schedule.epochs)
            losses.append(_mean_loss(values, label, epoch))
    progress(label, 1.0)
    _lay_out(set_eval(module), torch.contiguous_format)
    return tuple(losses)


def _guarded(objective: Objective, label: str) -> Objective:
    """The same loss, whose errors name the training and the user's line."""

    def loss(module: nn.Module, x: Inputs, y: Tensor) -> Tensor:
        with users_code(f"{label}: the network in training mode raised"):
            try:
                value = objective.loss(module, x, y)
            except InvalidInput as error:
                raise InvalidInput(f"{label}, in training mode: {error}") from error
        refuse_without_gradient(value, label)
        return value

    return replace(objective, loss=loss)


def refuse_without_gradient(loss: Tensor, who: str) -> None:
    """Raises `Unsupported` for a loss that no parameter has a part in. `who`: begins the message."""
    if not loss.requires_grad:
        raise Unsupported(
            f"{who}: the loss has no gradient: forward runs under torch.no_grad() or torch.inference_mode(), detaches its "
            "result, or ends in an argmax; take that out of forward"
        )


def _stepper(
    module: nn.Module,
    schedule: Schedule,
    objective: Objective,
    kept: Enforced,
    steps: int,
    after_step: Hook | None,
) -> Step:
    """One step of training. `steps`: batches of an epoch."""
    optimizer = _optimizer(schedule, [*_trainable(module), *objective.parameters])
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.epochs * steps)

    def step(x: Inputs, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        value = objective.loss(module, x, y)
        value.backward()
        tie_gradients(module, kept)
        optimizer.step()
        falling.step()
        restore(module, kept)
        if after_step:
            after_step(module)
        return value.detach()

    return step


def _mean_loss(values: list[Tensor], label: str, epoch: int) -> float:
    mean = float(torch.stack(values).mean())
    if not math.isfinite(mean):
        raise InvalidInput(f"{label}: the loss is {mean} in epoch {epoch + 1}; lower the learning rate")
    return mean


def _refuse_frozen(module: nn.Module, label: str) -> None:
    if not _trainable(module):
        raise Unsupported(
            f"{label}: no parameter of the network can be trained: there is none, or requires_grad is False for all of "
            "them; call .requires_grad_() on the network before the function returns it"
        )


def _trainable(module: nn.Module) -> list[Tensor]:
    return [p for p in module.parameters() if p.requires_grad]


def _batches(data: Dataset, size: int) -> Iterator[tuple[Inputs, Tensor]]:
    """One epoch in random order. Drops a last batch that is not full, unless it is the only one."""
    available = len(data.train)
    for chosen in torch.randperm(available).split(size):
        if len(chosen) == size or available < size:
            at = chosen.numpy()
            yield as_tensors(data.train.inputs(at)), torch.from_numpy(data.train.targets(at))


def _optimizer(schedule: Schedule, parameters: list[Tensor]) -> torch.optim.Optimizer:
    rate, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimizer == "adam":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


@contextmanager
def _few_threads(module: nn.Module) -> Iterator[None]:
    """One thread for small networks. A second thread gains little on an idle machine and costs much on a busy one:
    ResNet-8 on digits took 3 s on one thread, and 170 s on two threads of a machine with a load of 6."""
    before = torch.get_num_threads()
    if sum(p.numel() for p in module.parameters()) < SMALL_PARAMS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _training_layout() -> torch.memory_format:
    """Channels last trains convolutions up to 1.5 times faster, but not on a CPU that has AVX2 without AVX-512.

    There torch 2.13 writes beyond its memory in the backward pass of `Conv2d(4, 8, 1, stride=2)`, and the process aborts.
    """
    return torch.contiguous_format if torch.backends.cpu.get_cpu_capability() == "AVX2" else torch.channels_last


def _lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Changes only tensors with four axes. The module's own `to` also tries five axes (Conv3d), which torch refuses."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=memory_format)
