"""Model and recipe to files: trains or takes the weights, applies the steps, exports, caches by content."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import cache as store
from bench.compress.calibration import calibration_file, pool
from bench.compress.coding.weights_file import FILE, plain_zeros, uncoded_bytes, weights_file
from bench.compress.export import export, layer_weights
from bench.compress.interface import Compressor, Context, Network, Quantizer
from bench.compress.layers import outside_layers
from bench.compress.prune.weights import sparsity
from bench.compress.quantize.fewbit import recounted, uncounted
from bench.compress.train.distill import source_files
from bench.compress.train.trained_cache import trained_once
from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import read_onnx
from bench.formats.onnx_inputs import fix_shape, input_specs
from bench.formats.tflite_file import tflite_inputs
from bench.models import train
from bench.models.train import trained
from bench.plugins import installed_version
from bench.types import Compressed, Json, Model, Progress, QuantSpec, Recipe, TensorSpec

PACKAGES = ("numpy", "onnx", "onnxscript", "scipy", "tensorly", "torch", "torch-pruning")
"""Whose other version may make other files."""

INLINED = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A network's files before quantization. `content`: digest of what they say."""

    files: Mapping[str, Path]
    inputs: tuple[TensorSpec, ...]
    content: str
    layers: tuple[str, ...]
    entropy_bytes: int | None
    notes: Mapping[str, Json]
    quant: QuantSpec | None


def compress(
    model: Model,
    recipe: Recipe,
    *,
    data: Dataset | None,
    cache: Path,
    seed: int,
    progress: Progress,
    data_asked: bool = False,
) -> Compressed:
    """The compressed model, from the cache where the same was made before.

    A torch network gives `onnx` and `pt2`, and where coding its weights gains anything, the coded ones
    beside them (`bench.compress.coding.weights_file`); `entropy_bytes` is their size. A model brought as a file
    gives that file, and takes only steps the runtime carries out itself. Recipes that differ only in
    those share their files. `data_asked`: a person asked for this data set, so one that does not fit is
    refused; a suite's own is left aside for a model brought as a file, which is calibrated on random inputs.

    Raises:
        Unsupported: a step that this network, or a model that is a file, cannot take; says why.
        InvalidInput: a damaged file, a layer name that matches nothing, training that diverged.
        Unavailable: the cache cannot be written.

    """
    steps = tuple(_checked(step) for step in recipe.steps)
    plain = tuple(step for step in steps if not isinstance(step, Quantizer))
    if model.file is not None:
        base = _from_file(model, plain, cache)
    else:
        base = _from_torch(model, plain, data=data, cache=cache, seed=seed, progress=progress)
    quant = next((step.spec() for step in steps if isinstance(step, Quantizer)), base.quant)
    notes = dict(base.notes)
    calibration = None
    if quant is not None:
        _check_names(quant, base.layers, model)
        notes["entropy"] = "the runtime quantizes the weights, and its file is not coded"
        if quant.kind == "static":
            calibration, notes["calibration"] = calibration_file(
                base.inputs, quant.samples, data, cache, seed, asked=data_asked
            )
    sample_digest = store.sha256(calibration) if calibration else ""
    return Compressed(
        model=model.name,
        recipe=recipe.name,
        files=base.files,
        inputs=base.inputs,
        digest=store.key(content=base.content, quant=asdict(quant) if quant else None, calibration=sample_digest),
        quant=quant,
        calibration=calibration,
        layers=base.layers,
        entropy_bytes=base.entropy_bytes if quant is None else None,
        notes=notes,
    )


def reference(model: Model, *, data: Dataset | None, cache: Path, seed: int, progress: Progress) -> nn.Module | None:
    """The trained uncompressed network every output is compared with; None for a model that is a file."""
    if model.file is not None:
        return None
    return trained(model, data, cache=cache, seed=seed, progress=progress)


def example_of(model: Model, data: Dataset | None, seed: int) -> Tensor:
    """A batch of two inputs: the first of the training set, or seeded N(0, 1)."""
    if data is not None:
        return torch.from_numpy(data.x_train[:2])
    return torch.randn(2, *model.input_shape, generator=torch.Generator().manual_seed(seed))


