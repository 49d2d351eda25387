"""What is done to an exported graph before it runs: checks removed, types changed, 2:4 weights packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from bench.errors import Unsupported
from bench.types import TensorSpec

aten = torch.ops.aten
CHECKS = (aten._assert_tensor_metadata.default,)  # noqa: SLF001 - its only name
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def runnable(program: ExportedProgram) -> fx.GraphModule:
    """The program as a module, without the checks torch.export adds to every call: they are not inference."""
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for node in list(module.graph.nodes):
        if node.target in CHECKS and not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module


def input_specs(program: ExportedProgram, batch: int | None = None) -> tuple[TensorSpec, ...]:
    """Inputs in call order; free dimensions become `batch`, or -1 where it is None."""
    wanted = set(program.graph_signature.user_inputs)
    return tuple(
        TensorSpec(
            name=str(node.target),
            shape=tuple(size if isinstance(size, int) else (batch or -1) for size in node.meta["val"].shape),
            dtype=str(node.meta["val"].dtype).removeprefix("torch."),
        )
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in wanted
    )


def in_precision(program: ExportedProgram, precision: str) -> ExportedProgram:
    """The program computing in `float16` or `bfloat16`, its weights stored so; its inputs and outputs stay float32.

    Raises `Unsupported` when an operation of the graph insists on float32.
    """
    dtype = PRECISIONS[precision]
    module = runnable(program).to(dtype)
    _cast_edges(module, dtype)
    specs = input_specs(program)
    example = tuple(_example(spec) for spec in specs)
    free = tuple({axis: Dim.AUTO for axis, size in enumerate(spec.shape) if size < 0} for spec in specs)
    try:
        return torch.export.export(module, example, dynamic_shapes=free)
    except (RuntimeError, ValueError) as error:
        raise Unsupported(f"the graph does not run in {precision}: {str(error).splitlines()[0]}") from error


def _example(spec: TensorSpec) -> Tensor:
    shape = [2 if size < 0 else size for size in spec.shape]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype))


def _cast_edges(module: fx.GraphModule, dtype: torch.dtype) -> None:
    graph = module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node in placeholders:
        if not node.meta["val"].is_floating_point():
            continue
        with graph.inserting_before(placeholders[-1].next):
            cast = graph.call_function(aten.to.dtype, (node, dtype))
        node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
    output = next(node for node in graph.nodes if node.op == "output")
    for node in output.all_input_nodes:
        if not node.meta["val"].is_floating_point():
            continue
        with graph.inserting_before(output):
            output.replace_input_with(node, graph.call_function(aten.to.dtype, (node, torch.float32)))
    module.recompile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity:
    """Layers whose weight is 2:4: those that run on sparse tensor cores, and why the others do not."""

    packed: tuple[str, ...]
    dense: Mapping[str, str]


def pack_two_four(module: fx.GraphModule) -> Sparsity:
    """Packs every 2:4 weight a sparse kernel of torch can take (Linear only), in place.

    A weight is 2:4 when each run of 4 along its input axis has at least 2 zeros. Raises
    `Unsupported` when no layer can run sparse.
    """
    packed: list[str] = []
    dense: dict[str, str] = {}
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target not in (aten.linear.default, aten.conv2d.default):
            continue
        target = str(node.args[1].target)
        name = target.removesuffix(".weight")
        reason = _why_dense(module.get_parameter(target), node.target)
        if reason:
            dense[name] = reason
            continue
        owner, _, leaf = target.rpartition(".")
        weight = torch.sparse.to_sparse_semi_structured(module.get_parameter(target).detach())
        setattr(module.get_submodule(owner), leaf, nn.Parameter(weight, requires_grad=False))
        packed.append(name)
    if not packed:
        why = "; ".join(f"{name}: {reason}" for name, reason in dense.items()) or "it has no Linear layer"
        raise Unsupported(f"no layer can run on 2:4 kernels of torch ({why})")
    return Sparsity(packed=tuple(packed), dense=dense)


def _why_dense(weight: Tensor, operator: object) -> str:
    if not is_two_four(weight):
        return "weight is not 2:4"
    if operator is not aten.linear.default:
        return "torch has no 2:4 convolution"
    if weight.dtype not in (torch.float16, torch.bfloat16):
        return f"2:4 kernels take float16 or bfloat16, the weight is {str(weight.dtype).removeprefix('torch.')}"
    rows, columns = weight.shape
    if rows % 32 or columns % 64:
        return f"weight of {rows}x{columns} is no multiple of 32x64"
    return ""


def is_two_four(weight: Tensor) -> bool:
    """Whether each run of 4 along the input axis (axis 1) has at least 2 zeros, and some are zero at all."""
    by_input = weight.detach().movedim(1, -1)
    if by_input.shape[-1] % 4:
        return False
    return bool(((by_input.reshape(-1, 4) != 0).sum(1) <= 2).all())
