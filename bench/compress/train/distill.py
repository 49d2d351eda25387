"""Distillation: trains a network to give its teacher's outputs and, if asked, its inner features."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.arguments import Count, Positive, Within
from bench.compress.interface import Compressor, Context, Network
from bench.compress.notes import STUDENT
from bench.compress.train.features import FeatureKind, FeatureLoss, feature_loss
from bench.compress.train.finetune import retrain, training_data
from bench.data.datasets import Dataset
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.models.catalogue import is_reference
from bench.models.factory import build
from bench.models.registry import resolve
from bench.models.sources import network_files
from bench.models.tensors import Inputs
from bench.models.training.batchnorm import settle
from bench.models.training.fit import Loss, Objective
from bench.models.training.predict import predict
from bench.models.training.trained_networks import train_or_load
from bench.types import Model


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distill(Compressor):
    """Trains on as finetune does, with loss = alpha * hard + (1 - alpha) * T^2 * soft + beta * features.

    hard: cross-entropy with the labels. soft: KL(teacher || student) of both softmaxes at temperature T.
    `features`: "hint" compares the teacher's features with a learned projection of the student's, which is
    dropped afterwards; "attention" compares attention maps. They are taken at `layer` ("": the last convolution
    before the output, or else the last hidden linear layer). `teacher_layer`: its name in the teacher, if it
    differs. `teacher`: a reference network, trained on the same data, or a user's function with the weights that it
    loads ("": the uncompressed model).
    """

    name: ClassVar[str] = "distill"
    source: ClassVar[str] = (
        "Hinton et al. 2015, arXiv:1503.02531; hint: Romero et al. 2015 (FitNets), arXiv:1412.6550; "
        "attention: Zagoruyko & Komodakis 2017, arXiv:1612.03928"
    )
    trains: ClassVar[bool] = True
    epochs: Count = 2
    alpha: Annotated[float, Within(low=0, high=1)] = 0.5
    temperature: Positive = 4.0
    learning_rate: Positive = 1e-3
    teacher: str = ""
    features: FeatureKind = "none"
    beta: Positive = 1.0
    layer: str = ""
    teacher_layer: str = ""

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        if self.features == "none" and (self.layer or self.teacher_layer):
            raise InvalidInput("distill: layer names where features are compared; say features='hint' or 'attention'")

    def sources(self) -> tuple[Path, ...]:
        """The file that holds the teacher's network."""
        return network_files(self.teacher)

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, and for a teacher with other outputs or features that cannot be
        compared; `InvalidInput` for names that match nothing, and when the loss diverges."""
        data = training_data(self, context)
        module = copy.deepcopy(network.module)
        teacher = self._teacher(context)
        check_outputs(f"the teacher {self.teacher or 'of'!r}", teacher, module, context.example)
        loss, examples = self._logits_loss(teacher, data)
        watched: AbstractContextManager[FeatureLoss | None] = nullcontext()
        if self.features != "none":
            names = (self.layer, self.teacher_layer or self.layer)
            watched = feature_loss(self.features, module, teacher, names, context.example, context.seed)
        with watched as inner:
            objective = Objective(loss=loss)
            if inner is not None:
                objective = Objective(loss=self._add_features(loss, teacher, inner), parameters=inner.parameters)
            retrain(self, module, network, context, examples, objective=objective)
        return replace(network, module=module)

    def _teacher(self, context: Context) -> nn.Module:
        if not self.teacher:
            return context.teacher
        model = resolve(self.teacher, context.data)
        return train_or_load(model, context.data, cache=context.cache, seed=context.seed, progress=context.progress)

    def _logits_loss(self, teacher: nn.Module, data: Dataset) -> tuple[Loss, Dataset]:
        """The loss of logits, and the data to use it with.

        The teacher answers once for the whole training set. The labels of that data are numbers of examples, by
        which the loss finds both the teacher's answers and the true labels.
        """
        every = slice(None)
        answers = torch.from_numpy(predict(teacher, data.train.inputs(every)))
        labels = torch.from_numpy(data.train.targets(every))

        def loss(module: nn.Module, x: Inputs, number: Tensor) -> Tensor:
            return distillation_loss(
                module(*x), answers[number], labels[number], alpha=self.alpha, temperature=self.temperature
            )

        return loss, replace(data, train=ArrayPart(data.train.inputs(every), np.arange(len(data.train))))

    def _add_features(self, logits: Loss, teacher: nn.Module, inner: FeatureLoss) -> Loss:
        def loss(module: nn.Module, x: Inputs, number: Tensor) -> Tensor:
            value = logits(module, x, number)
            with torch.no_grad():
                teacher(*x)
            return value + self.beta * inner.value()

        return loss


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Student(Compressor):
    """Puts a smaller network with new, seeded weights in the model's place. Later steps train it.

    A user's function keeps the weights that it loads.
    `model` is written as everywhere: lenet300_100(width=0.1). Followed by finetune, it learns from the labels;
    followed by distill, also from the uncompressed model.
    """

    name: ClassVar[str] = "student"
    source: ClassVar[str] = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531"
    model: str

    def sources(self) -> tuple[Path, ...]:
        """The file that holds the network."""
        return network_files(self.model)

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` if it is not the first step, or for a network with other outputs."""
        if network.module is not context.teacher:
            raise Unsupported(f"{self!r} replaces the whole network and what was done to it: it must be the first step")
        model = self._model(context)
        module = build(model, context.seed)
        if is_reference(model):
            settle(module, tuple(context.example[0].shape[1:]), context.seed)
        check_outputs(f"the student {self.model!r}", module, context.teacher, context.example)
        return replace(network, module=module, notes={**network.notes, STUDENT: self.model})

    def _model(self, context: Context) -> Model:
        found = resolve(self.model, context.data, input_shape=tuple(context.example[0].shape[1:]))
        with torch.no_grad():
            return replace(found, classes=int(context.teacher(*context.example).shape[-1]))


def distillation_loss(logits: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float, temperature: float) -> Tensor:
    """The loss alpha CE(logits, labels) + (1 - alpha) T^2 KL(p || q), the mean over the batch.

    p is softmax(teacher / T), q is softmax(logits / T).
    Logits are (N, classes), labels (N,). T^2 keeps the gradient's size as T grows (Hinton et al. 2015, section 2).
    """
    hard = F.cross_entropy(logits, labels)
    mine, wanted = (F.log_softmax(values / temperature, dim=1) for values in (logits, teacher))
    soft = F.kl_div(mine, wanted, reduction="batchmean", log_target=True)
    return alpha * hard + (1 - alpha) * temperature**2 * soft


def check_outputs(who: str, found: nn.Module, wanted: nn.Module, example: Inputs) -> None:
    """Raises `Unsupported` if the outputs of the two networks differ in shape. `who`: names `found` in the message."""
    with torch.no_grad():
        shapes = [tuple(module(*example).shape[1:]) for module in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise Unsupported(f"{who} gives outputs of shape {shapes[0]}, where {shapes[1]} are needed")
