"""Quantization that the runtime does itself. These steps only say what to ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from bench.compress.arguments import Count, Within
from bench.compress.interface import Quantizer
from bench.errors import InvalidInput
from bench.types import QuantSpec

Calibration = Literal["minmax", "entropy", "percentile", "mse"]


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Int8(Quantizer):
    """Static int8: weights and activations, with ranges calibrated on samples of the training set.

    `symmetric` gives activations the zero point 0, which TensorRT needs. Weights are always symmetric, with one
    scale per output channel or one per tensor. `keep_float` names layers to keep in float32.
    """

    name: ClassVar[str] = "int8"
    source: ClassVar[str] = "Jacob et al. 2018, Quantization and Training of Neural Networks, arXiv:1712.05877"
    calibration: Calibration = "minmax"
    percentile: Annotated[float, Within(low=50, high=100, open_low=True)] = 99.99
    per_channel: bool = True
    symmetric: bool = True
    samples: Count = 256
    keep_float: tuple[str, ...] = ()

    def spec(self) -> QuantSpec:
        """Static, 8 bits for weights and activations."""
        return QuantSpec(
            kind="static",
            calibration=self.calibration,
            percentile=self.percentile,
            per_channel=self.per_channel,
            activation_symmetric=self.symmetric,
            samples=self.samples,
            keep_float=self.keep_float,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DynamicInt8(Quantizer):
    """Dynamic int8: int8 weights; every inference measures its own activation ranges, so nothing is calibrated."""

    name: ClassVar[str] = "dynamic_int8"
    source: ClassVar[str] = "ONNX Runtime quantize_dynamic; LiteRT dynamic range quantization"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()

    def spec(self) -> QuantSpec:
        """Dynamic, 8-bit weights."""
        return QuantSpec(kind="dynamic", per_channel=self.per_channel, keep_float=self.keep_float)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Float16(Quantizer):
    """Half precision: float16 weights and float16 arithmetic. `float16_weights` only makes the file smaller."""

    name: ClassVar[str] = "float16"
    source: ClassVar[str] = "IEEE 754-2008 binary16; Micikevicius et al. 2018, arXiv:1710.03740"
    keep_float: tuple[str, ...] = ()

    def spec(self) -> QuantSpec:
        """16-bit floating point throughout."""
        return QuantSpec(kind="float16", weight_bits=16, activation_bits=16, keep_float=self.keep_float)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Bfloat16(Quantizer):
    """Brain float: float32's range with 8 bits of precision, where the runtime computes in it."""

    name: ClassVar[str] = "bfloat16"
    source: ClassVar[str] = "Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training, arXiv:1905.12322"
    keep_float: tuple[str, ...] = ()

    def spec(self) -> QuantSpec:
        """bfloat16 throughout."""
        return QuantSpec(kind="bfloat16", weight_bits=16, activation_bits=16, keep_float=self.keep_float)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Float16Weights(Quantizer):
    """Weights stored in half precision, which halves the file; arithmetic in float32."""

    name: ClassVar[str] = "float16_weights"
    source: ClassVar[str] = "IEEE 754-2008 binary16; TensorFlow Lite's post-training float16 quantization"
    keep_float: tuple[str, ...] = ()

    def spec(self) -> QuantSpec:
        """Weight-only, 16-bit floating point."""
        return QuantSpec(kind="weight_only", weight_bits=16, keep_float=self.keep_float)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Int8Weights(Quantizer):
    """8-bit weights with a scale per output channel or per tensor; arithmetic in float."""

    name: ClassVar[str] = "int8_weights"
    source: ClassVar[str] = "Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339, section 2 (round to nearest, absmax)"
    per_channel: bool = True
    symmetric: bool = True
    keep_float: tuple[str, ...] = ()

    def spec(self) -> QuantSpec:
        """Weight-only, 8 bits."""
        return QuantSpec(
            kind="weight_only",
            per_channel=self.per_channel,
            weight_symmetric=self.symmetric,
            keep_float=self.keep_float,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Int4Weights(Quantizer):
    """4-bit weights with a scale for each `block_size` weights along the inputs; arithmetic in float.

    `block_size` 0: one scale per output channel, which is also what a layer with fewer inputs than a block gets.
    """

    name: ClassVar[str] = "int4_weights"
    source: ClassVar[str] = "Frantar et al. 2022, GPTQ, arXiv:2210.17323, its round-to-nearest baseline in groups"
    block_size: Annotated[int, Within(low=0, high=1024)] = 32
    symmetric: bool = True
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Quantizer.__post_init__(self)
        if self.block_size and (self.block_size < 16 or self.block_size & (self.block_size - 1)):
            raise InvalidInput(
                f"int4_weights(block_size={self.block_size}): block_size must be 0 or a power of two, 16 to 1024"
            )

    def spec(self) -> QuantSpec:
        """Weight-only, 4 bits in blocks."""
        return QuantSpec(
            kind="weight_only",
            weight_bits=4,
            weight_symmetric=self.symmetric,
            block_size=self.block_size,
            keep_float=self.keep_float,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fixed(Quantizer):
    """Fixed point, as FPGAs compute: weights and activations of `width` bits, `integer` of them before the point with the sign.

    With `integer='auto'` each tensor has as many as cost the least squared error on `samples` inputs. Values round half
    up and saturate. Biases lie on the finer grid of the products that they are added to.
    """

    name: ClassVar[str] = "fixed"
    source: ClassVar[str] = "Duarte et al. 2018, Fast inference of deep neural networks in FPGAs, arXiv:1804.06913"
    width: Annotated[int, Within(low=2, high=18)] = 8
    integer: Annotated[Literal["auto"] | int, Within(low=-16, high=32)] = "auto"
    samples: Count = 256

    def spec(self) -> QuantSpec:
        """Fixed point of one width for weights and activations."""
        return QuantSpec(
            kind="fixed",
            weight_bits=self.width,
            activation_bits=self.width,
            integer_bits=None if self.integer == "auto" else self.integer,
            per_channel=False,
            samples=self.samples,
        )
