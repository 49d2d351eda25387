"""The FPGA backend: fixed-point accuracy by hls4ml's C simulation, cycles by RTL simulation, resources by synthesis."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from backends.hls.options import read_options
from backends.hls.tool import read_version
from bench.errors import Unsupported
from bench.types import Artifact, Backend, Compressed, Conditions, Json, Precision, Probe, QuantSpec, Scalar, Simulation

if TYPE_CHECKING:
    from backends.hls.ranges import Typed

PROGRAMS = ("g++", "verilator", "yosys")
REMEDY = "make fpga (it installs g++, yosys and verilator by apt-get, and pip install 'pressbench[fpga]')"
SEEN = 256
"""About how many samples are looked at for values that saturate."""
UNCOMPRESSED = QuantSpec(kind="fixed", weight_bits=16, activation_bits=16, integer_bits=6)
"""What a network without a fixed-point step becomes: hls4ml's own default precision."""


@final
class HlsBackend(Backend):
    """An FPGA, simulated without vendor tools.

    `clock_mhz`: the clock assumed for seconds. `family`: as yosys' `synth_xilinx -family`. `reuse_factor`, `strategy` and
    `io_type` are hls4ml's: they shape its bounds, not da4ml's RTL, which is unrolled. `adders_per_stage`: adders between
    two registers of the RTL. `estimate_limit`: multiplications by a weight that is not zero, up to which RTL is
    traced; above, only hls4ml's formulas are given. `rtl_limit`: LUTs by da4ml's estimate, up to which RTL is simulated
    and synthesised; above, the estimates are given.
    `tool_s`, `tool_gib`: what one tool may take. `keep`: a folder in which the projects stay, "" to remove them.
    `toggles`: counts the bits of registers that change per inference in the RTL.
    """

    name: ClassVar[str] = "hls"
    accepts: ClassVar[tuple[str, ...]] = ("qonnx", "onnx")
    session: ClassVar[str | None] = None
    fixed_point: ClassVar[bool] = True
    infers: ClassVar[bool] = True
    compilers: ClassVar[tuple[str, ...]] = ("da4ml", "onnxruntime", "qonnx")
    width_steps: ClassVar[Mapping[str, int]] = {"": 1}
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "clock_mhz": (),
        "family": ("xc7", "xcu", "xcup"),
        "reuse_factor": (),
        "strategy": ("Latency", "Resource"),
        "io_type": ("io_parallel", "io_stream"),
        "adders_per_stage": (),
        "rtl_limit": (),
        "estimate_limit": (),
        "tool_s": (),
        "tool_gib": (),
        "keep": (),
        "toggles": (True, False),
    }

    quick_options: ClassVar[Mapping[str, Scalar]] = {"rtl_limit": 0}  # da4ml's estimates only

    def probe(self) -> Probe:
        """Whether hls4ml and a C++ compiler are installed. Verilator and yosys are looked for when they are needed."""
        try:
            found = version("hls4ml")
        except PackageNotFoundError:
            return Probe(available=False, reason="hls4ml is not installed", remedy=REMEDY)
        lacking = [name for name in PROGRAMS if which(name) is None]
        if lacking:
            return Probe(available=False, version=found, reason=f"{lacking[0]} is not installed", remedy=REMEDY)
        return Probe(available=True, version=found)

    def find_programs(self) -> Mapping[str, str]:
        """g++, Verilator and yosys: a design keeps what they gave, and why one gave nothing."""
        return {name: read_version(name) for name in PROGRAMS}

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out`/design.npz with its compiled C simulation; cycles and resources are in the facts.

        Raises `Unsupported` for an operator without a fixed-point form and another quantization than `fixed`;
        `CellFailed` where a simulation is not this network to the bit.
        """
        from backends.hls import flow
        from backends.hls.csim import DESIGN

        if conditions.batch != 1:
            raise Unsupported(f"an FPGA design takes one sample at a time, batch {conditions.batch} was asked")
        settled = read_options(options)
        typed, asked, said = _read(source)
        found = flow.realise(typed, source, settled, out)
        notes = [*typed.lost, *typed.overflows, *found.notes, *said]
        facts: dict[str, Any] = {
            "notes": notes,
            "ranges": {title: list(ends) for title, ends in typed.ranges.items()},
            "types": {node.title: str(node.result) for node in typed.design.nodes},
            "simulation": asdict(found.simulation),
            "output": typed.design.output,
        }
        return Artifact(path=out / DESIGN, format="hls", precision=Precision(asked=asked, delivered=asked), facts=facts)

    def simulate(self, artifact: Artifact, conditions: Conditions, options: Mapping[str, Scalar]) -> Simulation:
        """What was found when the design was compiled."""
        del conditions, options
        stored: dict[str, Json] = dict(artifact.facts["simulation"])
        return Simulation(**{**stored, "layers": tuple(stored["layers"])})

    def infer(
        self, artifact: Artifact, inputs: tuple[NDArray[Any], ...], options: Mapping[str, Scalar]
    ) -> Mapping[str, NDArray[Any]]:
        """Outputs of hls4ml's C simulation, as float32."""
        from backends.hls import csim
        from backends.hls.design import load

        design = load(artifact.path)
        found = csim.predict(artifact.path.parent, design, design.turn(inputs[0]), read_options(options).limits)
        return {str(artifact.facts["output"]): found.astype(np.float32)}

    def explain_outputs(self, artifact: Artifact, inputs: tuple[NDArray[Any], ...]) -> tuple[str, ...]:
        """Which values of some of these samples saturate in types that no calibration data was compared with."""
        from backends.hls.design import load
        from backends.hls.ranges import find_overflows

        design = load(artifact.path)
        if design.from_file or artifact.facts["ranges"]:
            return ()
        return find_overflows(design, design.turn(inputs[0][:: max(1, len(inputs[0]) // SEEN)]))


def _read(source: Compressed) -> tuple[Typed, str, tuple[str, ...]]:
    """The design of a source, its precision in a word, and what must be said of it."""
    from backends.hls import flow

    if "qonnx" in source.files:
        if source.quant is not None:
            raise Unsupported(
                f"{source.model} is a QONNX file, whose precision is its own: measure it without a recipe"
            )
        typed, agreement = flow.take_qonnx(source)
        return typed, "qonnx", (f"precision of the QONNX file; {agreement}",)
    spec = source.quant or UNCOMPRESSED
    if spec.kind != "fixed":
        raise Unsupported(f"an FPGA computes in fixed point: use fixed(width=8) instead of {spec.kind} quantization")
    with tempfile.TemporaryDirectory(prefix="pressbench-hls-") as work:
        typed = flow.make_design(source, spec, Path(work))
    default = (
        "the uncompressed network is computed in hls4ml's default, fixed<16,6>, rounded, and saturated at -32 and 32"
    )
    said = () if source.quant else (default,)
    if spec.layer_bits:
        said = (
            f"bits of weights: {', '.join(f'{name} {bits}' for name, bits in spec.layer_bits)}; others {spec.weight_bits}",
        )
    least = min((bits for _, bits in spec.layer_bits), default=spec.weight_bits)
    return typed, f"fixed{spec.weight_bits}" if least == spec.weight_bits else f"fixed{least}-{spec.weight_bits}", said
