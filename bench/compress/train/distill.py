"""Distillation: trains a network to give its teacher's outputs and, if asked, its inner features."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.arguments import Count, Positive, Within
from bench.compress.calibration import misfit
from bench.compress.interface import Compressor, Context, Network
from bench.compress.notes import STUDENT
from bench.compress.outputs import outputs_of
from bench.compress.program import find_program
from bench.compress.train.features import FeatureKind, FeatureLoss, feature_loss
from bench.compress.train.finetune import retrain, training_data
from bench.data.datasets import Dataset
from bench.data.parts import Array, Choice, Part
from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import data_files, load_onnx
from bench.models.calls import input_names
from bench.models.catalogue import is_reference
from bench.models.copies import duplicate
from bench.models.factory import build
from bench.models.from_onnx.load import load_network
from bench.models.registry import FILE_SUFFIXES, resolve
from bench.models.sources import network_files
from bench.models.tensors import Inputs, as_tensors
from bench.models.training.batchnorm import settle
from bench.models.training.fit import Loss, Objective
from bench.models.training.predict import predict
from bench.models.training.trained_networks import train_or_load
from bench.tasks.base import Forward, Outputs, Task
from bench.tasks.own import OwnTask
from bench.types import AskedInput, Model

MAX_ANSWERS = 2**26
"""Bytes up to which a teacher's answers for a whole training set are kept."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distill(Compressor):
    """Trains on as finetune does, with loss = alpha * hard + (1 - alpha) * T^2 * soft + beta * features.

    hard: the loss of the task (cross-entropy with the labels, of a classification). soft: KL(teacher || student) of
    both softmaxes at temperature T where outputs are scores of classes; for any other task, the mean squared difference
    of the outputs, without T.
    `features`: "hint" compares the teacher's features with a learned projection of the student's, which is
    dropped afterwards; "attention" compares attention maps. They are taken at `layer` ("": the last convolution
    before the output, or else the last hidden linear layer). `teacher_layer`: its name in the teacher, if it
    differs. `teacher`: a reference network, trained on the same data, a user's function with the weights that it
    loads, or an .onnx or .pt2 file ("": the uncompressed model).
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
        """The files that hold the teacher's network."""
        return files_of(self.teacher)

    def networks(self, context: Context) -> tuple[nn.Module, ...]:
        """The teacher of a user's function."""
        if not self.teacher or context.data is None:
            return ()
        return own_networks(resolve(self.teacher, context.data), context)

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` without a data set, and for a teacher with other outputs or features that cannot be
        compared; `InvalidInput` for names that match nothing, and when the loss diverges."""
        data = training_data(self, context)
        module = duplicate(network.module)
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
        if model.file is not None:
            return load_file(model, context)
        return train_or_load(model, context.data, cache=context.cache, seed=context.seed, progress=context.progress)

    def _logits_loss(self, teacher: nn.Module, data: Dataset) -> tuple[Loss, Dataset]:
        """The loss of logits, and the data to use it with.

        Answers of the teacher that take few bytes are found once; others with every batch. The targets of that data
        are numbers of samples, by which the loss finds both the teacher's answers and the true targets.
        """
        part, task = data.train, data.task
        known = answer_all(teacher, part)

        def loss(module: nn.Module, x: Inputs, number: Tensor) -> Tensor:
            targets = torch.from_numpy(part.targets(number.numpy()))
            with torch.no_grad():
                wanted = teacher(*x) if known is None else known[number]
            return distillation_loss(
                task, module, x, targets, teacher=wanted, alpha=self.alpha, temperature=self.temperature
            )

        return loss, replace(data, train=Numbered(part))

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

    A user's function keeps the weights that it loads, and an .onnx or .pt2 file its own.
    `model` is written as everywhere: lenet300_100(width=0.1). Followed by finetune, it learns from the labels;
    followed by distill, also from the uncompressed model.
    """

    name: ClassVar[str] = "student"
    source: ClassVar[str] = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531"
    model: str

    def sources(self) -> tuple[Path, ...]:
        """The files that hold the network."""
        return files_of(self.model)

    def networks(self, context: Context) -> tuple[nn.Module, ...]:
        """The student of a user's function."""
        return own_networks(self._model(context), context)

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `Unsupported` if it is not the first step, or for a network with other outputs."""
        if network.module is not context.teacher:
            raise Unsupported(f"{self!r} replaces the whole network and what was done to it: it must be the first step")
        model = self._model(context)
        module = build(model, context.seed) if model.file is None else load_file(model, context)
        if is_reference(model):
            settle(module, tuple(context.example[0].shape[1:]), context.seed)
        check_outputs(f"the student {self.model!r}", module, context.teacher, context.example)
        return replace(network, module=module, notes={**network.notes, STUDENT: self.model})

    def _model(self, context: Context) -> Model:
        if self.model.endswith(FILE_SUFFIXES):
            return resolve(self.model, context.data)
        example = context.example
        found = resolve(self.model, context.data, input_shape=tuple(example[0].shape[1:]))
        if context.data is None and not is_reference(found) and (len(example) > 1 or example[0].dtype != torch.float32):
            names = input_names(context.teacher, len(example))
            asked = (
                AskedInput(name=name, sizes=(None, *one.shape[1:]), dtype=str(one.dtype).removeprefix("torch."))
                for name, one in zip(names, example, strict=True)
            )
            found = replace(found, inputs=tuple(asked))
        outputs = outputs_of(context.teacher, example)
        scores = len(outputs) == 1 and outputs[0].dim() == 2
        return replace(found, classes=int(outputs[0].shape[1]) if scores else 0)


def files_of(text: str) -> tuple[Path, ...]:
    """The files that the text of a network depends on. Raises `InvalidInput` for a model file that does not exist."""
    if not text.endswith(FILE_SUFFIXES):
        return network_files(text)
    file = Path(text)
    if not file.is_file():
        raise InvalidInput(f"model file {text} does not exist")
    return (file, *(data_files(load_onnx(file), file) if file.suffix == ".onnx" else ()))


def own_networks(model: Model, context: Context) -> tuple[nn.Module, ...]:
    """The network of a user's function, with the weights that it loads; () for a reference network and for a file."""
    return () if model.file is not None or is_reference(model) else (build(model, context.seed),)


def load_file(model: Model, context: Context) -> nn.Module:
    """The network of an .onnx or .pt2 file. Raises `Unsupported` for any other, and for one that the data does not fit."""
    if model.brought is None or model.brought.suffix == ".tflite":
        raise Unsupported(
            f"{model.name} cannot train or teach: a .tflite file does not become a torch network; give a function, an "
            ".onnx or a .pt2 file"
        )
    model = find_program(model, context.cache)
    assert model.file is not None
    found = load_network(model.file, model)
    if context.data is not None and (unfit := misfit(found.inputs, context.data)):
        raise Unsupported(f"{model.brought}: data set {context.data.name}: {unfit}; name a network that fits")
    return found.module


def distillation_loss(
    task: Task, forward: Forward, x: Inputs, targets: Tensor, *, teacher: Outputs, alpha: float, temperature: float
) -> Tensor:
    """The loss alpha hard + (1 - alpha) soft of one batch. `teacher`: its outputs for the batch.

    hard is the task's own step. soft is T^2 KL(p || q), with p = softmax(teacher / T) and q = softmax(outputs / T), the
    mean over samples and places, where outputs are scores of two classes or more (`Task.class_scores`); T^2 keeps the gradient's
    size as T grows (Hinton et al. 2015, section 2). Else it is the mean squared difference of all outputs.
    """
    given: list[Outputs] = []

    def watched(*inputs: Tensor) -> Outputs:
        given.append(forward(*inputs))
        return given[-1]

    hard = task.step(watched, x, targets)
    own_step = isinstance(task, OwnTask) and task.own_step is not None  # it may have changed the inputs
    outputs = forward(*x) if own_step else given[0]
    return alpha * hard + (1 - alpha) * _soft(task, outputs, teacher, targets, temperature)


def _soft(task: Task, outputs: Outputs, teacher: Outputs, targets: Tensor, temperature: float) -> Tensor:
    scores = [task.class_scores(values, targets) for values in (outputs, teacher)] if task.over_classes else []
    if not scores or scores[0].shape[1] == 1:
        pairs = zip(_several(outputs), _several(teacher), strict=True)
        return torch.stack([F.mse_loss(mine, wanted) for mine, wanted in pairs]).sum()
    rows = [F.log_softmax(values.movedim(1, -1).flatten(0, -2) / temperature, dim=1) for values in scores]
    return temperature**2 * F.kl_div(rows[0], rows[1], reduction="batchmean", log_target=True)


def _several(outputs: Outputs) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs


@final
@dataclass(frozen=True, slots=True, eq=False)
class Numbered(Part):
    """The samples of a part with their own numbers as targets."""

    part: Part

    def __len__(self) -> int:
        return len(self.part)

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """Those of the part."""
        return self.part.inputs(chosen)

    def targets(self, chosen: Choice) -> Array:
        """int64 numbers (samples,)."""
        return np.arange(len(self.part))[chosen]


def answer_all(teacher: nn.Module, part: Part) -> Tensor | None:
    """The teacher's outputs for every sample of a part; None where they are several or take over `MAX_ANSWERS` bytes."""
    with torch.no_grad():
        first = teacher(*as_tensors(part.inputs(slice(0, 1))))
    if not isinstance(first, Tensor) or first.nbytes * len(part) > MAX_ANSWERS:
        return None
    return torch.from_numpy(np.concatenate([predict(teacher, part.inputs(chunk)) for chunk in part.chunks(256)]))


def check_outputs(who: str, found: nn.Module, wanted: nn.Module, example: Inputs) -> None:
    """Raises `Unsupported` if the outputs of the two networks differ in shape. `who`: names `found` in the message."""
    shapes = [", ".join(str(tuple(one.shape[1:])) for one in outputs_of(module, example)) for module in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise Unsupported(f"{who} gives outputs of shape {shapes[0]}, where {shapes[1]} are needed")
