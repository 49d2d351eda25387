"""Removes residual branches: what is left of one is the mean that it added, or nothing. None of its layers is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from bench.compress.hooks import hooked
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import ANY_NORMS, TRANSPOSED, weight_of, weighted_layers, width_of
from bench.compress.notes import BRANCHES, merged
from bench.compress.outputs import largest_difference, outputs_of
from bench.compress.replace_layers import RUNNING, sites, substitute
from bench.errors import InvalidInput, Unsupported
from bench.models.calls import tensors_of
from bench.models.tensors import Inputs, as_tensors

Keep = Literal["mean", "nothing"]
"""What is left of a branch: the mean output of its last layer for each channel, or zero, which no file adds."""
TOLERANCE = 1e-5
"""How much outputs may differ, relative to their largest value, where a constant is broadcast and where it is not."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Branches(Compressor):
    """Removes the branch that ends in each named layer, as the last convolution of a residual block.

    The layer's mean output for each channel takes its place (`keep='mean'`), and training may change it. With
    `keep='nothing'` it is zero, and a normalization right behind the layer goes: an .onnx adds nothing, which is
    faster. Layers whose outputs nothing needs then go too. Fine-tune afterwards.
    """

    name: ClassVar[str] = "branches"
    source: ClassVar[str] = (
        "Veit et al. 2016, arXiv:1605.06431; Elkerdawy et al. 2020, To Filter Prune, or to Layer Prune, arXiv:2007.05667"
    )
    looks_at_data: ClassVar[bool] = True
    drop: tuple[str, ...]
    keep: Keep = "mean"

    def __post_init__(self) -> None:
        Compressor.__post_init__(self)
        if not self.drop:
            raise InvalidInput("branches(drop=()): name the last layer of a branch, as drop=('block1.conv2',)")
        if len({*self.drop}) < len(self.drop):
            raise InvalidInput(f"branches(drop={self.drop}): a layer is named twice")

    def apply(self, network: Network, context: Context) -> Network:
        """Raises `InvalidInput` for a layer that is not there, `Unsupported` for one without which nothing of the input
        reaches the outputs, and for means without a data set."""
        if self.keep == "mean" and context.data is None:
            raise Unsupported(
                "branches looks at data for mean outputs, and this model has no data set: name one with --dataset, or "
                "write keep='nothing'"
            )
        ends = weighted_layers(network.module, only=self.drop)
        runs = sites(network.module, ends, context.example)
        for name, layer in ends.items():
            if isinstance(layer, TRANSPOSED) or name not in runs or runs[name].calls > 1:
                raise Unsupported(f"branches: layer {name!r} is transposed, or does not run exactly once")
        short = self._short(network.module, ends, context)
        unneeded = _find_unneeded(substitute(network, short, context.example).module, context.example, ends)
        silent = {name: _silence(layer) for name, layer in unneeded.items()}
        made = substitute(network, {**short, **silent}, context.example)
        _broadcast(made.module, ends, context.example)
        return replace(made, notes=merged(made.notes, BRANCHES, {", ".join(ends): [*unneeded]}))

    def _short(self, module: nn.Module, ends: Mapping[str, nn.Module], context: Context) -> dict[str, nn.Module]:
        """What takes the places of the last layers, and of normalizations where these go."""
        if self.keep == "nothing":
            norms = dict.fromkeys(_norms_behind(module, ends.values(), context.example), nn.Identity())
            return {**norms, **{name: _silence(layer) for name, layer in ends.items()}}
        means = _means(module, ends, context)
        return {name: Constant(layer, means[name]) for name, layer in ends.items()}


