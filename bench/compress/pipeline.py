"""From a model and a recipe to files: builds the network, applies the steps, exports, caches by content.

It knows no particular step. What it must know of one, the step declares (`bench.compress.interface.Compressor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor, nn

from bench.cache import find_or_make, key, sha256
from bench.compress import notes
from bench.compress.cache_key import identity, key_of
from bench.compress.calibration import CALIBRATED, FROM_DATA, NO_SAMPLES, CalibrateOn, misfit, pool, write_samples
from bench.compress.coding.weights_file import FILE, plain_zeros, uncoded_bytes, weights_file
from bench.compress.export import PLAIN_ENDS, Ends, export
from bench.compress.fold_weights import fold_weights
from bench.compress.interface import Compressor, Context, Network, Quantizer
from bench.compress.layers import outside_layers
from bench.compress.model_files import Base, base_from_file
from bench.compress.outputs import outputs_of
from bench.compress.trained_cache import apply_or_load
from bench.data.datasets import Dataset
from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import load_onnx
from bench.formats.qonnx import FORM, REMEDY
from bench.formats.quantized import refuse_unquantizable
from bench.inputs.of_file import settle_onnx
from bench.models.calls import distinct_names, input_names, output_names
from bench.models.copies import set_eval
from bench.models.example import draw, draw_like
from bench.models.factory import build
from bench.models.finite import find_broken
from bench.models.from_onnx.load import load_network
from bench.models.tensors import Inputs, as_tensors
from bench.models.training.trained_networks import train_or_load
from bench.own_code import users_code
from bench.types import Compressed, Json, Model, Progress, QuantSpec, Recipe

ONNX, PT2 = "model.onnx", "model.pt2"
"""Names of the files in the cache."""


def compress(
    model: Model,
    recipe: Recipe,
    *,
    data: Dataset | None,
    cache: Path,
    seed: int,
    progress: Progress,
    data_asked: bool = False,
    calibrate: CalibrateOn = FROM_DATA,
    batch: int = 1,
) -> Compressed:
    """The compressed model, from the cache where the same one was made before.

    A torch network becomes an `onnx` and a `pt2` file, with its coded weights where that saves bytes. So does an .onnx
    file, if the recipe has steps of ours. Any other file stays as it is. `data_asked`: the user named this data set, so
    steps of ours refuse a file that it does not fit. `calibrate`: where a static quantization has its ranges from; `qat`,
    `mixed_int8` and `mixed_fixed` always use the training set. `batch`: what a free batch axis of a .tflite file becomes.

    Raises `Unsupported` for a step that this network cannot take, or nothing to calibrate on; `InvalidInput` for a damaged
    file, a layer name that matches nothing, training that diverged; `Unavailable` where the cache cannot be written.
    """
    steps = tuple(_checked(step) for step in recipe.steps)
    plain = tuple(step for step in steps if not isinstance(step, Quantizer))
    base = _make_base(model, plain, data, cache=cache, seed=seed, progress=progress, data_asked=data_asked, batch=batch)
    asked = next((step.spec() for step in steps if isinstance(step, Quantizer)), None)
    quant = asked or base.quant
    found, samples = dict(base.notes), NO_SAMPLES
    if quant is not None:
        _check_quant(quant, base, model)
        found[notes.ENTROPY] = "the runtime quantizes the weights, and its file is not coded"
    if quant is not None and quant.kind in CALIBRATED:
        on, state = calibrate if asked else FROM_DATA, [name for _, name in model.feedback]
        samples = write_samples(base.inputs, quant.samples, data, on, cache=cache, seed=seed, state=state)
    return Compressed(
        model=model.name,
        recipe=recipe.name,
        files=base.files,
        inputs=base.inputs,
        outputs=base.outputs,
        feedback=model.feedback,
        digest=_digest(base, quant, samples.file, model),
        quant=quant,
        calibration=samples.file,
        calibrated_on=samples.source,
        distrust=samples.distrust,
        layers=base.layers,
        entropy_bytes=base.entropy_bytes if quant is None else None,
        notes={**found, **samples.notes},
    )


def _make_base(
    model: Model,
    steps: tuple[Compressor, ...],
    data: Dataset | None,
    *,
    cache: Path,
    seed: int,
    progress: Progress,
    data_asked: bool,
    batch: int,
) -> Base:
    """What our own steps make of the model: the file itself where there are none to apply, or where none can be."""
    if model.file is not None and (not steps or model.file.suffix != ".onnx"):
        return base_from_file(model, steps, cache, batch)
    start = _start(model, data, cache=cache, seed=seed, progress=progress, data_asked=data_asked)
    return _from_torch(model, start, steps, cache=cache, seed=seed, progress=progress)


def reference(model: Model, *, data: Dataset | None, cache: Path, seed: int, progress: Progress) -> nn.Module | None:
    """The trained uncompressed network that every output is compared with; None for a model that is a file."""
    if model.file is not None:
        return None
    return train_or_load(model, data, cache=cache, seed=seed, progress=progress)


def open_network(
    model: Model,
    *,
    data: Dataset | None,
    cache: Path,
    seed: int,
    progress: Progress,
    data_asked: bool = False,
    steps: tuple[Compressor, ...] = (),
    trained: bool = True,
) -> tuple[Network, Context]:
    """The uncompressed network, or what `steps` make of it, and what further steps may use on it. `trained`: False for a look at
    its layers only.

    Raises `Unsupported` for a file that is not .onnx or cannot become a torch network.
    """
    if model.file is not None and model.file.suffix != ".onnx":
        raise Unsupported(
            f"{model.name}: a {model.file.suffix} file is compressed as it is: bring the network or .onnx"
        )
    start = _start(model, data, cache=cache, seed=seed, progress=progress, data_asked=data_asked, trained=trained)
    context = replace(_context(start, seed, cache, progress), calibration=pool(start.data, seed))
    network = Network(module=start.network, masks=start.masks)
    if steps:
        network = apply_steps(network, steps, context, model.name, _identity(model, start, seed))
    return network, context


def example_of(model: Model, data: Dataset | None, seed: int, module: nn.Module) -> Inputs:
    """A batch of two samples: the first of the training set, or seeded ones as `bench.models.example.draw` gives them."""
    if data is not None:
        return as_tensors(data.train.inputs(slice(0, 2)))
    return draw(model, module, seed)


def apply_steps(network: Network, steps: tuple[Compressor, ...], context: Context, label: str, base: Json) -> Network:
    """Applies the steps in order. What they train is cached under `base`, the `identity` of network and context.

    Raises `InvalidInput` naming the step that made weights NaN or infinite.
    """
    for position, step in enumerate(steps):
        context.progress(f"{label}: {step!r}", position / len(steps))
        before = network
        if step.trains:
            network = apply_or_load(step, before, context, key_of(base, steps[: position + 1], context))
        else:
            network = step.apply(before, context)
        for earlier in steps[:position]:
            network = replace(network, notes=earlier.renew_notes(before, network, step))
        if broken := find_broken(network.module, before.module, trained=step.trains):
            raise InvalidInput(f"{step!r} left weights that are NaN or infinite in {label}: {broken}")
    found = network.notes
    if (network.masks or network.clusters) and (left := outside_layers(network.module)):
        found = {**found, notes.OUTSIDE_LAYERS: left}
    return replace(network, module=set_eval(network.module), notes=found)


def _checked(step: object) -> Compressor:
    if not isinstance(step, Compressor):
        raise InvalidInput(f"{step!r} is not a compressor; make recipes with bench.compress.recipe.parse_recipe")
    return step


def _digest(base: Base, quant: QuantSpec | None, calibration: Path | None, model: Model) -> str:
    samples = sha256(calibration) if calibration else ""
    axes = [spec.axis for spec in base.inputs]
    feedback = model.feedback if calibration else ()
    return key(
        content=base.content, quant=asdict(quant) if quant else None, calibration=samples, axes=axes, feedback=feedback
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the steps begin with. `data`: None where the network does not fit the data set. `masks`: as in `Network`.

    `content`: as in `FileNetwork`, "" for a network that no file was made into.
    """

    network: nn.Module
    example: Inputs
    data: Dataset | None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    ends: Ends = PLAIN_ENDS
    notes: Mapping[str, Json] = field(default_factory=dict)
    content: str = ""


