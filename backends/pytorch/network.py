"""An exported program made ready to be called: placed, packed, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch._dynamo.utils import counters
from torch.export.passes import move_to_device_pass

from backends.pytorch.archive import load_archive
from backends.pytorch.graph import input_specs, runnable
from backends.pytorch.sparse import Sparsity, pack_two_four
from bench.errors import Unavailable, Unsupported
from bench.types import Json, Scalar, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A graph on its device. `call` runs it as the mode says; `module` runs it node by node."""

    module: fx.GraphModule
    call: Callable[..., Any]
    inputs: tuple[TensorSpec, ...]
    mode: str
    precision: str
    device: str
    channels_last: bool
    sparsity: Sparsity | None

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor on the network's device, in its layout."""
        if self.channels_last and tensor.dim() == 4:
            return tensor.to(self.device, memory_format=torch.channels_last)
        return tensor.to(self.device)

    def weight_types(self) -> tuple[str, ...]:
        """Floating types of the parameters as they lie in memory."""
        return tuple(sorted({str(value.dtype).removeprefix("torch.") for value in self.module.parameters()}))

    def facts(self) -> Mapping[str, Json]:
        """How it runs, for the record."""
        notes: dict[str, Json] = {
            "mode": self.mode,
            "precision": self.precision,
            "weight_types": list(self.weight_types()),
            "channels_last": self.channels_last,
        }
        if self.mode == "compile":
            notes["graphs_compiled"] = counters["stats"]["unique_graphs"]
        if self.sparsity:
            notes["sparse_layers"] = list(self.sparsity.packed)
            notes["dense_layers"] = dict(self.sparsity.dense)
        return notes

    def fallbacks(self) -> tuple[str, ...]:
        """What was asked and did not happen."""
        found: list[str] = []
        if self.mode == "compile":
            found += [f"torch.compile broke the graph: {why}" for why in counters["graph_break"]]
            if not counters["stats"]["unique_graphs"]:
                found.append("torch.compile compiled nothing: the graph ran op by op")
        wanted = {"tf32": "float32"}.get(self.precision, self.precision)
        if wanted not in self.weight_types():
            found.append(f"{wanted} was asked for, the weights are {', '.join(self.weight_types())}")
        return tuple(found)


def load_network(path: Path, batch: int, options: Mapping[str, Scalar]) -> Network:
    """Reads the archive and places it. Raises `InvalidInput`, `Unsupported`, `Unavailable` (no compiler)."""
    device, mode = str(options.get("device", "cpu")), str(options.get("mode", "eager"))
    program = load_archive(path)
    if device != "cpu":
        program = move_to_device_pass(program, device)
    module = runnable(program)
    channels_last = bool(options.get("channels_last", False))
    if channels_last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = Network(
        module=module,
        call=torch.compile(module) if mode == "compile" else module,
        inputs=input_specs(program, batch),
        mode=mode,
        precision=_precision_of(module, str(options.get("precision", "float32"))),
        device=device,
        channels_last=channels_last,
        sparsity=pack_two_four(module) if options.get("sparse") else None,
    )
    if mode == "compile":
        _first_run(network)
    return network


def _precision_of(module: fx.GraphModule, option: str) -> str:
    """What the file says; the option decides between float32 and TF32, which are stored alike."""
    types = {str(value.dtype).removeprefix("torch.") for value in module.parameters()}
    halves = sorted(types & {"float16", "bfloat16"})
    if halves and option in ("float32", "tf32"):
        return halves[0]
    return option


def example(network: Network) -> tuple[Tensor, ...]:
    """Zeros of every input's shape, in place."""
    return tuple(network.place(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype))) for spec in network.inputs)


def _first_run(network: Network) -> None:
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
    from torch._inductor.exc import InvalidCxxCompiler

    counters.clear()
    torch.compiler.reset()
    try:
        with torch.inference_mode():
            network.call(*example(network))
    except (InvalidCxxCompiler, BackendCompilerFailed) as error:
        if isinstance(getattr(error, "inner_exception", error), InvalidCxxCompiler):
            raise Unavailable("torch.compile needs a C++ compiler here; install g++ (apt install g++)") from error
        raise Unsupported(f"torch.compile failed: {str(error).splitlines()[0]}") from error
    except TorchDynamoException as error:
        raise Unsupported(f"torch.compile failed: {str(error).splitlines()[0]}") from error
