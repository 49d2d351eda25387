"""Which kernels one inference really ran, by torch's own profiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.profiler import ProfilerActivity, profile

INTEGER = ("onednn::qconv", "onednn::qlinear")
LIBRARIES = ("onednn::", "mkldnn::", "quantized::")


def count_kernels(run: Callable[[], object]) -> Mapping[str, int]:
    """Kernel -> how often, of the libraries that multiply."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    return {event.key: event.count for event in seen.key_averages() if event.key.startswith(LIBRARIES)}


def count_int8(kernels: Mapping[str, int]) -> int:
    """How many of the kernels multiply in integers."""
    return sum(count for name, count in kernels.items() if name.startswith(INTEGER))


def find_int8_fallbacks(kernels: Mapping[str, int], asked: int) -> tuple[str, ...]:
    """The fallback where fewer integer kernels ran than the file has integer layers."""
    integer = count_int8(kernels)
    if integer >= asked:
        return ()
    return (f"asked for int8, {asked - integer} of {asked} layers ran no int8 kernel of oneDNN",)