def _checked(step: object) -> Compressor:
    if not isinstance(step, Compressor):
        raise InvalidInput(f"{step!r} is no compressor; make recipes with bench.compress.recipe.parse_recipe")
    return step


def _from_file(model: Model, steps: tuple[Compressor, ...], cache: Path) -> Base:
    assert model.file is not None
    if steps:
        raise Unsupported(
            f"{steps[0]!r} changes a torch network, and {model.name} is a file: it can be measured as it is and "
            "quantized; give the network as package.module:function to compress it otherwise"
        )
    if model.file.suffix == ".tflite":
        inputs = tflite_inputs(model.file)
        if model.input_shape and [spec.shape[1:] for spec in inputs] != [model.input_shape]:
            there = ", ".join(str(spec.shape[1:]) for spec in inputs)
            raise InvalidInput(f"{model.file}: takes {there} without the batch, not {model.input_shape}")
        return _file_base("tflite", model.file, inputs, (), {})
    return _from_onnx(model.file, model.input_shape, cache)


def _from_onnx(source: Path, shape: tuple[int, ...], cache: Path) -> Base:
    """The file itself; a copy in the cache where external data is taken in or free axes are fixed to `shape`."""
    proto, taken_in = read_onnx(source)
    inputs, file, notes = input_specs(proto.graph, source), source, {}
    if taken_in:
        notes["external_data"] = f"{taken_in} tensors taken into the one file"
    if shape and fix_shape(proto, shape, source):
        inputs = input_specs(proto.graph, source)
        notes["input_shape"] = f"axes that the file leaves free are fixed: {shape} without the batch"
    if notes:
        content = proto.SerializeToString(deterministic=True)
        name = hashlib.sha256(content).hexdigest()[:32]
        file = store.find_or_make(cache, "inlined", name, partial(_write_inlined, content)).folder / INLINED
    return _file_base("onnx", file, inputs, tuple(layer_weights(proto.graph)), notes)


def _write_inlined(content: bytes, folder: Path) -> Mapping[str, Json]:
    (folder / INLINED).write_bytes(content)
    return {}


def _file_base(
    form: str, file: Path, inputs: tuple[TensorSpec, ...], layers: tuple[str, ...], notes: Mapping[str, Json]
) -> Base:
    return Base(
        files={form: file},
        inputs=inputs,
        content=store.sha256(file),
        layers=layers,
        entropy_bytes=None,
        notes={**notes, "entropy": "only torch networks' weights are coded"},
        quant=None,
    )


def _from_torch(
    model: Model, steps: tuple[Compressor, ...], *, data: Dataset | None, cache: Path, seed: int, progress: Progress
) -> Base:
    teacher = trained(model, data, cache=cache, seed=seed, progress=progress)
    example = example_of(model, data, seed)
    base = _identity(model, teacher, data, example, seed)

    def make(folder: Path) -> Mapping[str, Json]:
        context = Context(
            teacher=teacher,
            data=data,
            example=example,
            seed=seed,
            cache=cache,
            progress=progress,
            calibration=pool(data, seed),
        )
        network = apply_steps(Network(module=teacher), steps, context, model.name, base)
        progress(f"{model.name}: exporting", 0.9)
        plain_zeros(network.module, list(network.masks))
        exported = export(network.module, example)
        weights = weights_file(network)
        facts = {
            "entropy_bytes": len(weights),
            "layers": exported.layers,
            "fixed_batch": exported.fixed_batch,
            "notes": dict(network.notes),
            "quant": asdict(network.quant) if network.quant else None,
        }
        (folder / "model.onnx").write_bytes(exported.onnx)
        (folder / "model.pt2").write_bytes(exported.pt2)
        if len(weights) < uncoded_bytes(network):
            (folder / FILE).write_bytes(weights)
        return facts

    found = store.find_or_make(cache, "compressed", _name(base, steps), make)
    fixed_batch = found.facts["fixed_batch"]
    notes = dict(found.facts["notes"]) | ({"batch": f"fixed at 1: {fixed_batch}"} if fixed_batch else {})
    return Base(
        files={"onnx": found.folder / "model.onnx", "pt2": found.folder / "model.pt2"},
        inputs=(TensorSpec(name="input", shape=(1 if fixed_batch else -1, *example.shape[1:])),),
        content=found.digests["model.onnx"],
        layers=tuple(found.facts["layers"]),
        entropy_bytes=found.facts["entropy_bytes"],
        notes=notes,
        quant=_spec_from(found.facts["quant"]),
    )


