"""An ONNX file to a float .tflite by onnx2tf, which lives in a folder of its own.

onnx2tf wants a newer Python than the runtimes' wheels exist for, and pins that clash with theirs. So
its packages are kept off the path of everything else; `python -m backends.tflite.from_onnx` gets them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends.tflite.graph import Tensor, describe, open_plain
from backends.tflite.layers import Converted, match_layers
from backends.tflite.served import run_forked
from bench.errors import Unavailable, Unsupported
from bench.types import TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGES = (
    "onnx2tf==2.6.9",
    "onnxsim==0.8.1",
    "onnxoptimizer==0.4.2",
    "sne4onnx==2.0.1",
    "sng4onnx==2.0.1",
    "opencv-python-headless==5.0.0.93",
    "h5py==3.16.0",
)
"""What onnx2tf imports beyond this environment, in versions that work together."""
INSTALL = "python -m backends.tflite.from_onnx"
TOLERANCE = 1e-3
Arrays = Sequence[NDArray[np.generic]]


def convert(source: Path, batch: int, out: Path, specs: Sequence[TensorSpec] = ()) -> Converted:
    """Writes `out` at a fixed batch, images channel-last; its outputs are compared with ONNX Runtime's.

    `specs`: what is known of its inputs; one that is not there has its batch first. Raises `Unavailable` (no onnx2tf, or no
    ONNX Runtime to check it by), `InvalidInput` (ONNX Runtime does not take the file), `Unsupported` (onnx2tf cannot convert it, or what it made computes something else).
    """
    packages = folder()
    _check_packages(packages)
    from backends.onnx_tools.native import ort  # here, so that a missing ONNX Runtime is the caller's error

    _open_reference(source)  # refuses it early; no session is open, with its threads, while onnx2tf runs in a fork
    from backends.onnx_tools.graph import read

    model = read(source)
    shapes, weights, nodes = _describe(model)
    with tempfile.TemporaryDirectory(prefix="onnx2tf-", dir=out.parent) as work:
        copy = Path(work) / "model.onnx"  # onnx2tf overwrites its input
        copy.write_bytes(_with_batch(model, source, specs, batch))
        _run(copy, batch, [name for name, rank in shapes.items() if rank != 4], packages)
        shutil.move(Path(work) / "made" / "model_float32.tflite", out)
    try:
        open_plain(out)
    except Unsupported as error:
        reason = str(error).removeprefix(f"{out.name}: ")
        raise Unsupported(
            f"onnx2tf left what LiteRT cannot run ({reason}); the network itself is not at fault, and the backend ort runs it"
        ) from error
    layout = _find_layout(source, _open_reference(source), out, specs)
    version = f"onnxruntime {ort.__version__}"
    return Converted(
        path=out, layers=match_layers(out, weights), layout=layout, other_names=nodes, checked_against=version
    )


def folder() -> Path:
    """Where onnx2tf's packages are: beside this environment's own, and not on its path."""
    return Path(sys.prefix) / "share" / "pressbench" / "onnx2tf"


def load() -> Callable[[], int | None]:
    """onnx2tf's command, which reads `sys.argv`. Its packages join the path of this process, which does nothing else."""
    if (packages := str(folder())) not in sys.path:
        sys.path.insert(0, packages)
    command: Callable[[], int | None] = import_module("onnx2tf.onnx2tf").main
    return command


def _check_packages(packages: Path) -> None:
    """Raises `Unavailable` unless every package is there in the version that this code was tried with."""
    found = {entry.name.lower().replace("_", "-"): entry.version for entry in distributions(path=[str(packages)])}
    missing = [pin for pin in PACKAGES if found.get(pin.partition("==")[0]) != pin.partition("==")[2]]
    if missing:
        raise Unavailable(f"converting an ONNX file to .tflite needs {missing[0]} in a folder of its own: {INSTALL}")


def _describe(model: ModelProto) -> tuple[dict[str, int], dict[str, NDArray[np.generic]], dict[str, str]]:
    """Rank of each input, the stored weights by name, and the layer of each node that has a weight."""
    from onnx import numpy_helper

    graph = model.graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    ranks = {item.name: len(item.type.tensor_type.shape.dim) for item in graph.input if item.name not in stored}
    nodes = {
        node.name: name.removesuffix(".weight")
        for node in graph.node
        for name in node.input[1:2]
        if node.name and name in stored
    }
    return ranks, stored, nodes


