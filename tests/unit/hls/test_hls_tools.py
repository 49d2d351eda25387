"""The tools that are run beside: limits, missing and old ones, and what is read of their answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from waiting import is_alive, wait_until

from backends.hls.compile import HlsBackend
from backends.hls.csim import check
from backends.hls.design import Design, Node
from backends.hls.options import read_options
from backends.hls.synthesis import count
from backends.hls.tool import Disturbed, Limits, OutOfReach, run
from backends.hls.verilate import find_latency, find_version
from bench.errors import CellFailed, InvalidInput, Unavailable, Unsupported
from bench.line.artifacts import compile_cached
from bench.types import Artifact, Compressed, Conditions, Probe, QuantSpec

REPORT = """
   Number of cells:                 33
     CARRY4                          2
     DSP48E1                         1
     FDRE                           10
     LUT2                            3
     LUT6                           15
     MUXF7                           1
     RAMB36E1                        1
"""


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_a_tool_that_takes_too_long_ends_with_all_it_started(tmp_path: Path) -> None:
    """Its child, which would write a file later, is ended with it."""
    late = tmp_path / "late"
    child = f"import time; time.sleep(2); open({str(late)!r}, 'w')"
    text = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    with pytest.raises(Disturbed, match="did not end within 1 s: the same cell may succeed when it is run again"):
        run(python(text), tmp_path, Limits(seconds=0.05))
    time.sleep(2.2)
    assert not late.exists()


def test_the_limit_is_of_processor_time(tmp_path: Path) -> None:
    """A busy machine changes nothing: a tool that computes is ended by what it computed, and so is its child."""
    with pytest.raises(OutOfReach, match="did not end within 1 s of processor time"):
        run(python("while True: pass"), tmp_path, Limits(seconds=1))
    child = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'while True: pass']) != 0)"
    with pytest.raises(OutOfReach, match="did not end within 1 s of processor time"):
        run(python(child), tmp_path, Limits(seconds=1))


def test_a_tool_out_of_memory_is_said_with_the_limit(tmp_path: Path) -> None:
    """An allocation beyond the limit ends it, and the message names the limit."""
    with pytest.raises(OutOfReach, match="needs more than 1 GiB of memory"):
        run(python("bytearray(3 * 2**30)"), tmp_path, Limits(memory_bytes=2**30))


def test_a_tool_that_was_killed_says_nothing_of_the_design(tmp_path: Path) -> None:
    """SIGKILL by name, of the tool and, in the words of g++, of what it started. It is no limit that it ran into."""
    with pytest.raises(Disturbed, match=r"was ended by SIGKILL: .* lower option tool_gib"):
        run(python("import os; os.kill(os.getpid(), 9)"), tmp_path, Limits())
    child = "print('g++: fatal error: Killed signal terminated program cc1plus'); raise SystemExit(1)"
    with pytest.raises(Disturbed, match="was ended by SIGKILL, or one that it started was"):
        run(python(child), tmp_path, Limits())


def test_a_tool_that_crashes_would_crash_again(tmp_path: Path) -> None:
    """By name, or as the limit of memory where it said so before."""
    with pytest.raises(OutOfReach, match="was ended by SIGSEGV"):
        run(python("import os; os.kill(os.getpid(), 11)"), tmp_path, Limits())
    with pytest.raises(OutOfReach, match="needs more than 6 GiB of memory"):
        run(python("import os; print('std::bad_alloc', flush=True); os.abort()"), tmp_path, Limits())


def test_a_failed_tool_is_said_with_its_first_error(tmp_path: Path) -> None:
    """The line that has the error, not the last one."""
    text = "import sys; print('error: wrong type'); print('giving up'); sys.exit(3)"
    with pytest.raises(CellFailed, match="ended with exit code 3: error: wrong type"):
        run(python(text), tmp_path, Limits())


def test_a_missing_tool_is_unavailable_with_the_remedy(tmp_path: Path) -> None:
    """The remedy is what the caller knows."""
    with pytest.raises(Unavailable, match="no-such-tool is not installed: make fpga"):
        run(["no-such-tool"], tmp_path, Limits(), remedy="make fpga")


def test_an_old_verilator_is_unavailable_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 4 is too old."""
    fake = tmp_path / "verilator"
    fake.write_text("#!/bin/sh\necho 'Verilator 4.038 2020-07-11'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Unavailable, match=r"Verilator 4\.038 .* is too old, 5\.0 or newer is needed: make fpga"):
        find_version(tmp_path, Limits())


def test_another_version_of_a_program_is_another_design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an old Verilator could not do is kept by its version: after an upgrade the design is made again."""
    monkeypatch.setattr(HlsBackend, "compile", _write_nothing)
    monkeypatch.setattr(HlsBackend, "probe", lambda _: Probe(available=True, version="1"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    source = Compressed(model="m", recipe="r", files={"onnx": tmp_path / "x"}, inputs=(), digest="d")
    places = []
    for version in ("4.038", "4.038", "5.006"):
        for name in ("g++", "verilator", "yosys"):
            (tmp_path / name).write_text(
                f"#!/bin/sh\necho '{name} {version if name == 'verilator' else 1}'\necho more\n"
            )
            (tmp_path / name).chmod(0o755)
        assert HlsBackend().find_programs()["verilator"] == f"verilator {version}"
        places.append(compile_cached(HlsBackend(), source, Conditions(), {}, tmp_path / "cache").path)
    assert places[0] == places[1] != places[2]
    (tmp_path / "yosys").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert HlsBackend().find_programs()["yosys"] == ""


def _write_nothing(_self: object, _source: object, _conditions: object, _options: object, out: Path) -> Artifact:
    (out / "design.npz").touch()
    return Artifact(path=out / "design.npz", format="hls")


def test_yosys_cells_are_counted_by_kind() -> None:
    """LUTs of any size, two blocks of 18 Kbit in one of 36; multiplexers are not counted."""
    found = count(REPORT)
    assert (found.lut, found.ff, found.carry, found.dsp, found.bram) == (18, 10, 2, 1, 2)


def test_a_report_without_cells_is_an_error() -> None:
    """Not a network of 0 LUTs."""
    with pytest.raises(CellFailed, match="counted no cells"):
        count("Number of wires: 3")


def test_logic_that_is_only_constants_takes_nothing() -> None:
    """As of a network whose last layer has weights of 0."""
    found = count("   Number of wires: 3\n   Number of cells:                  0\n\n")
    assert (found.lut, found.ff, found.carry, found.dsp, found.bram) == (0, 0, 0, 0, 0)


def test_the_latency_is_the_delay_at_which_all_outputs_agree() -> None:
    """Three clocks late."""
    wanted = np.arange(10.0).reshape(5, 2)
    clocked = np.concatenate([np.zeros((3, 2)), wanted, np.zeros((2, 2))])
    assert find_latency(clocked, wanted) == 3


def test_outputs_that_never_change_show_no_latency() -> None:
    """They agree at 0 clocks as well as at 3, whether the registers begin with the same value or not."""
    wanted = np.full((5, 2), 7.0)
    assert find_latency(np.full((10, 2), 7.0), wanted) is None
    assert find_latency(np.concatenate([np.zeros((3, 2)), np.full((7, 2), 7.0)]), wanted) is None


def test_rtl_of_another_network_fails_the_cell() -> None:
    """One wrong output of five samples is enough."""
    wanted = np.arange(10.0).reshape(5, 2)
    clocked = np.concatenate([np.zeros((3, 2)), wanted])
    clocked[4, 1] += 0.5
    with pytest.raises(CellFailed, match="differs from the C simulation in at least 1 of 5 samples"):
        find_latency(clocked, wanted)


def test_a_c_simulation_of_another_network_fails_the_cell() -> None:
    """The message counts the samples."""
    design = Design(nodes=(Node(name="n", title="t", kind="input"),), input_shape=(2,))
    wanted = np.zeros((4, 2))
    with pytest.raises(CellFailed, match="in 4 of 4 samples"):
        check(design, wanted + 1, wanted, "hls4ml's C simulation")


@pytest.mark.parametrize(
    ("name", "value"), [("clock_mhz", 0), ("reuse_factor", -1), ("tool_s", "long"), ("tool_gib", True)]
)
def test_an_option_that_is_not_a_number_above_0_is_named(name: str, value: object) -> None:
    """The option and what was found."""
    with pytest.raises(InvalidInput, match=f"option {name}: a number above 0"):
        read_options({name: value})  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match="option toggles: true or false"):
        read_options({"toggles": 1})


def test_other_quantization_and_batches_are_refused(tmp_path: Path) -> None:
    """int8 has zero points and scales that fixed point has not; a design has no batch."""
    source = Compressed(model="m", recipe="r", files={}, inputs=(), digest="d", quant=QuantSpec(kind="static"))
    with pytest.raises(Unsupported, match=r"use fixed\(width=8\) instead of static quantization"):
        HlsBackend().compile(source, Conditions(), {}, tmp_path)
    with pytest.raises(Unsupported, match="one sample at a time, batch 4 was asked"):
        HlsBackend().compile(source, Conditions(batch=4), {}, tmp_path)


def test_without_a_program_the_backend_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make fpga` installs all."""
    pytest.importorskip("hls4ml")
    monkeypatch.setenv("PATH", "/nonexistent")
    found = HlsBackend().probe()
    assert not found.available
    assert found.reason == "g++ is not installed"
    assert found.remedy.startswith("make fpga")


ASKS = """
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from backends.hls.tool import Limits, run
run([sys.executable, "-c", "print(__import__('os').getpid(), flush=True); __import__('time').sleep(60)"], Path(sys.argv[1]), Limits())
"""


def test_a_tool_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """Terminated, with no chance to clean up."""
    asking = subprocess.Popen([sys.executable, "-c", ASKS, str(tmp_path)])
    try:
        wait_until(lambda: (tmp_path / "tool.log").is_file() and (tmp_path / "tool.log").read_text().strip())
        tool = int((tmp_path / "tool.log").read_text())
    finally:
        asking.kill()
        asking.wait()
    wait_until(lambda: not is_alive(tool))
