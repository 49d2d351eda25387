"""What a converting process does: reads a request, writes a .tflite and a reply."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from backends.tflite.layers import INPUTS_TURNED, Converted
from bench.errors import InvalidInput, PressbenchError
from bench.types import Precision, QuantSpec, TensorSpec


def convert(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Does what `backends.tflite.convert` asked; returns `precision`, `layout` and `facts`."""
    from backends.tflite import graph

    source, final = Path(request["source"]), folder / "model.tflite"
    spec = QuantSpec.read(request["quant"]) if request["quant"] else None
    stage = final if spec is None else folder / "float.tflite"
    if request["format"] in ("pt2", "onnx"):
        found = run_converter(request, source, stage)
    else:
        own = graph.read(source)
        content = source.read_bytes()
        if spec is not None:
            from backends.tflite.quantize import complete

            graph.refuse_quantized(own, source.name)
            content = complete(content)
        found = Converted(path=stage, layers={}, layout=find_layout(own, request))
        stage.write_bytes(content)
    facts: dict[str, Any] = {"checked_against": found.checked_against} if found.checked_against else {}
    if spec is None:
        precision = graph.read_precision(graph.read(final))
    else:
        precision, done = quantize_file(request, spec, found, final)
        facts |= done
        stage.unlink()
    written = graph.read(final)
    facts["operators"] = count_kinds([operator.kind for operator in written.operators])
    facts["inputs"] = [asdict(written.tensors[number]) for number in written.inputs]
    facts["outputs"] = [asdict(written.tensors[number]) for number in written.outputs]
    return {"precision": asdict(precision), "layout": found.layout, "facts": facts}


def run_converter(request: dict[str, Any], source: Path, out: Path) -> Converted:
    """Converts with the converter of this format; each is imported only when it is needed."""
    places = zip(request["names"], request["inputs"], request["axes"], request["integers"], strict=True)
    specs = [
        TensorSpec(name=name, shape=tuple(shape), batch_axis=axis, integers=tuple(bounds) if bounds else None)
        for name, shape, axis, bounds in places
    ]
    if request["format"] == "onnx":
        from backends.tflite import from_onnx

        return from_onnx.convert(source, request["batch"], out, specs)
    from backends.tflite import network

    return network.convert(source, request["batch"], out, specs)


def quantize_file(
    request: dict[str, Any], spec: QuantSpec, float_file: Converted, final: Path
) -> tuple[Precision, dict[str, Any]]:
    """Calibrates where the recipe needs it, and quantizes."""
    from backends.tflite import calibrate, quantize

    quantize.check(spec)
    quantize.find_kept(float_file, spec.keep_float)  # a wrong name is an error before minutes of calibration
    ranges = {}
    if spec.kind == "static":
        samples = load_samples(request["calibration"], request["names"], spec.samples, float_file.layout)
        places = {name: place for place, name in enumerate(request["names"])}
        fed = calibrate.Fed(
            arrays=samples,
            batch=request["batch"],
            axes=request["axes"],
            feedback=[(output, places[name]) for output, name in request["feedback"]],
        )
        ranges = calibrate.ranges(float_file.path, fed, spec)
    return quantize.quantize(float_file, final, spec, ranges, float_io=request["float_io"])


def load_samples(
    file: str | None, names: list[str], limit: int, layout: str
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Calibration samples, at most `limit`, for each input in its order, in the file's layout.

    `file`: an .npz keyed by the names of the source's inputs.
    """
    if file is None:
        raise InvalidInput("full int8 needs calibration samples: give the model a data set, or use dynamic int8")
    with np.load(file, allow_pickle=False) as loaded:
        missing = [name for name in names if name not in loaded.files]
        if missing:
            raise InvalidInput(f"{Path(file).name}: no calibration samples for input {missing[0]!r}")
        arrays = [loaded[name][:limit] for name in names]
    turned = layout in INPUTS_TURNED
    return [np.moveaxis(array, 1, -1) if turned and array.ndim == 4 else array for array in arrays]


def find_layout(found: Any, request: dict[str, Any]) -> str:
    """Whether the caller's images (channels first) are this file's, or need turning. Raises `InvalidInput`."""
    own = [found.tensors[number].shape for number in found.inputs]
    wanted = [tuple(shape) for shape in request["inputs"]]
    places = zip(own, request["axes"] or [0] * len(own), strict=False)
    batches = [shape[axis] for shape, axis in places if shape and axis is not None]
    if any(size != request["batch"] for size in batches):
        raise InvalidInput(f"this .tflite has its batch fixed at {batches[0]}, batch {request['batch']} was asked")
    if not wanted or wanted == own:
        return "model"
    if wanted == [(shape[0], shape[-1], *shape[1:-1]) if len(shape) == 4 else shape for shape in own]:
        return "channels_last"
    raise InvalidInput(f"the .tflite takes inputs of shape {own}, the model was declared with {wanted}")


def count_kinds(kinds: list[str]) -> dict[str, int]:
    """How many of each."""
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def load(kind: str) -> None:
    """Imports what the conversion of this format needs, for all that follow. Raises `ImportError`."""
    if kind == "pt2":
        from backends.tflite import network  # noqa: F401
    elif kind == "onnx":
        from backends.tflite import from_onnx

        from_onnx.load()
    from backends.tflite import calibrate, quantize  # noqa: F401


def main(path: Path) -> int:
    """Writes `reply.json` beside the request: what `convert` returns, or the error to raise."""
    warnings.simplefilter("ignore")
    try:
        reply = convert(json.loads(path.read_text(encoding="utf-8")), path.parent)
    except PressbenchError as error:
        reply = {"error": type(error).__name__, "message": str(error)}
    except ImportError as error:
        reply = {"error": "Unavailable", "message": f"{error}; pip install 'pressbench[litert]'"}
    (path.parent / "reply.json").write_text(json.dumps(reply), encoding="utf-8")
    return 0