def _with_batch(model: ModelProto, source: Path, specs: Sequence[TensorSpec], batch: int) -> bytes:
    """The file with its free batch fixed. Where it is free, onnx2tf guards every padding against an empty batch: with ten
    operators, which take longer than the convolution behind them.

    As it is where another axis is free too, or the file has another batch. Takes weights off the model's list of inputs.
    """
    from backends.onnx_tools.graph import fix_batch, hide_weights

    hide_weights(model)
    try:
        content: bytes = fix_batch(model, batch, source, specs).SerializeToString()
    except Unsupported:
        return source.read_bytes()
    return content


def _run(copy: Path, batch: int, as_they_are: Sequence[str], packages: Path) -> None:
    made, log = copy.parent / "made", copy.parent / "onnx2tf.log"
    options = ["-i", str(copy), "-o", str(made), "-b", str(batch), "-n", "-osd"]
    if as_they_are:
        options += ["-kat", *as_they_are]

    def work() -> int:
        os.chdir(copy.parent)
        os.environ["PYTHONPATH"] = str(packages)  # of the programs that it starts
        sys.argv = ["onnx2tf", *options]
        return load()() or 0

    if run_forked(work, log) or not (made / "model_float32.tflite").exists():
        printed = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in printed if "rror" in line] or ["it said nothing of why"]
        raise Unsupported(f"onnx2tf cannot convert this network: {said[-1][:300]}")


def _find_layout(source: Path, session: Any, out: Path, specs: Sequence[TensorSpec]) -> str:
    """The layout of a file whose outputs agree with ONNX Runtime's on one seeded input. `specs`: as of `convert`.

    Raises `Unsupported` when they do not agree: a wrong conversion is worse than none.
    """
    interpreter = open_plain(out)
    graph = describe(interpreter)
    inputs = [graph.tensors[number] for number in graph.inputs]
    generator = np.random.default_rng(0)
    bounds = [*(spec.integers for spec in specs), *[None] * len(inputs)]
    feed = [_draw(generator, item, known) for item, known in zip(inputs, bounds, strict=False)]
    for number, array in zip(graph.inputs, feed, strict=True):
        interpreter.set_tensor(number, array)
    interpreter.invoke()
    found = [interpreter.get_tensor(number) for number in graph.outputs]
    names = [item.name for item in session.get_inputs()]
    named = {name: _put_channels_first(array) for name, array in zip(names, feed, strict=True)}
    with _blame_file(source):
        expected = session.run(None, named)
    return _agree(found, expected, turned=any(array.ndim == 4 for array in feed))


def _draw(generator: np.random.Generator, item: Tensor, bounds: tuple[int, int] | None) -> NDArray[np.generic]:
    """Floats of 0 to 1; whole numbers within their bounds, 0 or 1 where none are known."""
    if np.dtype(item.dtype).kind == "f":
        return generator.random(item.shape, dtype=np.float32).astype(item.dtype)
    low, high = bounds or (0, 1)
    return generator.integers(low, high + 1, item.shape).astype(item.dtype)


def _agree(found: Arrays, expected: Arrays, *, turned: bool) -> str:
    """Whether 4-D outputs are channel-last, as 4-D inputs are (`turned`: there are some). Raises `Unsupported` when no layout makes them equal."""
    if len(found) != len(expected):
        raise Unsupported(f"onnx2tf's file has {len(found)} outputs, the ONNX file {len(expected)}")
    for layout in ("channels_last" if turned else "model", "channels_last_io"):
        pairs = zip(
            (_put_channels_first(array) if layout == "channels_last_io" else array for array in found),
            expected,
            strict=True,
        )
        if all(one.shape == other.shape and _is_near(one, other) for one, other in pairs):
            return layout
    raise Unsupported("onnx2tf's file computes something else than the ONNX file does: it is not used")


def _is_near(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return bool(np.abs(a - b).max(initial=0) <= TOLERANCE * max(1e-6, float(np.abs(b).max(initial=0))))


def _put_channels_first(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Images with their channels first."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim == 4 else array


def _open_reference(source: Path) -> Any:
    """The ONNX file in ONNX Runtime. Raises `InvalidInput` for what it does not take."""
    from backends.onnx_tools.native import ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    with _blame_file(source):
        return ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


@contextmanager
def _blame_file(source: Path) -> Iterator[None]:
    """What ONNX Runtime raises is about this file."""
    from backends.onnx_tools.native import NATIVE_ERRORS, explain_refusal

    try:
        yield
    except NATIVE_ERRORS as error:
        raise explain_refusal(source.name, str(error)) from error


def main() -> int:
    """Installs onnx2tf's packages into `folder()`, whole or not at all."""
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".onnx2tf-", dir=target.parent) as work:
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--ignore-requires-python", "--no-compile", "--only-binary=:all:", "--target", f"{work}/new", *PACKAGES),
        ]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
            return Unavailable.exit_code
        if target.exists():
            target.rename(Path(work) / "old")
        (Path(work) / "new").rename(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
