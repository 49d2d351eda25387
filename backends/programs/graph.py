"""What is done to an exported graph before it runs: removes export's checks, changes types."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram

from bench.errors import Unsupported
from bench.types import TensorSpec

aten = torch.ops.aten
CHECKS = (aten._assert_tensor_metadata.default,)  # noqa: SLF001 - its only name
WEIGHTED = (
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    aten.linear.default,
)
PADDED = {
    aten.conv1d.padding: aten.conv1d.default,
    aten.conv2d.padding: aten.conv2d.default,
    aten.conv3d.padding: aten.conv3d.default,
}
"""Convolutions whose padding is a word -> the same with numbers, which quantizers know."""
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def make_runnable(program: ExportedProgram) -> fx.GraphModule:
    """The program as a module, without the checks torch.export adds to every call: they are not inference."""
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for node in list(module.graph.nodes):
        if node.target in CHECKS and not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module


def settle_paddings(module: fx.GraphModule) -> None:
    """Convolutions with the padding "same" or "valid" get it in numbers, in place; where its two sides differ, by a pad before."""
    for node in [node for node in module.graph.nodes if node.target in PADDED]:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        weight = module.get_parameter(str(given["weight"].target)) if given["weight"].op == "get_attr" else None
        shape = given["weight"].meta["val"].shape if weight is None else weight.shape
        sizes = shape[2:]
        dilation, stride = (
            [*one] * len(sizes) if len(one) == 1 else [*one]
            for one in (given.get(name, (1,)) for name in ("dilation", "stride"))
        )
        whole = [step * (size - 1) for step, size in zip(dilation, sizes, strict=True)]
        whole = whole if given.get("padding", "valid") == "same" else [0] * len(sizes)
        entering, padding = given["input"], [size // 2 for size in whole]
        if any(size % 2 for size in whole):
            sides = [side for size in reversed(whole) for side in (size // 2, size - size // 2)]
            with module.graph.inserting_before(node):
                entering = module.graph.call_function(aten.constant_pad_nd.default, (entering, sides))
            padding = [0] * len(sizes)
        rest = (given.get("bias"), stride, padding, dilation, given.get("groups", 1))
        node.target, node.args, node.kwargs = PADDED[node.target], (entering, given["weight"], *rest), {}
    module.recompile()


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


def cast_program(program: ExportedProgram, precision: str) -> ExportedProgram:
    """The program computing in `float16` or `bfloat16`, its weights stored so; its inputs and outputs stay float32.

    Raises `Unsupported` when an operation of the graph insists on float32.
    """
    dtype = PRECISIONS[precision]
    module = make_runnable(program).to(dtype)
    _cast_edges(module, dtype)
    return export_again(module, input_specs(program), f"in {precision}")


def export_again(module: fx.GraphModule, specs: tuple[TensorSpec, ...], how: str) -> ExportedProgram:
    """The module exported again, the free dimensions free. Raises `Unsupported` where it does not run so."""
    example = tuple(_make_example(spec) for spec in specs)
    free = tuple({axis: Dim.AUTO for axis, size in enumerate(spec.shape) if size < 0} for spec in specs)
    try:
        return torch.export.export(module, example, dynamic_shapes=free)
    except (RuntimeError, ValueError) as error:
        raise Unsupported(f"the graph does not run {how}: {str(error).splitlines()[0]}") from error


def layers(module: fx.GraphModule) -> dict[str, bool]:
    """Layer that multiplies by a weight -> whether that weight is stored in integers."""
    return {name or node.name: integer for node, name, integer in weighted_nodes(module)}


def weighted_nodes(module: fx.GraphModule) -> list[tuple[fx.Node, str, bool]]:
    """Each node that multiplies by a weight: the node, its layer, and whether the weight is stored in integers.

    The layer is "" where the weight is not a parameter of the network as it was.
    """
    found = []
    for node in module.graph.nodes:
        if node.target not in WEIGHTED:
            continue
        weight = node.args[1]
        integer = isinstance(weight, fx.Node) and "dequantize_per" in str(weight.target)
        plain = isinstance(weight, fx.Node) and weight.op == "get_attr"
        found.append((node, str(weight.target).removesuffix(".weight") if plain else "", integer))
    return found


def _make_example(spec: TensorSpec) -> Tensor:
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
