"""From a compressed network to a checked design with its figures: every simulation must agree to the bit."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from backends.hls import csim, synthesis, verilate
from backends.hls.bounds import Bound, bound_layers, count_multiplications
from backends.hls.csim import DESIGN
from backends.hls.design import Array, Design, save
from backends.hls.evaluate import evaluate
from backends.hls.options import Options
from backends.hls.ranges import Typed, assign
from backends.hls.reading.execution import read_checked
from backends.hls.reading.plain import read_design
from backends.hls.tool import OutOfReach, ask
from backends.onnx_tools.calibrate import float_session, load_calibration
from backends.onnx_tools.deploy import read_source
from backends.onnx_tools.graph import fix_batch, hide_weights, name_nodes, read
from backends.onnx_tools.ready import prepare
from bench.errors import CellFailed, Unavailable, Unsupported
from bench.types import Compressed, QuantSpec, Scalar, Simulation

OPSET = 13
CHECKED = 64
"""How many samples each simulation is compared with the design's arithmetic on, before its figures are kept."""
LAYOUT_TOLERANCE = 1e-3
"""How far the design in floats may be from the network, relative to its largest output: float32 against float64."""
SEARCHED = 8192
"""Multiplications up to which da4ml tries every decomposition of a layer's matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """The figures of a design. `notes`: what a user must know of them."""

    simulation: Simulation
    notes: tuple[str, ...] = ()


def take_qonnx(source: Compressed) -> tuple[Typed, str]:
    """The design of a QONNX file, in the file's own precision, and how it compares with the file.

    Raises as `backends.hls.reading.execution.read_checked`.
    """
    path = source.files["qonnx"]
    model = read(path)
    hide_weights(model)
    name_nodes(model)
    fixed = fix_batch(model, 1, path, source.inputs)
    shape = tuple(size for place, size in enumerate(source.inputs[0].at(1)) if place)
    design, agreement = read_checked(fixed, _draw_samples(shape))
    return Typed(design=design, ranges={}), agreement


def make_design(source: Compressed, spec: QuantSpec, work: Path) -> Typed:
    """The network in fixed point. Raises `Unsupported` as `read_design`; `CellFailed` for a layout that is not the
    network's.
    """
    read = read_source(source, 1)
    ready = prepare(fix_batch(read.model, 1, read.path, source.inputs), work, OPSET)
    design = read_design(ready)
    samples = (
        _draw(design) if source.calibration is None else np.asarray(load_calibration(source, spec.samples).arrays[0])
    )
    turned = design.turn(samples)
    _check_layout(design, ready, samples[:CHECKED], turned[:CHECKED])
    if spec.weight_bits != spec.activation_bits:
        raise Unsupported(
            f"fixed point of {spec.weight_bits} bits for weights and {spec.activation_bits} for values: name equal ones"
        )
    typed = assign(
        design,
        turned,
        width=spec.activation_bits,
        integer=spec.integer_bits,
        trained=read_trained(spec),
        weights=dict(spec.layer_bits),
    )
    return typed if source.calibration is not None else replace(typed, overflows=(), ranges={})


def read_trained(spec: QuantSpec) -> dict[str, int]:
    """Name -> integer bits, of ranges that fixed-point training settled: from -2^(bits - 1) to 2^(bits - 1)."""
    return {name: round(np.log2(high)) + 1 for name, _, high in spec.ranges}


def realise(typed: Typed, source: Compressed, options: Options, out: Path) -> Realised:
    """Writes the design and its C simulation into `out`, and finds cycles and resources."""
    design = typed.design
    if options.io_type == "io_stream":
        check_streams(design)
    save(design, out / DESIGN)
    samples = design.turn(_check_samples(source, design))
    values = evaluate(design, samples, fixed=True)
    wanted = values[design.nodes[-1].name]
    keep = Path(options.keep).expanduser().resolve() / source.digest[:12] if options.keep else None
    asked: dict[str, Scalar] = {
        "reuse_factor": options.reuse_factor,
        "strategy": options.strategy,
        "io_type": options.io_type,
    }
    built = csim.build(out, asked, options.limits, keep / "hls4ml" if keep else None)
    csim.check(design, csim.predict(out, design, samples, options.limits), wanted, "hls4ml's C simulation")
    bound = bound_layers(design, built.layers, options.reuse_factor)
    entering = values[design.nodes[0].name].reshape(len(samples), -1)
    with _folder(keep) as folder:
        rtl = find_rtl(out / DESIGN, design, entering, wanted, options, folder)
    errors = {} if design.from_file else trace_errors(design, values, evaluate(design, samples, fixed=False))
    return _summarise(rtl, bound, errors, built.version, options)


def check_streams(design: Design) -> None:
    """Raises `Unsupported` for what was not seen right with io_stream: a value read twice, and layers over images."""
    read = Counter(name for node in design.nodes for name in node.inputs)
    for node in design.nodes:
        if len(node.shape) > 1 or read[node.name] > 1:
            why = "is an image" if len(node.shape) > 1 else "goes two ways"
            said = f"option io_type: io_stream takes chains of dense layers, and the output of {node.title} {why}"
            raise Unsupported(f"{said}; io_parallel takes it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtl:
    """What the RTL gave: figures and where each comes from, and why others are missing."""

    figures: Mapping[str, int]
    sources: Mapping[str, str]
    notes: tuple[str, ...] = ()


def find_rtl(path: Path, design: Design, inputs: Array, wanted: Array, options: Options, folder: Path) -> Rtl:
    """Traced by da4ml, simulated in Verilator, synthesised by yosys; less of it where a limit is met, which `notes` says.

    What is noted is kept with the design, so it must depend on what the design is kept by. Raises `CellFailed` where the
    RTL computes something else, `Disturbed` where a tool was ended from outside or waited too long.
    """
    size = count_multiplications(design)
    if size > options.estimate_limit:
        reason = (
            f"{size} multiplications by weights that are not zero, RTL is traced up to {options.estimate_limit} "
            "(option estimate_limit)"
        )
        return Rtl(figures={}, sources={}, notes=(f"no RTL: {reason}; only hls4ml's bounds are given",))
    asked = {"adders_per_stage": options.adders_per_stage, "search": size <= SEARCHED}
    try:
        ports = ask("backends.hls.rtl", path, folder, asked, options.limits)
    except OutOfReach as error:
        return Rtl(figures={}, sources={}, notes=(f"no RTL: da4ml: {error}; only hls4ml's bounds are given",))
    if not ports["out"]["width"]:
        return Rtl(figures={}, sources={}, notes=("no RTL: every output is 0; only hls4ml's bounds are given",))
    estimated = f"da4ml {ports['version']} estimate"
    figures = {"cycles": ports["stages"], "initiation_interval": 1, "lut": ports["lut"], "ff": ports["ff"]}
    found = Rtl(figures=figures, sources=dict.fromkeys(figures, estimated))
    if ports["lut"] > options.rtl_limit:
        why = (
            f"about {ports['lut']} LUTs, RTL is simulated and synthesised up to {options.rtl_limit} (option rtl_limit)"
        )
        return replace(found, notes=(f"cycles and resources are da4ml's estimates: {why}",))
    found = _simulated(found, ports, inputs, wanted, options, folder)
    return _synthesised(found, options, folder)


@contextmanager
def _in_key() -> Iterator[None]:
    """Around a look at a program's version, which the design is kept by: one that is missing or too old may be noted."""
    try:
        yield
    except Unavailable as error:
        raise OutOfReach(str(error)) from error


