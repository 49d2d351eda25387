"""The host side of TensorRT: an ONNX file that says every type; the engine is built on the GPU it will run on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, final

from backends.onnx_tools.deploy import read_source, write
from backends.trt.cuda.driver import INSTALL, dotted, driver_version
from backends.trt.loading import MODULES, REMEDIES
from backends.trt.qdq import fold_biases, refuse_zero_points
from bench.errors import InvalidInput, Unavailable
from bench.types import Artifact, Backend, Compressed, Conditions, Json, Probe, Scalar

DISTRIBUTIONS = {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "rtx": ("tensorrt-rtx",)}


@final
class TrtBackend(Backend):
    """TensorRT 10 and 11, and TensorRT for RTX."""

    name: ClassVar[str] = "trt"
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    session: ClassVar[str | None] = "backends.trt.session:TrtSession"
    width_steps: ClassVar[Mapping[str, int]] = {"": 8}
    compilers: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxruntime-gpu", "ml_dtypes")
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "flavour": ("auto", "tensorrt", "rtx"),
        "precision": ("float32", "tf32", "float16", "bfloat16"),
        "cuda_graph": (False, True),
        "sparse": (False, True),
        "workspace_mib": (),
        "cache": (),
    }

    def probe(self) -> Probe:
        """Looks for TensorRT, a CUDA package and the driver, importing none of them; every missing one is named."""
        found = [title for title in map(_find_installed, MODULES) if title]
        driver, reason, remedy = _read_driver()
        missing = [] if found else [("no TensorRT is installed", " or ".join(REMEDIES.values()))]
        missing += [] if _has_cuda_package() else [("neither cuda-bindings nor pycuda is installed", INSTALL)]
        missing += [(reason, remedy)] if reason else []
        if missing:
            reasons, remedies = zip(*missing, strict=True)
            return Probe(available=False, reason="; ".join(reasons), remedy="; ".join(remedies))
        return Probe(available=True, version=", ".join([*found, driver]))

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out/model.onnx` with the batch fixed."""
        _check_free_options(options)
        from backends.trt.lower import lower  # ONNX Runtime's quantizer: not needed to list backends

        read = read_source(source, conditions.batch)
        refuse_zero_points(read.model, read.path.name)
        folded = fold_biases(read.model)
        done = lower(read.model, source, str(options.get("precision", "float32")))
        deployed = write(done.model, conditions.batch, read, out)
        facts: dict[str, Json] = {
            **done.facts,
            "biases_folded": folded,
            "weights_taken_off_the_inputs": read.hidden,
            "onnx": version("onnx"),
        }
        return Artifact(path=deployed, format="onnx", precision=done.precision, facts=facts)


def _check_free_options(options: Mapping[str, Scalar]) -> None:
    """Raises `InvalidInput` for values that no list of allowed values can name."""
    workspace = options.get("workspace_mib", 0)
    if not isinstance(workspace, int) or workspace < 0:
        raise InvalidInput(f"option workspace_mib is {workspace!r}; it is a number of MiB, 0 for as much as there is")
    if not isinstance(options.get("cache", ""), str):
        raise InvalidInput(f"option cache is {options['cache']!r}; it is a folder on the target")


def _find_installed(flavour: str) -> str:
    """Module and version of a TensorRT that is installed; "" where it is not."""
    if find_spec(MODULES[flavour]) is None:
        return ""
    numbers = [entry.version for name in DISTRIBUTIONS[flavour] for entry in distributions(name=name)]
    return f"{MODULES[flavour]} {numbers[0] if numbers else ''}".strip()


def _has_cuda_package() -> bool:
    return any(find_spec(package) is not None for package in ("cuda", "pycuda"))


def _read_driver() -> tuple[str, str, str]:
    """What the driver takes; or "", why there is none, and how to get it."""
    try:
        return f"driver for CUDA {dotted(driver_version())}", "", ""
    except Unavailable as error:
        reason, _, remedy = str(error).partition("; ")
        return "", reason, remedy
