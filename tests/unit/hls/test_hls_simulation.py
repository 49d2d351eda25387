"""hls4ml, g++, da4ml, Verilator and yosys on small networks: all simulations agree to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from backends.hls import csim
from backends.hls.compile import HlsBackend
from backends.hls.design import load, save
from backends.hls.evaluate import evaluate
from backends.hls.ranges import assign
from bench.errors import CellFailed, Unsupported
from bench.types import Artifact, Conditions, Precision, QuantSpec, Scalar
from tests.fpga_nets import Residual, design_of, need_tools, samples_of, seeded, small_mlp, source_of

FIXED6 = QuantSpec(kind="fixed", weight_bits=6, activation_bits=6)
NO_RTL: dict[str, Scalar] = {"estimate_limit": 0}


@pytest.fixture(autouse=True)
def _tools() -> None:
    need_tools("g++", "verilator", "yosys")


def test_every_figure_of_a_small_network_has_its_source(tmp_path: Path) -> None:
    """RTL equals the C simulation, cycles are measured, resources synthesised; the folder may have spaces."""
    out = tmp_path / "a folder"
    out.mkdir()
    backend, source = HlsBackend(), source_of(seeded(small_mlp()), (4,), tmp_path, FIXED6)
    artifact = backend.compile(source, Conditions(), {"clock_mhz": 100.0, "toggles": True}, out)
    found = backend.simulate(artifact, Conditions(), {})
    sources = found.notes["sources"]
    assert found.cycles is not None
    assert found.latency_ms == pytest.approx(found.cycles / 100e6 * 1e3)
    assert found.initiation_interval == 1
    assert sources["cycles"].startswith("Verilator 5.")
    assert sources["cycles"].endswith(" RTL")
    assert sources["lut"].startswith("yosys ")
    assert sources["lut"].endswith(" xc7")
    assert found.lut is not None
    assert 20 < found.lut < 2000
    assert found.ff is not None
    assert found.ff > 0
    assert found.dsp == 0
    assert found.source == "FPGA xc7, simulated at 100 MHz (assumed)"
    toggles = found.notes["register_toggles_per_inference"]
    assert 0 < toggles < found.ff
    assert f"{toggles} bits of registers change per inference" in artifact.facts["notes"][0]
    assert "no vendor tool" in found.notes["missing"]["power_w"]
    samples = samples_of((4,))
    design = load(artifact.path)
    wanted = evaluate(design, design.turn(samples), fixed=True)[design.nodes[-1].name]
    assert np.array_equal(backend.infer(artifact, (samples,), {})["output"], wanted)


def test_an_image_of_three_channels_keeps_its_layout_in_hls4ml(tmp_path: Path) -> None:
    """Residual sum, padding, stride and pooling; without RTL only hls4ml's formulas are given, and the notes say so."""
    backend, source = HlsBackend(), source_of(seeded(Residual()), (3, 6, 6), tmp_path, FIXED6)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(
        Unsupported, match=r"io_stream takes chains of dense layers, and .* is an image; io_parallel takes it"
    ):
        backend.compile(source, Conditions(), {**NO_RTL, "io_type": "io_stream"}, out)
    artifact = backend.compile(source, Conditions(), NO_RTL, out)
    found = backend.simulate(artifact, Conditions(), NO_RTL)
    assert found.cycles is None
    assert found.lut is None
    assert found.initiation_interval == 36
    assert found.notes["sources"] == {"initiation_interval": "hls4ml 1.3.0 formula"}
    assert any("RTL is traced up to 0" in note for note in artifact.facts["notes"])
    samples = samples_of((3, 6, 6))
    design = load(artifact.path)
    wanted = evaluate(design, design.turn(samples), fixed=True)[design.nodes[-1].name]
    assert np.array_equal(backend.infer(artifact, (samples,), {})["output"], wanted)


def test_streams_of_dense_layers_are_the_design_to_the_bit(tmp_path: Path) -> None:
    """hls4ml's io_stream."""
    source, samples = source_of(seeded(small_mlp()), (4,), tmp_path, FIXED6), samples_of((4,))
    out = tmp_path / "out"
    out.mkdir()
    artifact = HlsBackend().compile(source, Conditions(), {**NO_RTL, "io_type": "io_stream"}, out)
    design = load(artifact.path)
    wanted = evaluate(design, design.turn(samples), fixed=True)[design.nodes[-1].name]
    assert np.array_equal(HlsBackend().infer(artifact, (samples,), {})["output"], wanted)


def test_a_network_whose_weights_are_all_0_is_simulated(tmp_path: Path) -> None:
    """hls4ml's library aborts on sums that do not reach a step of what they are rounded to; RTL without outputs is none."""
    network, out = small_mlp(), tmp_path / "out"
    out.mkdir()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    source = source_of(network, (4,), tmp_path, QuantSpec(kind="fixed", weight_bits=16, activation_bits=16))
    artifact = HlsBackend().compile(source, Conditions(), {}, out)
    assert artifact.facts["notes"] == ["no RTL: every output is 0; only hls4ml's bounds are given"]
    assert not HlsBackend().infer(artifact, (samples_of((4,)),), {})["output"].any()


def test_a_simulation_that_is_killed_fails_and_leaves_nothing(tmp_path: Path) -> None:
    """A library that is none: the process that loads it ends, this one goes on."""
    samples = samples_of((4,))
    design = design_of(seeded(small_mlp()), (4,), tmp_path)
    save(assign(design, design.turn(samples), width=6, integer=None).design, tmp_path / csim.DESIGN)
    (tmp_path / csim.LIBRARY).write_bytes(b"not a library")
    precision = Precision(asked="fixed6", delivered="fixed6")
    artifact = Artifact(path=tmp_path / csim.DESIGN, format="hls", precision=precision, facts={"output": "output"})
    with pytest.raises(CellFailed, match=r"backends\.hls\.predict ended with exit code 1"):
        HlsBackend().infer(artifact, (samples,), {})
