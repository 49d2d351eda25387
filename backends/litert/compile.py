"""Host side of LiteRT: a compressed network or a user's own file to the .tflite that a device runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, final

from backends.tflite.convert import ACCEPTS, COMPILERS, INSTALL, to_tflite
from bench.types import Artifact, Backend, Compressed, Conditions, Probe, Scalar


@final
class LitertBackend(Backend):
    """TFLite models, as they are on phones and boards: XNNPACK kernels unless others are asked for.

    `kernels`: "xnnpack" distrusts a cell whose convolutions or products fall off XNNPACK, "any" only
    notes it, "builtin" and "reference" do without XNNPACK. `io`: what a statically quantized
    network takes and gives, "float" or "integer".
    """

    name: ClassVar[str] = "litert"
    accepts: ClassVar[tuple[str, ...]] = ACCEPTS
    session: ClassVar[str | None] = "backends.litert.session:LitertSession"
    width_steps: ClassVar[Mapping[str, int]] = {"avx512": 16, "": 8}
    compilers: ClassVar[tuple[str, ...]] = COMPILERS
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "kernels": ("xnnpack", "any", "builtin", "reference"),
        "io": ("float", "integer"),
    }

    def probe(self) -> Probe:
        """Whether the runtime is installed; converters are looked for when something is converted."""
        try:
            found = version("ai-edge-litert")
        except PackageNotFoundError:
            return Probe(available=False, reason="ai-edge-litert is not installed", remedy=INSTALL)
        if not importlib.util.find_spec("ai_edge_litert"):
            return Probe(available=False, version=found, reason="ai_edge_litert cannot be imported", remedy=INSTALL)
        return Probe(available=True, version=found)

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out/model.tflite` at the asked batch. See `backends.tflite.convert.to_tflite` for what is raised."""
        return to_tflite(source, conditions.batch, out, float_io=options.get("io", "float") == "float")