def _simulated(
    found: Rtl, ports: Mapping[str, Any], inputs: Array, wanted: Array, options: Options, folder: Path
) -> Rtl:
    try:
        with _in_key():
            name = f"Verilator {verilate.find_version(folder, options.limits)} on da4ml {ports['version']} RTL"
        clocked = verilate.simulate(folder, ports, inputs, options.limits, toggles=options.toggles)
    except OutOfReach as error:
        return replace(found, notes=(*found.notes, f"cycles are da4ml's estimate, no simulation: {error}"))
    figures, sources, notes = dict(found.figures), dict(found.sources), found.notes
    cycles = verilate.find_latency(clocked, wanted)
    if cycles is None:
        notes = (
            *notes,
            "cycles are da4ml's estimate: the outputs of the simulation fit several delays, as constant ones do",
        )
    else:
        figures |= {"cycles": cycles, "initiation_interval": 1}
        sources |= {"cycles": name, "initiation_interval": name}
    if options.toggles:
        figures["toggles"] = round(verilate.count_toggles(folder) / len(inputs))
        said = (
            f"{figures['toggles']} bits of registers change per inference in the RTL: a relative figure, not an energy"
        )
        notes = (*notes, said)
    return replace(found, figures=figures, sources=sources, notes=notes)


def _synthesised(found: Rtl, options: Options, folder: Path) -> Rtl:
    try:
        with _in_key():
            name = f"yosys {synthesis.find_version(folder, options.limits)} {options.family}"
        taken = synthesis.synthesise(folder, options.family, options.limits)
    except OutOfReach as error:
        return replace(found, notes=(*found.notes, f"resources are da4ml's estimates, no synthesis: {error}"))
    resources = {"lut": taken.lut, "ff": taken.ff, "dsp": taken.dsp, "bram": taken.bram}
    return replace(
        found,
        figures={**found.figures, **resources, "carry": taken.carry},
        sources={**found.sources, **dict.fromkeys(resources, name)},
    )


