"""Which kernels one inference really ran, by torch's own profiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.profiler import ProfilerActivity, profile

INTEGER = ("onednn::qconv", "onednn::qlinear")
LIBRARIES = ("onednn::", "mkldnn::", "quantized::")


def ran(run: Callable[[], object]) -> Mapping[str, int]:
    """Kernel -> how often, of the libraries that multiply."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    return {event.key: event.count for event in seen.key_averages() if event.key.startswith(LIBRARIES)}


def int8_fallbacks(kernels: Mapping[str, int], asked: int) -> tuple[str, ...]:
    """Why int8 is not what ran: fewer integer kernels than the file has integer layers."""
    integer = sum(count for name, count in kernels.items() if name.startswith(INTEGER))
    if integer >= asked:
        return ()
    return (f"asked for int8, {asked - integer} of {asked} layers ran no int8 kernel of oneDNN",)
