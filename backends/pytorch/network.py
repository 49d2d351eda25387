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

from backends.programs.archive import load_archive, read_output_names
from backends.programs.graph import input_specs, layers, make_runnable
from backends.pytorch.sparse import Sparsity, pack_two_four
from bench.device.precision import find_stayed_float
from bench.errors import Unavailable, Unsupported
from bench.records import Execution
from bench.types import FLOAT32, Json, Precision, Scalar, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What torch.compile made of a graph: how many graphs, and why it broke the graph it got."""

    graphs: int
    breaks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A graph on its device. `call` runs it as the mode says; `module` runs it node by node.

    `name`: of its file. `precision`: what the file computes in. `asked`: what it was made to compute in.
    `outputs`: names of the outputs, () where the file names none.
    """

    name: str
    module: fx.GraphModule
    call: Callable[..., Any]
    inputs: tuple[TensorSpec, ...]
    mode: str
    precision: str
    device: str
    channels_last: bool
    sparsity: Sparsity | None
    asked: Precision = FLOAT32
    outputs: tuple[str, ...] = ()

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor on the network's device, in its layout."""
        if self.channels_last and tensor.dim() == 4:
            return tensor.to(self.device, memory_format=torch.channels_last)
        return tensor.to(self.device)

    def weight_types(self) -> tuple[str, ...]:
        """Floating types of the parameters as they lie in memory."""
        return tuple(sorted({str(value.dtype).removeprefix("torch.") for value in self.module.parameters()}))

    def describe(self, compiled: Compiled | None) -> Mapping[str, Json]:
        """What the typed fields of `execution` do not hold, for people."""
        notes: dict[str, Json] = {"weight_types": list(self.weight_types())}
        if compiled:
            notes["graphs_compiled"] = compiled.graphs
        if self.sparsity:
            notes["dense_layers"] = dict(self.sparsity.dense)
        return notes

    def execution(self) -> Execution:
        """How it runs, in the typed fields of a record; kernels are the session's to add."""
        return Execution(
            precision=self.precision,
            mode=self.mode,
            layout="channels_last" if self.channels_last else "",
            sparse_layers=self.sparsity.packed if self.sparsity else (),
        )

    def find_fallbacks(self, compiled: Compiled | None) -> tuple[str, ...]:
        """What was asked and did not happen."""
        found: list[str] = []
        if compiled:
            found += [f"torch.compile broke the graph: {why}" for why in compiled.breaks]
            if not compiled.graphs:
                found.append("torch.compile compiled nothing: the graph ran op by op")
        wanted = {"tf32": "float32"}.get(self.precision, self.precision)
        if self.precision != "int8" and wanted not in self.weight_types():  # int8 is judged by the kernels that ran
            found.append(f"{wanted} was asked for, the weights are {', '.join(self.weight_types())}")
        return (*found, *find_stayed_float(self.asked))


def load_network(path: Path, batch: int, options: Mapping[str, Scalar], asked: Precision = FLOAT32) -> Network:
    """Reads the archive and places it.

    Raises `InvalidInput` (no archive) and `Unsupported` (no 2:4 kernel).
    """
    device, mode = str(options.get("device", "cpu")), str(options.get("mode", "eager"))
    program = load_archive(path)
    if device != "cpu":
        program = move_to_device_pass(program, device)
    module = make_runnable(program)
    channels_last = bool(options.get("channels_last", False))
    if channels_last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Network(
        name=path.name,
        module=module,
        call=torch.compile(module) if mode == "compile" else module,
        inputs=input_specs(program, batch),
        mode=mode,
        precision=_read_precision(module, asked.asked),
        device=device,
        channels_last=channels_last,
        sparsity=pack_two_four(module) if options.get("sparse") else None,
        asked=asked,
        outputs=read_output_names(path),
    )


def _read_precision(module: fx.GraphModule, asked: str) -> str:
    """What the file computes in. float32 and TF32 are stored alike: what was asked decides between them."""
    if any(layers(module).values()):
        return "int8"
    types = {str(value.dtype).removeprefix("torch.") for value in module.parameters()}
    halves = sorted(types & {"float16", "bfloat16"})
    if halves and asked in ("float32", "tf32"):
        return halves[0]
    return asked


def make_example(network: Network) -> tuple[Tensor, ...]:
    """Zeros of every input's shape, in place. Made outside inference mode, as every input is: torch.compile would
    compile a second time for tensors of the other kind."""
    return tuple(network.place(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype))) for spec in network.inputs)


def compile_now(network: Network) -> Compiled | None:
    """The first call, which makes torch.compile compile; None in other modes.

    Raises `Unavailable` (no C++ compiler) and `Unsupported` (torch.compile cannot).
    """
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
    from torch._inductor import config
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    if network.mode != "compile":
        return None
    graphs, breaks = counters["stats"]["unique_graphs"], dict(counters["graph_break"])
    try:
        # int8 weights are packed for oneDNN when Inductor freezes them; asked for while the graph is traced, put back
        tensors = make_example(network)
        with torch.inference_mode(), config.patch(freezing=network.precision == "int8"):
            network.call(*tensors)
    except (TorchDynamoException, BackendCompilerFailed, InductorError, InvalidCxxCompiler) as error:
        reason = getattr(error, "inner_exception", error)
        if isinstance(reason, InvalidCxxCompiler):
            raise Unavailable("torch.compile needs a C++ compiler here: apt install g++") from error
        raise Unsupported(f"torch.compile failed: {str(error).splitlines()[0]}") from error
    return Compiled(
        graphs=counters["stats"]["unique_graphs"] - graphs,
        breaks=tuple(why for why, count in counters["graph_break"].items() if count > breaks.get(why, 0)),
    )
