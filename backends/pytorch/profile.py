"""Times each node of a graph by running it op by op."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor, fx

from backends.pytorch.network import Network
from bench.errors import Unavailable
from bench.records import LayerTime


def profile_nodes(network: Network, tensors: tuple[Tensor, ...], runs: int) -> tuple[LayerTime, ...]:
    """Mean duration of every operation over `runs` passes, after one pass to warm up.

    Raises `Unavailable` under torch.compile, which fuses them.
    On a GPU the durations are between two CUDA events and so hold the gap before a kernel starts.
    """
    if network.mode == "compile":
        raise Unavailable("no layer times under mode = 'compile': torch.compile fuses the operations; eager has them")
    timed = _by_events if network.device == "cuda" else _by_host
    spent: dict[fx.Node, float] = defaultdict(float)
    with torch.inference_mode():
        timed(network.module, tensors)
        for _ in range(runs):
            for node, microseconds in timed(network.module, tensors).items():
                spent[node] += microseconds
    return tuple(
        LayerTime(
            name=_name(node),
            operator=str(node.target).removeprefix("aten.").partition(".")[0],
            mean_us=total / runs,
            runs=runs,
            placed_on=network.device,
        )
        for node, total in spent.items()
    )


def _name(node: fx.Node) -> str:
    """The layer's module path where the node has a weight, else the node's own name."""
    for argument in node.args[1:2]:
        if isinstance(argument, fx.Node) and argument.op == "get_attr":
            return str(argument.target).removesuffix(".weight")
    return node.name


def walk(
    module: fx.GraphModule, tensors: tuple[Tensor, ...], call: Callable[[fx.Node, Callable[[], Any]], Any]
) -> None:
    """Runs the graph through `call`, holding no value longer than an inference does: until its last use."""
    values: dict[fx.Node, Any] = {}
    feed = iter(tensors)
    unneeded = _last_uses(module.graph)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(feed)
        elif node.op == "get_attr":
            owner, _, leaf = str(node.target).rpartition(".")
            values[node] = getattr(module.get_submodule(owner), leaf)
        elif node.op == "call_function":
            values[node] = call(node, _bind(node, values))
        for value in unneeded.get(node, ()):
            del values[value]


def _bind(node: fx.Node, values: Mapping[fx.Node, Any]) -> Callable[[], Any]:
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
    assert callable(node.target)
    return partial(node.target, *args, **kwargs)


def _last_uses(graph: fx.Graph) -> Mapping[fx.Node, list[fx.Node]]:
    """Node -> the values nothing after it reads; one that is never read goes with the node that makes it."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    found: dict[fx.Node, list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.op != "output":
            found[max(node.users, key=order.__getitem__, default=node)].append(node)
    return found


def _by_host(module: fx.GraphModule, tensors: tuple[Tensor, ...]) -> dict[fx.Node, float]:
    spent: dict[fx.Node, float] = {}

    def call(node: fx.Node, work: Callable[[], Any]) -> Any:
        begun = perf_counter_ns()
        value = work()
        spent[node] = (perf_counter_ns() - begun) / 1e3
        return value

    walk(module, tensors, call)
    return spent


def _by_events(module: fx.GraphModule, tensors: tuple[Tensor, ...]) -> dict[fx.Node, float]:
    events: dict[fx.Node, tuple[torch.cuda.Event, torch.cuda.Event]] = {}

    def call(node: fx.Node, work: Callable[[], Any]) -> Any:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        value = work()
        end.record()
        events[node] = (start, end)
        return value

    walk(module, tensors, call)
    torch.cuda.synchronize()
    return {node: start.elapsed_time(end) * 1e3 for node, (start, end) in events.items()}
