"""Ifs whose condition no input decides become the branch that is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

from bench.models.from_onnx.probe import Probe


def settle_branches(model: ModelProto, show: Callable[[ModelProto], Sequence[Probe]]) -> ModelProto:
    """A copy without such Ifs, those inside of branches too. `show`: what runs of a file at several batches showed."""
    while any(node.op_type == "If" for node in model.graph.node):
        shown = show(model)
        settled = ModelProto()
        settled.CopyFrom(model)
        del settled.graph.node[:]
        for node in model.graph.node:
            taken = _branch_taken(node, shown)
            settled.graph.node.extend([node] if taken is None else _inline(node, taken, settled.graph))
        if len(settled.graph.node) == len(model.graph.node) and settled == model:
            break
        model = settled
    return model


def _branch_taken(node: NodeProto, shown: Sequence[Probe]) -> GraphProto | None:
    """None for another operator, and where an input or the batch decides."""
    conditions = [one.constants.get(node.input[0]) for one in shown] if node.op_type == "If" else [None]
    answers = {None if one is None else bool(one.reshape(-1)[0]) for one in conditions}
    if len(answers) > 1 or None in answers:
        return None
    wanted = "then_branch" if True in answers else "else_branch"
    return next((item.g for item in node.attribute if item.name == wanted), None)


def _inline(node: NodeProto, branch: GraphProto, graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of the branch, what they make and store named after the If; its stored tensors go to `graph`."""
    own = {item.name for item in branch.initializer} | {name for inner in branch.node for name in inner.output if name}
    names = {name: f"{node.output[0]}.{name}" for name in own}
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = names[tensor.name]
    for inner in branch.node:
        copied = NodeProto()
        copied.CopyFrom(inner)
        _rename(copied, names)
        yield copied
    for given, name in zip(branch.output, node.output, strict=True):
        yield helper.make_node("Identity", [names.get(given.name, given.name)], [name], name=f"{name}/taken")


def _rename(node: NodeProto, names: dict[str, str]) -> None:
    """In place; bodies inside may read the values too, and none has a name of its own for them."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for item in node.attribute:
        if item.type == AttributeProto.GRAPH:
            for inner in item.g.node:
                _rename(inner, names)
            for value in item.g.output:
                value.name = names.get(value.name, value.name)
