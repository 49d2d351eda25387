"""Opens a file in ONNX Runtime on exactly the execution provider that was asked for, or says why not.

Travels to the device: standard library, numpy and onnxruntime, Python 3.10.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.onnx_tools.native import NATIVE_ERRORS, explain_refusal, ort
from bench.device.precision import list_names
from bench.errors import InvalidInput, PressbenchError, Unavailable, Untrusted
from bench.types import FLOAT32, Precision, Scalar

__all__ = ["PROVIDERS", "describe_misplaced", "find_unknowns", "load", "read_placement"]

PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
CPU_FALLBACK = "fallback to CPU EP has been explicitly disabled"
GPU_REMEDY = (
    "it needs an NVIDIA driver and, in an environment without plain onnxruntime, "
    "pip install 'onnxruntime-gpu[cuda,cudnn]' (for TensorRT its libraries too)"
)


def load(
    path: Path,
    threads: int,
    options: Mapping[str, Scalar],
    precision: Precision = FLOAT32,
    *,
    profile: str = "",
    exact_sums: bool = False,
) -> Any:
    """An `InferenceSession`; `profile` is the prefix of the file its profiler writes, "" for no profiler.

    `exact_sums`: x86 CPUs without VNNI take their slower integer kernels, whose sums do not saturate.

    Raises `Unavailable` where the provider does not load, `Untrusted` where it leaves nodes to another,
    `InvalidInput` for a file or an option ONNX Runtime does not take.
    """
    provider = _provider(options)
    made = make_session_options(threads, options, precision)
    if profile:
        made.enable_profiling = True
        made.profile_file_prefix = profile
    if exact_sums:
        made.add_session_config_entry("session.x64quantprecision", "1")
    strict = PROVIDERS[provider] != PROVIDERS["cpu"]
    if strict:
        made.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = _create(path, made, options, precision)
    except NATIVE_ERRORS as error:
        if strict and CPU_FALLBACK in str(error):
            raise _explain_fallback(path, threads, options, precision) from error
        raise explain_refusal(path.name, str(error)) from error
    if PROVIDERS[provider][0] not in session.get_providers():
        raise _not_loaded(provider)
    session.disable_fallback()
    if found := describe_misplaced(provider, read_placement(session)):
        raise Untrusted(f"{path.name}: {found}")
    return session


def make_session_options(threads: int, options: Mapping[str, Scalar], precision: Precision) -> Any:
    """Options of every session: `threads` without spinning, placement recorded, no warnings.

    Where the recipe keeps layers float, ONNX Runtime must not quantize their weights itself.
    """
    level = str(options.get("graph_optimization", "all"))
    if level not in LEVELS:
        raise InvalidInput(f"option graph_optimization is {level!r}; it is one of {', '.join(LEVELS)}")
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.inter_op_num_threads = 1
    made.graph_optimization_level = LEVELS[level]
    made.log_severity_level = 3
    made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    made.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.get("allow_spinning") else "0")
    if precision.keep_float and not precision.from_file:
        made.add_session_config_entry("optimization.disable_specified_optimizers", "WeightBiasQuantization")
    return made


def _provider(options: Mapping[str, Scalar]) -> str:
    """The provider asked for. Raises `Unavailable` where this build of ONNX Runtime does not have it."""
    provider = str(options.get("provider", "cpu"))
    if provider not in PROVIDERS:
        raise InvalidInput(f"option provider is {provider!r}; it is one of {', '.join(PROVIDERS)}")
    if PROVIDERS[provider][0] not in ort.get_available_providers():
        raise Unavailable(f"this build of onnxruntime {ort.__version__} has no {PROVIDERS[provider][0]}: {GPU_REMEDY}")
    return provider


def _create(path: Path, made: Any, options: Mapping[str, Scalar], precision: Precision) -> Any:
    wanted = PROVIDERS[str(options.get("provider", "cpu"))]
    if wanted != PROVIDERS["cpu"]:
        ort.preload_dlls()
    each = [make_provider_options(name, path, options, precision) for name in wanted]
    return ort.InferenceSession(str(path), made, providers=list(wanted), provider_options=each)


def make_provider_options(
    name: str, path: Path, options: Mapping[str, Scalar], precision: Precision = FLOAT32
) -> dict[str, str]:
    """Options of one provider: TF32 only on request; TensorRT caches engine and timings beside the file if it can write."""
    graph = "1" if options.get("cuda_graph") else "0"
    if name == "CUDAExecutionProvider":
        return {"use_tf32": "1" if options.get("tf32") else "0", "enable_cuda_graph": graph}
    if name != "TensorrtExecutionProvider":
        return {}
    cache = {
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_engine_cache_path": str(path.parent),
        "trt_timing_cache_path": str(path.parent),
    }
    return {
        "trt_cuda_graph_enable": graph,
        "trt_int8_enable": "1" if precision.asked == "int8" else "0",
        "trt_fp16_enable": "1" if precision.asked == "float16" else "0",
        **(cache if os.access(path.parent, os.W_OK) else {}),
    }


def _explain_fallback(path: Path, threads: int, options: Mapping[str, Scalar], precision: Precision) -> PressbenchError:
    """Why the CPU would have been used: the provider did not load, or it left these nodes."""
    provider = str(options["provider"])
    try:
        session = _create(path, make_session_options(threads, options, precision), options, precision)
    except NATIVE_ERRORS as error:
        return explain_refusal(path.name, str(error))
    if PROVIDERS[provider][0] not in session.get_providers():
        return _not_loaded(provider)
    found = describe_misplaced(provider, read_placement(session)) or f"asked for {provider}, nodes went to the CPU"
    return Untrusted(f"{path.name}: {found}")


def _not_loaded(provider: str) -> Unavailable:
    return Unavailable(f"{PROVIDERS[provider][0]} did not load, ONNX Runtime would use the CPU: {GPU_REMEDY}")


def read_placement(session: Any) -> dict[str, list[str]]:
    """Provider -> "name (operator)" of the nodes assigned to it; {} where the runtime keeps no record."""
    placed: dict[str, list[str]] = {}
    with suppress(AttributeError):  # before 1.24
        for subgraph in session.get_provider_graph_assignment_info():
            nodes = placed.setdefault(subgraph.ep_name, [])
            nodes.extend(f"{node.name or '?'} ({node.op_type})" for node in subgraph.get_nodes())
    return placed


def describe_misplaced(provider: str, placed: Mapping[str, Sequence[str]]) -> str:
    """Which nodes went to another provider than the one asked for; "" when none did."""
    wanted = PROVIDERS[provider][0]
    others = {name: nodes for name, nodes in placed.items() if name != wanted and nodes}
    return "; ".join(
        f"asked for {wanted}, {len(nodes)} nodes went to {name}: {list_names(nodes)}" for name, nodes in others.items()
    )


def find_unknowns(provider: str, placed: Mapping[str, Sequence[str]], precision: Precision) -> list[str]:
    """What ONNX Runtime does not say about TensorRT: which nodes went to the CUDA provider behind it, and the types
    its kernels multiply in."""
    if provider != "tensorrt":
        return []
    found = []
    if not any(placed.values()):
        found.append(
            f"ONNX Runtime {ort.__version__} keeps no record of which provider ran each node (1.24 and later do): "
            "it is unknown whether TensorRT or CUDA ran them"
        )
    if precision.asked not in ("float32", "weight_only"):
        found.append(
            f"asked for {precision.asked}; ONNX Runtime shows none of TensorRT's kernels, so it is unknown "
            "what ran: the backend 'trt' reads it from the engine"
        )
    return found
