"""Losses that compare a student's inner features with its teacher's, and the layers they are taken from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.hooks import hooked
from bench.compress.layers import CONVOLUTIONS, weighted_layers
from bench.errors import InvalidInput, Unsupported
from bench.models.tensors import Inputs

FeatureKind = Literal["none", "hint", "attention"]
POINTWISE: Mapping[int, Callable[[int, int], nn.Module]] = {
    2: nn.Linear,
    3: partial(nn.Conv1d, kernel_size=1),
    4: partial(nn.Conv2d, kernel_size=1),
    5: partial(nn.Conv3d, kernel_size=1),
}
"""Number of axes of a feature -> the layer that maps its channels at each place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLoss:
    """`value` gives the loss of the last forward passes of both networks. `parameters` are trained with the student."""

    value: Callable[[], Tensor]
    parameters: Sequence[Tensor]


@contextmanager
def feature_loss(
    kind: FeatureKind, student: nn.Module, teacher: nn.Module, layers: tuple[str, str], example: Inputs, seed: int
) -> Iterator[FeatureLoss]:
    """While open, records the features of both networks at `layers`: (of the student, of the teacher), "" for the last.

    hint: half the mean squared difference between the teacher's features and a learned linear projection of the
    student's (Romero et al. 2015, eq. 3). attention: the squared difference of both attention maps, summed over
    places (Zagoruyko & Komodakis 2017, eq. 2). Raises `InvalidInput` for a layer that does not exist,
    `Unsupported` for features that cannot be compared.
    """
    names = [name or last_features(module, example) for module, name in zip((student, teacher), layers, strict=True)]
    seen: dict[str, Tensor] = {}
    watched = zip(("student", "teacher"), (student, teacher), names, strict=True)
    with hooked([(_layer(module, name, who), partial(_keep, seen, who)) for who, module, name in watched]):
        with torch.no_grad():
            student(*example)
            teacher(*example)
        if set(seen) != {"student", "teacher"}:
            raise Unsupported(f"features: {names[0]!r} of the student or {names[1]!r} of the teacher gives no tensor")
        mine, wanted = tuple(seen["student"].shape), tuple(seen["teacher"].shape)
        _check_shapes(kind, names, mine, wanted)
        if kind == "attention":
            yield FeatureLoss(value=lambda: attention_loss(seen["student"], seen["teacher"]), parameters=())
        else:
            projection = _projection(mine, wanted, seed)
            yield FeatureLoss(
                value=lambda: 0.5 * F.mse_loss(projection(seen["student"]), seen["teacher"]),
                parameters=tuple(projection.parameters()),
            )


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance of two attention maps, mean over the batch, 0 to 2.

    A map is the sum of squares over channels, flattened and scaled to length 1. Shapes are (N, C, ...); C may
    differ.
    """
    maps = [F.normalize(values.square().mean(1).flatten(1), dim=1) for values in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(1).mean()


def last_features(module: nn.Module, example: Inputs) -> str:
    """The last convolution before the output layer; without one, the last hidden linear layer.

    Raises `Unsupported` for a network of one layer.
    """
    order: list[str] = []

    def record(name: str, *_: object) -> None:
        order.append(name)

    layers = weighted_layers(module)
    with torch.no_grad(), hooked((layer, partial(record, name)) for name, layer in layers.items()):
        module(*example)
    hidden = order[:-1]
    if not hidden:
        raise Unsupported("features: the network has no hidden layer; name one, or use features='none'")
    return next((name for name in reversed(hidden) if isinstance(layers[name], CONVOLUTIONS)), hidden[-1])


def _layer(module: nn.Module, name: str, who: str) -> nn.Module:
    found = dict(module.named_modules())
    if name not in found:
        near = get_close_matches(name, [known for known in found if known], n=3, cutoff=0.0)
        raise InvalidInput(f"features: the {who} has no layer {name!r}; nearest: {', '.join(near) or 'there is none'}")
    layer: nn.Module = found[name]
    return layer


def _keep(seen: dict[str, Tensor], who: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
    del layer, inputs
    if isinstance(output, Tensor):
        seen[who] = output


def _check_shapes(kind: str, names: Sequence[str], student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    both = f"{names[0]!r} {student[1:]} of the student and {names[1]!r} {teacher[1:]} of the teacher"
    if len(student) not in POINTWISE or len(student) != len(teacher) or student[2:] != teacher[2:]:
        raise Unsupported(f"features: {both} differ in more than channels; name layers of one size")
    if kind == "attention" and len(student) == 2:
        raise Unsupported(f"features='attention' compares maps, and {both} have no places; use 'hint'")


def _projection(student: tuple[int, ...], teacher: tuple[int, ...], seed: int) -> nn.Module:
    """A seeded layer that maps the student's channels to the teacher's at each place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return POINTWISE[len(student)](student[1], teacher[1])
