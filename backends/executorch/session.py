"""The device side of ExecuTorch: a .pte in its runtime, and which kernels really ran.

Travels to the device with `kernels.py`: standard library, numpy, torch and executorch, Python 3.10. The timed call is
`call` of the loaded method on tensors made before, without copying its outputs.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from backends.executorch import kernels
from bench.device.inputs import check_feed
from bench.device.precision import find_stayed_float
from bench.device.session import Array, Feed, Session, SessionFacts
from bench.errors import CellFailed, InvalidInput, Unavailable, Unsupported
from bench.records import Execution, LayerTime
from bench.types import FLOAT32, Clock, Precision, Scalar, TensorSpec

try:
    import torch
    from executorch.extension.pybindings import _C as runtime  # noqa: N811 - `portable_lib` imports the compiler too: 7 s
except ImportError as error:
    raise Unavailable(f"executorch cannot be imported: {error}; pip install executorch") from error

METHOD = "forward"
IDENTIFIER = b"ET"
"""Bytes 4 and 5 of a .pte; the version of its schema follows."""
CAUSES = (re.compile(r"Check failed \([^\n]*\): (?P<said>[^\n]+)"), re.compile(r"in operator (?P<said>[\w:.]+\w)"))
"""What ExecuTorch writes to standard error of a kernel that refuses its inputs: why, and which it is."""
NO_TRACE = "this build of ExecuTorch keeps no trace (ETDump)"


@final
class ExecutorchSession(Session):
    """The method `forward` of a .pte, on XNNPACK where the file was lowered to it.

    Options: `inputs`, JSON of the compiler: name, shape and type of each. The number of threads is the runtime's one
    pool, which all its models of a process share.
    """

    clock: ClassVar[Clock] = Clock.HOST

    def __init__(
        self, path: Path, method: Any, threads: int, inputs: tuple[TensorSpec, ...], precision: Precision
    ) -> None:
        self._path = path
        self._method = method
        self._threads = threads
        self._inputs = inputs
        self._precision = precision

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> ExecutorchSession:
        """Raises `InvalidInput` for a damaged file, `Unsupported` for an operator or a delegate that is not built in."""
        del batch  # the file is fixed to one
        if runtime._threadpool_get_thread_count() != threads:  # noqa: SLF001 - its only name
            runtime._unsafe_reset_threadpool(threads)  # noqa: SLF001 - its only name
        with path.open("rb") as file:
            if file.read(8)[4:6] != IDENTIFIER:
                raise InvalidInput(f"{path.name}: this is not a .pte file (it does not carry the identifier ET)")
        try:
            verification = runtime.Verification.InternalConsistency
            program = runtime._load_program(str(path), program_verification=verification)  # noqa: SLF001
        except RuntimeError as error:
            raise InvalidInput(f"{path.name}: ExecuTorch cannot read this file: {error}") from error
        try:
            method = program.load_method(METHOD)
        except RuntimeError as error:
            raise Unsupported(
                f"{path.name}: needs an operator or a delegate that this build of ExecuTorch does not have: {error}"
            ) from error
        described = json.loads(str(options.get("inputs", "[]")))
        inputs = tuple(TensorSpec(name=name, shape=tuple(shape), dtype=dtype) for name, shape, dtype in described)
        return cls(path, method, threads, inputs or _read_inputs(path, method), precision)

    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the compiler names them."""
        return self._inputs

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """New arrays every time. Raises `CellFailed` when the runtime does, with the operator that it names."""
        try:
            found = self._method.call(self._tensors(feed), clone_outputs=True)
        except RuntimeError as error:
            said = hear(partial(self._method.call, self._tensors(feed))) or str(error)
            raise CellFailed(f"{self._path.name}: ExecuTorch failed while running it: {said}") from error
        return tuple(np.array(value.numpy() if isinstance(value, torch.Tensor) else value) for value in found)

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Copies the inputs into tensors; the call sets them and executes."""
        return partial(self._method.call, self._tensors(feed), clone_outputs=False)

    def facts(self) -> SessionFacts:
        """Kernels by one traced inference of a second copy of the model."""
        feed = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self._inputs}
        fallbacks = [*find_stayed_float(self._precision)]
        threads = int(runtime._threadpool_get_thread_count())  # noqa: SLF001 - its only name
        if threads != self._threads:
            fallbacks.append(f"asked for {self._threads} threads, ExecuTorch's pool has {threads}")
        execution = Execution(library="XNNPACK")
        try:
            steps, partitions = self._trace(feed, 1)
        except Unavailable:
            fallbacks.append(f"{NO_TRACE}: it is unknown which kernels ran")
        else:
            execution = Execution(
                library="XNNPACK" if partitions else "ExecuTorch portable",
                kernels=dict(sorted(Counter(step.kind for step in steps).items())),
                multiplying=dict(sorted(Counter(step.type for step in steps if step.type).items())),
                delegated=sum(step.delegated for step in steps),
                partitions=partitions,
                not_delegated=dict(sorted(Counter(step.kind for step in steps if not step.delegated).items())),
            )
            fallbacks += kernels.find_fallbacks(steps, self._precision)
        return SessionFacts(version=version("executorch"), fallbacks=tuple(fallbacks), execution=execution)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """By ETDump, to 1 us, after one inference to warm up. Raises `Unavailable` where the runtime has none."""
        return kernels.layer_times(self._trace(feed, runs + 1)[0], runs)

    def close(self) -> None:
        """Drops the method."""
        self._method = None

    def _tensors(self, feed: Feed) -> list[Any]:
        checked = check_feed(self._path.name, self._inputs, feed)
        return [torch.from_numpy(np.array(checked[spec.name])) for spec in self._inputs]

    def _trace(self, feed: Feed, runs: int) -> tuple[tuple[kernels.Step, ...], int]:
        module = runtime._load_for_executorch(str(self._path), enable_etdump=True)  # noqa: SLF001 - its only name
        if not module.has_etdump():
            raise Unavailable(f"no layer times: {NO_TRACE}")
        tensors = self._tensors(feed)
        for _ in range(runs):
            module.run_method(METHOD, tensors)
        with tempfile.TemporaryDirectory(prefix="etdump-", dir=Path.cwd()) as folder:  # the job's own, removed with it
            path = Path(folder) / "trace.etdump"
            module.write_etdump_result_to_file(str(path))
            return kernels.read_steps(path)


def _read_inputs(path: Path, method: Any) -> tuple[TensorSpec, ...]:
    """Of a file that no compiler here described: names by position."""
    meta = method.method_meta()
    kinds = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float32", 7: "float64", 11: "bool"}
    specs = []
    for place in range(meta.num_inputs()):
        tensor = meta.input_tensor_meta(place)
        if tensor.dtype() not in kinds:
            raise Unsupported(f"{path.name}: input {place} is of a type that numpy does not carry")
        specs.append(TensorSpec(name=f"input_{place}", shape=tuple(tensor.sizes()), dtype=kinds[tensor.dtype()]))
    return tuple(specs)


def hear(failing: Callable[[], object]) -> str:
    """What the runtime writes to standard error while a call fails: the operator and why; "" where it says neither."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            with suppress(RuntimeError):
                failing()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        text = file.read().decode("utf-8", "replace")
    return ": ".join(found["said"].strip() for cause in reversed(CAUSES) if (found := cause.search(text)))