def _start(
    model: Model,
    data: Dataset | None,
    *,
    cache: Path,
    seed: int,
    progress: Progress,
    data_asked: bool,
    trained: bool = True,
) -> Start:
    if model.file is not None:
        return _start_from_file(model.file, model, data, seed, data_asked=data_asked)
    network = train_or_load(model, data, cache=cache, seed=seed, progress=progress) if trained else build(model, seed)
    example = example_of(model, data, seed, network)
    fed = "drawn inputs (--dataset names others, --input their type)" if data is None else f"samples of {data.name}"
    with users_code(f"{model.name} runs on zeros, but not on {fed}:"):
        count = len(outputs_of(network, example))
    masks = fold_weights(network, example)
    axes = tuple(item.axis for item in model.inputs) or (0,) * len(example)
    inputs = input_names(network, len(example))
    outputs = output_names(network, count)
    taken = {*inputs, *network.state_dict()}
    ends = Ends(inputs=inputs, outputs=distinct_names(outputs, taken), axes=axes)
    return Start(network=network, example=example, data=data, masks=masks, ends=ends)


def _start_from_file(file: Path, model: Model, data: Dataset | None, seed: int, *, data_asked: bool) -> Start:
    """Raises `Unsupported` as `load_network`, and if the user named a data set that the network does not fit."""
    found = load_network(file, model)
    unfit = misfit(found.inputs, data)
    if unfit and data is not None and data_asked:
        raise Unsupported(f"data set {data.name}: {unfit}; name one that fits, or none")
    fitting = None if unfit else data
    example = draw_like(found.inputs, seed) if fitting is None else example_of(model, fitting, seed, found.module)
    return Start(
        network=found.module,
        example=example,
        data=fitting,
        ends=Ends(
            inputs=tuple(spec.name for spec in found.inputs), outputs=found.outputs, axes=(0,) * len(found.inputs)
        ),
        notes={notes.CONVERTED: "the file became a torch network of equal outputs and was written again by torch"},
        content=found.content,
    )


