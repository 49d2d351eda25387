"""The host side of ExecuTorch: an exported program, lowered to XNNPACK, becomes a .pte."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, final

from bench.errors import Unsupported
from bench.types import Artifact, Backend, Compressed, Conditions, Json, Probe, QuantSpec, Scalar

INSTALL = "pip install 'pressbench[executorch]'"


@final
class ExecutorchBackend(Backend):
    """PyTorch Mobile's successor, with XNNPACK's kernels."""

    name: ClassVar[str] = "executorch"
    accepts: ClassVar[tuple[str, ...]] = ("pt2",)
    session: ClassVar[str | None] = "backends.executorch.session:ExecutorchSession"
    width_steps: ClassVar[Mapping[str, int]] = {"avx512": 16, "": 8}
    compilers: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}

    def probe(self) -> Probe:
        """Whether it is installed; it is imported where something is lowered or run."""
        try:
            return Probe(available=True, version=version("executorch"))
        except PackageNotFoundError:
            return Probe(available=False, reason="executorch is not installed", remedy=INSTALL)

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out/model.pte` at a fixed batch, in float32, static or dynamic int8."""
        del options
        if source.quant is not None:
            _refuse(source.quant)
        path = out / "model.pte"
        with _quiet():
            from backends.executorch.lower import lower

            inputs, precision, facts = lower(source, conditions.batch, path)
        ports: Json = [[spec.name, list(spec.shape), spec.dtype] for spec in inputs]
        facts = {**facts, "session_options": {"inputs": json.dumps(ports)}}
        return Artifact(path=path, format="pte", precision=precision, facts=facts)


def _refuse(spec: QuantSpec) -> None:
    """Raises `Unsupported` for what is not lowered to XNNPACK here."""
    if spec.kind not in ("static", "dynamic"):
        raise Unsupported(
            f"this backend lowers float32, static and dynamic int8 to ExecuTorch, not {spec.kind} of "
            f"{spec.weight_bits} bits"
        )
    wanted: dict[str, object] = {"weight_bits": 8, "activation_bits": 8, "weight_symmetric": True, "block_size": 0}
    if spec.kind == "static":
        wanted["calibration"] = "minmax"
    for name, value in wanted.items():
        if getattr(spec, name) != value:
            raise Unsupported(
                f"{spec.kind} int8 of ExecuTorch: {name}={getattr(spec, name)!r} is not supported, {value!r} is"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what its packages and passes log and warn of."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
