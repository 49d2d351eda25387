"""Times the layers of an engine by TensorRT's own profiler.

Travels to the device: standard library and TensorRT, Python 3.10.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from backends.trt.log import explain_failure
from backends.trt.network import Network
from bench.errors import Unavailable
from bench.records import LayerTime


def profile_layers(
    network: Network, addresses: Mapping[str, int], kinds: Mapping[str, str], runs: int
) -> tuple[LayerTime, ...]:
    """Mean time of each layer over `runs` runs after one to warm up, in a context of its own.

    TensorRT puts events around every layer then, so that their sum is more than an inference takes.
    Raises `Unavailable` where there is no memory for a second context.
    """
    context = network.new_context()
    if context is None:
        raise Unavailable("no layer times: the device's memory does not hold a second context")
    profiler = _profiler(network.tensorrt.trt)
    context.profiler = profiler
    network.point(context, addresses)
    for run in range(1 + runs):
        if run == 1:
            profiler.spent.clear()
        if not context.execute_async_v3(network.device.stream):
            raise explain_failure(network.log, "profiling the engine")
        network.device.synchronize()
    return tuple(
        LayerTime(name=name, operator=kinds.get(name, ""), mean_us=spent / runs, runs=runs, placed_on="gpu")
        for name, spent in profiler.spent.items()
    )


def _profiler(trt: Any) -> Any:
    """Adds up microseconds by layer in `spent`."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.spent: dict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.spent[layer_name] += ms * 1e3

    return Profiler()
