"""Builds an engine from an ONNX file on the GPU it will run on: a strongly typed network, its timings kept.

Travels to the device: standard library and TensorRT, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from backends.trt.loading import TensorRT
from backends.trt.log import errors, explain_failure, list_lines, new_log, start_tensorrt
from bench.errors import InvalidInput, PressbenchError, Unsupported
from bench.types import Json, Scalar

NO_KERNEL = ("could not find any implementation", "unsupported_", "not supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides how an engine is built, beside the file. `workspace_mib` 0: as much as the GPU has.

    `compute_capability` is a name of TensorRT for RTX (SM89) to build for a GPU that is not here; "" is this one.
    """

    tf32: bool = False
    sparse: bool = False
    workspace_mib: int = 0
    compute_capability: str = ""

    def facts(self) -> dict[str, Json]:
        """All of them, as they go into an engine's key."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A serialized engine, the timings that chose its kernels (empty without any), and the facts of the build."""

    plan: bytes
    timings: bytes
    facts: Mapping[str, Json] = field(default_factory=dict)


def read_settings(options: Mapping[str, Scalar]) -> Settings:
    """The options that decide how an engine is built."""
    return Settings(
        tf32=options.get("precision") == "tf32",
        sparse=bool(options.get("sparse")),
        workspace_mib=int(options.get("workspace_mib") or 0),
    )


def build(tensorrt: TensorRT, name: str, content: bytes, settings: Settings, timings: bytes) -> Built:
    """The engine of the ONNX file `name` of that content.

    Raises `Unsupported` with every node TensorRT refuses, `InvalidInput` for a file that is not ONNX,
    `CellFailed` when building fails (out of device memory).
    """
    trt, log, begun = tensorrt.trt, new_log(tensorrt), perf_counter()
    builder = start_tensorrt(tensorrt, trt.Builder, log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(content):
        raise _explain_refusal(tensorrt, parser, name)
    if not network.num_outputs:
        raise InvalidInput(f"{name}: there is no network in it: truncated, or no ONNX file")
    config = _configure(tensorrt, builder, settings)
    reused = _use_timings(tensorrt, config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _explain_unbuilt(tensorrt, log, name)
    facts = {
        "built_s": round(perf_counter() - begun, 3),
        "network_layers": int(network.num_layers),
        "timings_reused": reused,
        "log": list_lines(log),
    }
    return Built(plan=bytes(plan), timings=_timings(tensorrt, config), facts=facts)


def _configure(tensorrt: TensorRT, builder: Any, settings: Settings) -> Any:
    trt, config = tensorrt.trt, builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: float32 would not be float32
    if settings.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if settings.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * 2**20)
    if settings.compute_capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, settings.compute_capability), 0)
    return config


def _use_timings(tensorrt: TensorRT, config: Any, timings: bytes) -> bool:
    """Gives the builder a timing cache. Returns whether it took the given timings: it refuses another GPU's."""
    if tensorrt.flavour == "rtx":
        return False  # it times nothing when it builds, and calls its timing caches deprecated
    for content in (timings, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return bool(content)
    return False


def _timings(tensorrt: TensorRT, config: Any) -> bytes:
    """The builder's timings, including those it was given."""
    cache = None if tensorrt.flavour == "rtx" else config.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())


def _explain_refusal(tensorrt: TensorRT, parser: Any, name: str) -> PressbenchError:
    """All the parser has against the file. Its texts are copied while it lives."""
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    if any(error.code() == tensorrt.trt.ErrorCode.MODEL_DESERIALIZE_FAILED for error in found) or not found:
        return InvalidInput(f"{name}: TensorRT {tensorrt.version} cannot read it as ONNX")
    words = [
        f"{error.node_name() or '?'} ({error.node_operator()}): {str(error.desc()).splitlines()[0]}" for error in found
    ]
    return Unsupported(f"{name}: TensorRT {tensorrt.version} refuses {len(words)} nodes: {'; '.join(words)}")


def _explain_unbuilt(tensorrt: TensorRT, log: Any, name: str) -> PressbenchError:
    """A network TensorRT has no kernels for is unsupported; anything else is a explain_failure."""
    for line in errors(log):
        if any(sign in line.lower() for sign in NO_KERNEL):
            return Unsupported(f"{name}: TensorRT {tensorrt.version} cannot build it: {line}")
    return explain_failure(log, f"building {name}")
