"""What the networks share: checks of the input shape, strides for small inputs, initialisation."""

from __future__ import annotations

from torch import nn

from bench.errors import InvalidInput

Shape = tuple[int, ...]


def image(network: str, shape: Shape, least: int = 1) -> tuple[int, int, int]:
    """(channels, height, width), or `InvalidInput` where `shape` is not an image of at least `least` pixels a side."""
    if len(shape) != 3 or min(shape[1:]) < least:
        hint = ": give the images their one channel, as x[:, None] does" if len(shape) == 2 else ""
        raise InvalidInput(
            f"{network} takes inputs (channels, height, width) of at least {least}x{least} pixels, not {shape}{hint}"
        )
    return shape[0], shape[1], shape[2]


def strides(side: int, count: int, least: int | None = None) -> tuple[int, ...]:
    """`count` strides of 2, of which the first become 1 until the last feature map has `least` pixels a side.

    This is usual for small inputs: at 32 pixels a network made for 224 keeps its last three strides. `least` is
    3 by default, or 2 for inputs under 16 pixels: on 8x8 digits MobileNetV2 then trains twice as fast and as well.
    """
    wanted = least or (2 if side < 16 else 3)
    kept = next(n for n in range(count, -1, -1) if n == 0 or side / 2**n >= wanted)
    return (1,) * (count - kept) + (2,) * kept


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, at least 1."""
    return max(1, round(channels * width))


def rounded(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times width to the nearest multiple of `divisor`, never over 10 % lower (MobileNet's rule)."""
    value = channels * width
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


def initialise(module: nn.Module) -> nn.Module:
    """He et al. 2015 for convolutions, N(0, 0.01) for linear layers, zero biases; the same module."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