def _context(start: Start, seed: int, cache: Path, progress: Progress) -> Context:
    """What the steps may use, but for the samples to calibrate on."""
    return Context(
        teacher=start.network,
        data=start.data and start.data.to_train_with,
        example=start.example,
        seed=seed,
        cache=cache,
        progress=progress,
    )


def _identity(model: Model, start: Start, seed: int) -> Json:
    masked = tuple(sorted(start.masks))
    return identity(model, start.network, start.data, start.example, seed, content=start.content, masked=masked)


def _from_torch(
    model: Model, start: Start, steps: tuple[Compressor, ...], *, cache: Path, seed: int, progress: Progress
) -> Base:
    base = _identity(model, start, seed)
    context = _context(start, seed, cache, progress)

    def make(folder: Path) -> Mapping[str, Json]:
        ready = replace(context, calibration=pool(start.data, seed))
        network = apply_steps(Network(module=start.network, masks=start.masks), steps, ready, model.name, base)
        progress(f"{model.name}: exporting", 0.9)
        return _write_files(network, start, folder)

    found = find_or_make(cache, "compressed", key_of([base, asdict(start.ends)], steps, context), make, progress)
    fixed_batch = found.facts["fixed_batch"]
    said = {
        **start.notes,
        **found.facts["notes"],
        **({notes.BATCH: f"fixed at 1: {fixed_batch}"} if fixed_batch else {}),
    }
    ends = settle_onnx(load_onnx(found.folder / ONNX), Model(name=model.name), found.folder / ONNX)
    return Base(
        files={"onnx": found.folder / ONNX, "pt2": found.folder / PT2},
        inputs=ends.specs,
        outputs=ends.outputs,
        content=found.digests[ONNX],
        layers=tuple(found.facts["layers"]),
        entropy_bytes=found.facts["entropy_bytes"],
        notes=said,
        quant=QuantSpec.read(quant) if (quant := found.facts["quant"]) else None,
    )


def _write_files(network: Network, start: Start, folder: Path) -> Mapping[str, Json]:
    """Writes a network's files into an entry of the cache; returns the facts to keep with them."""
    plain_zeros(network.module, list(network.masks))
    exported = export(network.module, start.example, start.ends)
    weights = weights_file(network)
    (folder / ONNX).write_bytes(exported.onnx)
    (folder / PT2).write_bytes(exported.pt2)
    if len(weights) < uncoded_bytes(network):
        (folder / FILE).write_bytes(weights)
    return {
        "entropy_bytes": len(weights),
        "layers": exported.layers,
        "fixed_batch": exported.fixed_batch,
        "notes": dict(network.notes),
        "quant": asdict(network.quant) if network.quant else None,
    }


def _check_quant(quant: QuantSpec, base: Base, model: Model) -> None:
    """Of a network. In a user's file nodes have names too, which the backend that compiles it checks.

    Raises `Unsupported` for a file that no quantizer takes, before inputs to calibrate on are asked for.
    """
    if FORM in base.files:
        raise Unsupported(f"{model.name} is a QONNX file, quantized already: measure it without a recipe; {REMEDY}")
    if quant.kind in CALIBRATED and model.file is not None and model.file.suffix in {".onnx", ".tflite"}:
        refuse_unquantizable(model.file)
    for name in quant.keep_float:
        if model.file is None and base.layers and name not in base.layers:
            near = get_close_matches(name, base.layers, n=3, cutoff=0.0)
            raise InvalidInput(f"keep_float={name!r}: {model.name} has no such layer; nearest: {', '.join(near)}")
