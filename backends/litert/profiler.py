"""Per-operator times from LiteRT's own profiler, through the C API of the wheel's libLiteRt.so.

The Python wheel has no profiler; the C functions are declared in litert/c of google-ai-edge/LiteRT.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from bench.device.session import Array
from bench.errors import Unavailable
from bench.records import LayerTime

CPU = 1  # kLiteRtHwAcceleratorCpu
WRITE = 1  # kLiteRtTensorBufferLockModeWrite
OPERATOR, DELEGATED = 2, 8  # OPERATOR_INVOKE_EVENT, DELEGATE_PROFILED_OPERATOR_INVOKE_EVENT
RANKED_TENSOR_TYPE_BYTES = 128  # room for LiteRtRankedTensorType, which is smaller
WARMUP = 10


class _Memory(ctypes.Structure):
    _fields_ = (("allocated", c_size_t), ("in_use", c_size_t), ("peak", c_size_t))


class _Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("begin", _Memory),
        ("end", _Memory),
        ("node", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    )


Deleter = ctypes.CFUNCTYPE(None, c_void_p)


class _Library:
    """libLiteRt.so: every call checked, everything created destroyed in reverse."""

    def __init__(self) -> None:
        import ai_edge_litert

        path = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise Unavailable(f"LiteRT's C library does not load: {error}") from error
        self._made: list[tuple[str, c_void_p]] = []
        self.kept: list[Any] = []

    def call(self, name: str, *arguments: Any) -> None:
        """Raises `Unavailable` when the function is missing or refuses."""
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise Unavailable(f"this version of LiteRT has no {name}") from error
        function.restype = c_int
        status = function(*arguments)
        if status:
            raise Unavailable(f"LiteRT's profiler: {name} answered {status}")

    def make(self, name: str, *arguments: Any, destroy: str = "") -> c_void_p:
        """An object that the last argument of `name` receives."""
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        if destroy:
            self._made.append((destroy, handle))
        return handle

    def close(self) -> None:
        """Destroys what was made, newest first."""
        while self._made:
            name, handle = self._made.pop()
            function = getattr(self._library, name)
            function.restype = None
            function(handle)


def profile(path: Path, feed: Mapping[str, Array], threads: int, runs: int) -> tuple[LayerTime, ...]:
    """Mean time of each operator over `runs` inferences, in order; one event is read to 1 us.

    `feed`: arrays as the file takes them, by argument name. Raises `Unavailable` when the wheel's
    library lacks the profiler.
    """
    library = _Library()
    try:
        return layers(_events(library, path, feed, threads, runs), runs)
    finally:
        library.close()


def layers(events: Sequence[_Event], runs: int) -> tuple[LayerTime, ...]:
    """Events of `runs` equal inferences, one after the other, to one row an operator."""
    timed = [event for event in events if event.kind in (OPERATOR, DELEGATED) and b"Delegate" not in event.tag]
    if not timed or len(timed) % runs:
        raise Unavailable(f"LiteRT's profiler lost events: {len(timed)} of {runs} equal inferences")
    width = len(timed) // runs
    return tuple(
        LayerTime(
            name=f"{place}:{first.tag.decode()}",
            operator=first.tag.decode(),
            mean_us=sum(event.elapsed_us for event in timed[place::width]) / runs,
            runs=runs,
            placed_on="xnnpack" if first.kind == DELEGATED else "cpu",
        )
        for place, first in enumerate(timed[:width])
    )


def _events(library: _Library, path: Path, feed: Mapping[str, Array], threads: int, runs: int) -> list[_Event]:
    environment = library.make("LiteRtCreateEnvironment", 0, None, destroy="LiteRtDestroyEnvironment")
    model = library.make("LiteRtCreateModelFromFile", environment, str(path).encode(), destroy="LiteRtDestroyModel")
    options = library.make("LiteRtCreateOptions", destroy="LiteRtDestroyOptions")
    library.call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
    _option(library, options, "runtime_options_string", "enable_profiling = true\n")
    _option(library, options, "xnnpack", f"num_threads = {threads}\n")
    compiled = library.make(
        "LiteRtCreateCompiledModel", environment, model, options, destroy="LiteRtDestroyCompiledModel"
    )
    profiler = library.make("LiteRtCompiledModelGetProfiler", compiled)
    run = _bind(library, environment, model, compiled, feed)
    for _ in range(WARMUP):
        run()
    library.call("LiteRtResetProfiler", profiler)
    library.call("LiteRtStartProfiler", profiler)
    for _ in range(runs):
        run()
    library.call("LiteRtStopProfiler", profiler)
    count = c_int()
    library.call("LiteRtGetNumProfilerEvents", profiler, byref(count))
    events = (_Event * count.value)()
    library.call("LiteRtGetProfilerEvents", profiler, count, events)
    return list(events)


def _option(library: _Library, options: c_void_p, kind: str, text: str) -> None:
    """A text of options of one kind; LiteRT keeps pointing at it."""
    buffer = ctypes.create_string_buffer(text.encode())
    nothing = Deleter(lambda _: None)
    library.kept.extend((buffer, nothing))
    option = library.make("LiteRtCreateOpaqueOptions", kind.encode(), ctypes.cast(buffer, c_void_p), nothing)
    library.call("LiteRtAddOpaqueOptions", options, option)


def _bind(
    library: _Library, environment: c_void_p, model: c_void_p, compiled: c_void_p, feed: Mapping[str, Array]
) -> Callable[[], None]:
    """One inference on buffers that hold the feed."""
    signature = library.make("LiteRtGetModelSignature", model, c_size_t(0))
    made = {end: _buffers(library, environment, signature, compiled, end) for end in ("Input", "Output")}
    for name, buffer in made["Input"].items():
        array = feed[name] if name in feed else next(iter(feed.values()))  # a file without signatures has its own name
        address = c_void_p()
        library.call("LiteRtLockTensorBuffer", buffer, byref(address), WRITE)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        library.call("LiteRtUnlockTensorBuffer", buffer)
    inputs, outputs = ((c_void_p * len(buffers))(*buffers.values()) for buffers in made.values())
    sizes = (c_size_t(len(made["Input"])), c_size_t(len(made["Output"])))

    def run() -> None:
        library.call("LiteRtRunCompiledModel", compiled, c_size_t(0), sizes[0], inputs, sizes[1], outputs)

    return run


def _buffers(
    library: _Library, environment: c_void_p, signature: c_void_p, compiled: c_void_p, end: str
) -> dict[str, c_void_p]:
    """A buffer for each input or output of the first signature, by argument name, in its order."""
    count = c_size_t()
    library.call(f"LiteRtGetNumSignature{end}s", signature, byref(count))
    made = {}
    for number in range(count.value):
        place = c_size_t(number)
        name = c_char_p()
        library.call(f"LiteRtGetSignature{end}Name", signature, place, byref(name))
        tensor = library.make(f"LiteRtGetSignature{end}TensorByIndex", signature, place)
        kind = ctypes.create_string_buffer(RANKED_TENSOR_TYPE_BYTES)
        library.call("LiteRtGetRankedTensorType", tensor, kind)
        wanted = library.make(f"LiteRtGetCompiledModel{end}BufferRequirements", compiled, c_size_t(0), place)
        made[(name.value or b"").decode()] = library.make(
            "LiteRtCreateManagedTensorBufferFromRequirements",
            environment,
            kind,
            wanted,
            destroy="LiteRtDestroyTensorBuffer",
        )
    return made