def apply_steps(network: Network, steps: tuple[Compressor, ...], context: Context, label: str, base: Json) -> Network:
    """The steps in order; what they train is kept under `base`, all that `network` and `context` follow from.

    Raises `InvalidInput` naming the step that left NaN or infinite weights.
    """
    for position, step in enumerate(steps):
        context.progress(f"{label}: {step!r}", position / len(steps))
        before, network = network, uncounted(network)
        if step.trains:
            network = trained_once(step, network, context, _name(base, steps[: position + 1]))
        else:
            network = step.apply(network, context)
        network = recounted(network, before, step)
        if not all(bool(torch.isfinite(value).all()) for value in network.module.state_dict().values()):
            raise InvalidInput(f"{step!r} left weights that are NaN or infinite in {label}")
    notes = network.notes
    if "sparsity" in notes:  # the steps after the one that noted it took zeros away or made some
        notes = {**notes, "sparsity": sparsity(network.module)}
    if (network.masks or network.clusters) and (left := outside_layers(network.module)):
        notes = {**notes, "outside_layers": left}
    return replace(network, module=network.module.eval(), notes=notes)


def _name(base: Json, steps: tuple[Compressor, ...]) -> str:
    return store.key(base=base, steps=[repr(step) for step in steps], code=_code(steps))


def _identity(model: Model, module: nn.Module, data: Dataset | None, example: Tensor, seed: int) -> Json:
    """All the files follow from but the steps: structure, the sources of its factory and classes, weights, the
    input's shape, data, seed, versions."""
    state = hashlib.sha256()
    for name, value in module.state_dict().items():
        state.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        state.update(value.contiguous().numpy().tobytes())
    return {
        "structure": repr(module),
        "sources": _sources(type(part) for part in module.modules()),
        "factory": [store.sha256(file) for file in source_files(model.factory or "")],
        "weights": state.hexdigest(),
        "input": list(example.shape[1:]),
        "data": data.digest if data else "",
        "seed": seed,
        "versions": {name: installed_version(name) for name in PACKAGES},
    }


def _code(steps: tuple[Compressor, ...]) -> list[str]:
    """Digests of the code that compresses, and of that which builds networks, says how they train and trains
    them: a new version of it makes the files anew."""
    ours = sorted(store.sha256(file) for file in Path(__file__).parent.rglob("*.py"))
    models = sorted(store.sha256(file) for file in Path(train.__file__).parent.rglob("*.py"))
    theirs = [store.sha256(file) for step in steps for file in step.sources()]
    return ours + models + _sources(type(step) for step in steps) + theirs


def _sources(classes: Iterable[type]) -> list[str]:
    files = {inspect.getsourcefile(cls) for cls in classes if not cls.__module__.startswith("torch.")}
    return sorted(store.sha256(Path(file)) for file in files if file and Path(file).is_file())


def _spec_from(fields: dict[str, Json] | None) -> QuantSpec | None:
    if fields is None:
        return None
    ranges = tuple((str(name), float(low), float(high)) for name, low, high in fields["ranges"])
    return QuantSpec(**{**fields, "keep_float": tuple(fields["keep_float"]), "ranges": ranges})


def _check_names(quant: QuantSpec, layers: tuple[str, ...], model: Model) -> None:
    for name in quant.keep_float:
        if layers and name not in layers:
            near = get_close_matches(name, layers, n=3, cutoff=0.0)
            raise InvalidInput(f"keep_float={name!r}: {model.name} has no such layer; nearest: {', '.join(near)}")
