"""The inputs and outputs of a model file, with what the user says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from bench.errors import InvalidInput, Unsupported, unknown
from bench.formats import tflite_inputs
from bench.formats.declared import Declared, describe
from bench.formats.onnx_file import load_onnx
from bench.formats.onnx_inputs import declared_inputs, declared_outputs, fix_sizes
from bench.formats.tflite_file import Graph, Signature, read_tflite
from bench.inputs.axes import Settled, find_output_axis, settle
from bench.types import AskedInput, Model, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInputs:
    """`specs`: the inputs, every size fixed but the batch. `outputs`: batch axis of those whose axis the file says.

    `changed`: the file itself does not say what `specs` says. `signature`: the chosen one of several, else "".
    """

    specs: tuple[TensorSpec, ...]
    outputs: Mapping[str, int | None]
    changed: bool
    signature: str = ""


def read_inputs(model: Model) -> FileInputs:
    """Of a model that is a file, which stays as it is. Raises as `settle_onnx` and `settle_tflite`."""
    assert model.file is not None
    if model.file.suffix == ".tflite":
        return settle_tflite(model.file, model, 1)
    return settle_onnx(load_onnx(model.file), model, model.brought or model.file)


def find_batch(model: Model) -> int:
    """The batch that a file is fixed to, 1 for any other model. Raises as `read_inputs`."""
    specs = read_inputs(model).specs if model.file else ()
    return next((spec.shape[spec.axis] for spec in specs if spec.axis is not None and spec.shape[spec.axis] > 0), 1)


def find_baked_batch(specs: Sequence[TensorSpec], free: int) -> int | None:
    """The batch in the sizes of a file whose free batch became `free`; None where all inputs have their batch first.

    Then its first axes say it themselves.
    """
    axes = {spec.axis for spec in specs}
    if axes <= {0} or axes == {None}:
        return None
    return next(spec.at(free)[spec.axis] for spec in specs if spec.axis is not None)


def settle_onnx(proto: ModelProto, model: Model, file: Path) -> FileInputs:
    """Of an ONNX file, whose free sizes are fixed in place.

    Raises as `declared_inputs`, `settle` and `asked_of`, and `InvalidInput` for a signature.
    """
    if model.signature:
        raise InvalidInput(f"{file}: --signature chooses one of a .tflite file; an .onnx file has none: leave it out")
    declared = declared_inputs(proto, file)
    settled = settle(declared, asked_of(model, declared, file), file)
    outputs = declared_outputs(proto.graph)
    known = find_outputs(outputs, declared, settled)
    check_feedback(model.feedback, [value.name for value in proto.graph.output], declared, file)
    return FileInputs(specs=settled.specs, outputs=known, changed=fix_sizes(proto, settled.specs, settled.sizes))


def settle_tflite(file: Path, model: Model, batch: int) -> FileInputs:
    """Of a .tflite file, whose free batch becomes `batch`. Raises as `declared_inputs`, `settle` and `asked_of`.

    Raises `Unsupported` for several signatures of which none is chosen.
    """
    graph = read_tflite(file)
    chosen = choose_signature(graph, model.signature, file)
    if chosen is not None and chosen.graph:
        graph = read_tflite(file, chosen.graph)
    declared = tflite_inputs.declared_inputs(graph, file)
    settled = settle(declared, asked_of(model, declared, file), file)
    outputs = tflite_inputs.declared_outputs(graph)
    check_feedback(model.feedback, [item.name for item in outputs], declared, file)
    specs = tuple(replace(spec, shape=spec.at(batch)) for spec in settled.specs)
    several = chosen is not None and len(graph.signatures) > 1
    stored = [graph.tensors[number].dims for number in graph.inputs]
    return FileInputs(
        specs=specs,
        outputs=find_outputs(outputs, declared, settled),
        changed=several or stored != [spec.shape for spec in specs],
        signature=chosen.name if several and chosen else "",
    )


def choose_signature(graph: Graph, name: str, file: Path) -> Signature | None:
    """The signature that is asked for, or the only one; None for a file without. Raises as `settle_tflite`."""
    known = {item.name: item for item in graph.signatures}
    if name:
        if name not in known:
            raise unknown(f"signature of {file.name}", name, known)
        return known[name]
    if len({item.graph for item in graph.signatures}) > 1:
        raise Unsupported(
            f"{file}: it has the signatures {', '.join(known)}, each a network of its own: choose one with "
            f"--signature {next(iter(known))}"
        )
    return next(iter(graph.signatures), None)


def show_specs(specs: Sequence[TensorSpec]) -> str:
    """Names, sizes and types, as `--input` takes them."""
    return "; ".join(
        f"{spec.name}={','.join('N' if place == spec.axis else str(size) for place, size in enumerate(spec.shape))}"
        for spec in specs
    )


def find_outputs(outputs: Sequence[Declared], inputs: Sequence[Declared], settled: Settled) -> dict[str, int | None]:
    """Output -> batch axis, for those where the file says it."""
    found = {}
    for output in outputs:
        known, axis = find_output_axis(output, inputs, settled)
        if known:
            found[output.name] = axis
    return found


def asked_of(model: Model, declared: Sequence[Declared], file: Path) -> tuple[AskedInput, ...]:
    """What the user says of the inputs; `input_shape` is short for one input whose first axis is the batch.

    Raises `InvalidInput` for an `input_shape` and several inputs.
    """
    if not model.input_shape or model.inputs:
        return model.inputs
    if len(declared) > 1:
        raise InvalidInput(
            f"{file}: --input-shape is for one input, there are {', '.join(item.name for item in declared)}: give "
            f"--input for each that has free sizes, as {_show(declared[0])}"
        )
    (only,) = declared
    given = AskedInput(name=only.name, sizes=(None, *model.input_shape))
    fixed = zip(only.dims[1:], model.input_shape, strict=False)
    if len(only.dims) != len(given.sizes) or any(isinstance(dim, int) and dim != size for dim, size in fixed):
        raise InvalidInput(
            f"{file}: input {only.name!r} has shape ({describe(only.dims[1:])}) without the batch, not "
            f"{model.input_shape}"
        )
    return (given,)


def _show(item: Declared) -> str:
    sizes = ("N" if not place else str(dim) if isinstance(dim, int) else "SIZE" for place, dim in enumerate(item.dims))
    return f"--input {item.name}={','.join(sizes)}"


def check_feedback(
    feedback: Sequence[tuple[str, str]], outputs: Sequence[str], inputs: Sequence[Declared], file: Path
) -> None:
    """Raises `InvalidInput` for a name that is not there, or an input of another type than numbers."""
    for output, name in feedback:
        if output not in outputs:
            raise unknown(f"output of {file.name} in --feedback", output, outputs)
        if name not in {item.name for item in inputs}:
            raise unknown(f"input of {file.name} in --feedback", name, [item.name for item in inputs])