class Constant(nn.Module):
    """Gives a value for each channel in a layer's place, whatever comes in.

    `broadcast`: outside training the output has size 1 along all axes but that of the channels. An addition takes it so,
    and an exported file then holds no more than the values.
    """

    def __init__(self, layer: Any, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())
        self.broadcast = False
        linear = isinstance(layer, nn.Linear)
        self.window = (
            () if linear else tuple(zip(layer.kernel_size, layer.stride, _paddings(layer), layer.dilation, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: as the layer takes it; out: as the layer gives it, or to be broadcast."""
        behind = len(self.window)
        value = self.value.view(-1, *[1] * behind)
        if self.broadcast and not self.training:
            return value.view(*[1] * (x.dim() - 1 - behind), *value.shape)
        sizes = [
            (size + pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, (kernel, stride, pad, dilation) in zip(x.shape[x.dim() - behind :], self.window, strict=True)
        ]
        return value.expand(*x.shape[: x.dim() - 1 - behind], -1, *sizes).clone()


def _silence(layer: nn.Module) -> Constant:
    """Zero, which training leaves as it is; -0.0, by which `export` knows it from a weight that is not trained yet."""
    return Constant(layer, torch.full((width_of(layer),), -0.0)).requires_grad_(requires_grad=False)


def _paddings(layer: Any) -> tuple[int, ...]:
    """Of both sides together, for each axis."""
    if layer.padding == "same":
        return tuple(
            dilation * (kernel - 1) for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True)
        )
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    return tuple(2 * pad for pad in layer.padding)


def samples_of(context: Context) -> Inputs:
    """The calibration samples, or without them the example."""
    return context.example if context.calibration is None else as_tensors(context.calibration)


def _means(module: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> dict[str, Tensor]:
    """The mean output of each layer for each channel, over the calibration samples or the example."""
    found: dict[nn.Module, Tensor] = {}

    def note(layer: Any, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        axis = output.dim() - 1 if isinstance(layer, nn.Linear) else output.dim() - 1 - len(layer.kernel_size)
        found[layer] = output.transpose(axis, -1).reshape(-1, output.shape[axis]).mean(0)

    with torch.no_grad(), hooked((layer, note) for layer in layers.values()):
        module(*samples_of(context))
    return {name: found[layer] for name, layer in layers.items()}


def _norms_behind(module: nn.Module, layers: Iterable[nn.Module], example: Inputs) -> list[str]:
    """Normalizations that see nothing but these layers' outputs, unchanged."""
    outputs: list[Tensor] = []
    seen: dict[nn.Module, bool] = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[norm] = seen.get(norm, True) and any(torch.equal(inputs[0], one) for one in outputs)

    norms: dict[nn.Module, str] = {norm: name for name, norm in module.named_modules() if isinstance(norm, ANY_NORMS)}
    leaving = ((layer, lambda _layer, _inputs, output: outputs.append(output.clone())) for layer in layers)
    with torch.no_grad(), hooked(leaving, entering=((norm, note) for norm in norms)):
        module(*example)
    return [norms[norm] for norm, behind in seen.items() if behind]


def _find_unneeded(module: nn.Module, example: Inputs, ends: Iterable[str]) -> dict[str, nn.Module]:
    """Layers with weights that no output depends on. Raises `Unsupported` where no output depends on the input."""
    layers = weighted_layers(module)
    given = tuple(one.detach().clone().requires_grad_(one.is_floating_point()) for one in example)
    inputs = [one for one in given if one.requires_grad]
    asked = [*(weight_of(layer).requires_grad_() for layer in layers.values()), *inputs]
    with torch.enable_grad():
        outputs = [one.sum() for one in tensors_of(module(*given)) if one.requires_grad]
        found = torch.autograd.grad(outputs, asked, allow_unused=True) if outputs else [None] * len(asked)
    reached = [one is not None for one in found]
    if not any(reached[len(layers) :] if inputs else reached):
        raise Unsupported(f"branches: without {', '.join(ends)} nothing of the input reaches the outputs")
    return {name: layer for (name, layer), needed in zip(layers.items(), reached, strict=False) if not needed}


def _broadcast(module: nn.Module, ends: Iterable[str], example: Inputs) -> None:
    """Lets constants be broadcast where the outputs stay the same, in place."""
    module.eval()
    wanted = outputs_of(module, example)
    for name in ends:
        constant = module.get_submodule(name)
        assert isinstance(constant, Constant)
        constant.broadcast = True
        try:
            got = outputs_of(module, example)
        except RUNNING:
            constant.broadcast = False
            continue
        alike = [one.shape for one in got] == [one.shape for one in wanted]
        constant.broadcast = alike and largest_difference(got, wanted) <= TOLERANCE
