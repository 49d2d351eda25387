"""Designs beyond reach and tools that fail: fewer figures, each with its source, and a sentence that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.hls import flow
from backends.hls.design import Design, Fixed, Node
from backends.hls.options import Options
from backends.hls.synthesis import Resources
from backends.hls.tool import Disturbed, OutOfReach
from bench.errors import Unavailable

PORTS = {"version": "0.6", "lut": 500, "ff": 90, "stages": 4, "out": {"width": 8}}
ESTIMATE = "da4ml 0.6 estimate"
ROWS = np.zeros((2, 1))


def _design() -> Design:
    entering = Node(name="n0", title="input", kind="input", shape=(3,), result=Fixed(8, 4))
    layer = Node(name="n1", title="fc", kind="dense", inputs=("n0",), shape=(2,), weight=np.ones((3, 2)))
    return Design(nodes=(entering, layer), input_shape=(3,))


def _raise(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every tool works."""
    monkeypatch.setattr(flow, "ask", lambda *_, **__: PORTS)
    monkeypatch.setattr(flow.verilate, "find_version", lambda *_: "5.6")
    monkeypatch.setattr(flow.verilate, "simulate", lambda *_, **__: np.zeros((9, 1)))
    monkeypatch.setattr(flow.verilate, "find_latency", lambda *_: 3)
    monkeypatch.setattr(flow.synthesis, "find_version", lambda *_: "0.23")
    taken = Resources(lut=450, ff=80, carry=7, dsp=0, bram=0)
    monkeypatch.setattr(flow.synthesis, "synthesise", lambda *_: taken)
    return monkeypatch


def _find(folder: Path, **options: Any) -> flow.Rtl:
    return flow.find_rtl(folder / "design.npz", _design(), ROWS, ROWS, Options(**options), folder)


@pytest.mark.usefixtures("tools")
def test_within_reach_cycles_are_verilators_and_resources_yosys(tmp_path: Path) -> None:
    """Nothing is left to say."""
    found = _find(tmp_path)
    assert (found.figures["cycles"], found.figures["lut"], found.notes) == (3, 450, ())
    assert found.sources["cycles"] == "Verilator 5.6 on da4ml 0.6 RTL"
    assert found.sources["lut"] == "yosys 0.23 xc7"


@pytest.mark.usefixtures("tools")
def test_too_many_multiplications_leave_the_formulas(tmp_path: Path) -> None:
    """The option that would allow it is named."""
    found = _find(tmp_path, estimate_limit=5)
    assert found.figures == {}
    assert "6 multiplications" in found.notes[0]
    assert "option estimate_limit" in found.notes[0]


def test_outputs_that_are_all_0_leave_the_formulas(tools: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """da4ml's RTL has no output then."""
    tools.setattr(flow, "ask", lambda *_, **__: {**PORTS, "out": {"width": 0}})
    found = _find(tmp_path)
    assert found.figures == {}
    assert found.notes == ("no RTL: every output is 0; only hls4ml's bounds are given",)


@pytest.mark.usefixtures("tools")
def test_too_many_luts_leave_da4mls_estimates(tmp_path: Path) -> None:
    """Each figure is labelled an estimate."""
    found = _find(tmp_path, rtl_limit=499)
    assert found.figures == {"cycles": 4, "initiation_interval": 1, "lut": 500, "ff": 90}
    assert set(found.sources.values()) == {ESTIMATE}
    assert "option rtl_limit" in found.notes[0]


def test_a_tracer_beyond_its_limit_leaves_the_formulas(tools: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a design with too many multiplications."""
    tools.setattr(flow, "ask", _raise(OutOfReach("rtl did not end within 300 s of processor time")))
    found = _find(tmp_path)
    assert found.figures == {}
    assert found.notes == (
        "no RTL: da4ml: rtl did not end within 300 s of processor time; only hls4ml's bounds are given",
    )


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("synthesise", OutOfReach("yosys needs more than 6 GiB of memory")),
        ("find_version", Unavailable("yosys is not installed")),
    ],
)
def test_without_a_synthesis_the_simulated_cycles_stay(
    tools: pytest.MonkeyPatch, tmp_path: Path, step: str, error: Exception
) -> None:
    """A yosys beyond its limit, or a missing one, leaves da4ml's estimates of resources only."""
    tools.setattr(flow.synthesis, step, _raise(error))
    found = _find(tmp_path)
    assert (found.figures["cycles"], found.figures["lut"]) == (3, 500)
    assert found.sources["cycles"] == "Verilator 5.6 on da4ml 0.6 RTL"
    assert found.sources["lut"] == ESTIMATE
    assert found.notes == (f"resources are da4ml's estimates, no synthesis: {error}",)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("simulate", OutOfReach("Vdut did not end within 300 s of processor time")),
        ("find_version", Unavailable("Verilator 4.2 is too old")),
    ],
)
def test_without_a_simulation_the_synthesis_stays(
    tools: pytest.MonkeyPatch, tmp_path: Path, step: str, error: Exception
) -> None:
    """A Verilator beyond its limit, a missing or an old one leaves da4ml's estimate of cycles only."""
    tools.setattr(flow.verilate, step, _raise(error))
    found = _find(tmp_path)
    assert found.sources["cycles"] == ESTIMATE
    assert (found.figures["lut"], found.sources["lut"]) == (450, "yosys 0.23 xc7")
    assert found.notes == (f"cycles are da4ml's estimate, no simulation: {error}",)


def test_outputs_that_never_change_leave_da4mls_cycles(tools: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The simulation agrees with them after any number of clocks; resources are yosys' all the same."""
    tools.setattr(flow.verilate, "find_latency", lambda *_: None)
    found = _find(tmp_path)
    assert (found.figures["cycles"], found.figures["initiation_interval"], found.figures["lut"]) == (4, 1, 450)
    assert found.sources["cycles"] == found.sources["initiation_interval"] == ESTIMATE
    assert "cycles are da4ml's estimate: the outputs of the simulation fit several delays" in found.notes[0]


@pytest.mark.parametrize("error", [Disturbed("it was ended by SIGKILL"), Unavailable("its folder is gone")])
@pytest.mark.parametrize("step", ["ask", "verilate.simulate", "synthesis.synthesise"])
def test_what_went_wrong_on_this_machine_ends_the_cell_and_is_no_figure_of_the_design(
    tools: pytest.MonkeyPatch, tmp_path: Path, step: str, error: Exception
) -> None:
    """A note would be kept with the design, and no later run would try again."""
    tools.setattr(f"backends.hls.flow.{step}", _raise(error))
    with pytest.raises(type(error), match=str(error)):
        _find(tmp_path)