def _summarise(rtl: Rtl, bound: Bound, errors: Mapping[str, float], hls4ml: str, options: Options) -> Realised:
    formula = f"hls4ml {hls4ml} formula"
    figures, sources = dict(rtl.figures), dict(rtl.sources)
    missing = {
        "power_w": "no vendor tool: a simulation of logic has no watts",
        "energy_per_inference_mj": "no vendor tool: a simulation of logic has no joules",
    }
    if not figures:
        figures["initiation_interval"], sources["initiation_interval"] = bound.initiation_interval, formula
        missing |= dict.fromkeys(
            ("cycles", "lut", "ff", "latency_p50_ms"), "no RTL of this design, and no formula gives it"
        )
    for name in ("dsp", "bram"):
        if name not in figures:
            missing[name] = "not synthesised; hls4ml's multipliers, a bound for DSPs, are in the facts"
    carry, toggles = figures.pop("carry", None), figures.pop("toggles", None)
    cycles = figures.get("cycles")
    layers = tuple({**row, "error": errors.get(str(row["name"]))} for row in bound.layers)
    clock = f"simulated at {options.clock_mhz:g} MHz (assumed)"
    simulation = Simulation(
        source=f"FPGA {options.family}, {clock}",
        latency_ms=None if cycles is None else cycles / options.clock_mhz / 1e3,
        **figures,
        layers=layers,
        notes={
            "sources": sources,
            "missing": missing,
            "clock_mhz": options.clock_mhz,
            "carry": carry,
            "register_toggles_per_inference": toggles,
            "hls4ml_bound": {"multipliers": bound.multipliers, "initiation_interval": bound.initiation_interval},
            "errors": dict(errors),
        },
    )
    return Realised(simulation=simulation, notes=(*rtl.notes, *bound.notes))


def trace_errors(design: Design, fixed: Mapping[str, Array], floats: Mapping[str, Array]) -> dict[str, float]:
    """Title -> root mean square error of a value in fixed point over that of the float value (0 for all zeros)."""
    found = {}
    for node in design.nodes:
        size = float(np.sqrt(np.square(floats[node.name]).mean()))
        error = float(np.sqrt(np.square(fixed[node.name] - floats[node.name]).mean()))
        found[node.title] = error / size if size else 0.0
    return found


def _check_layout(design: Design, ready: Any, samples: Any, turned: Array) -> None:
    """Raises `CellFailed` where the design in floats is not the network."""
    session = float_session(ready)
    name = session.get_inputs()[0].name
    wanted = np.concatenate([session.run(None, {name: one[None].astype(np.float32)})[0] for one in samples])
    if not np.isfinite(wanted).all():
        raise CellFailed(
            "the network gives NaN or infinity in float32 already, on the samples that its design is checked on"
        )
    found = evaluate(design, turned, fixed=False)[design.nodes[-1].name]
    largest = max(float(np.abs(wanted).max()), 1e-6)
    worst = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
    if not worst <= LAYOUT_TOLERANCE * largest:
        raise CellFailed(
            f"the design computes something else than the network (differs by {worst / largest:.2g} of the largest "
            "output before any rounding): its layout is not understood"
        )


def _check_samples(source: Compressed, design: Design) -> Any:
    """Calibration samples, and as many drawn ones that reach further: both must agree to the bit."""
    drawn = _draw(design)
    if source.calibration is None:
        return drawn
    return np.concatenate([np.asarray(load_calibration(source, CHECKED).arrays[0], np.float32), drawn])


def _draw(design: Design) -> Any:
    return _draw_samples(design.input_shape)


def _draw_samples(shape: tuple[int, ...]) -> Any:
    generator = np.random.default_rng(0)
    return generator.uniform(-2.0, 2.0, (CHECKED, *shape)).astype(np.float32)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        (keep / "rtl").mkdir(parents=True, exist_ok=True)
        yield keep / "rtl"
        return
    with tempfile.TemporaryDirectory(prefix="pressbench-hls-") as place:
        yield Path(place)
