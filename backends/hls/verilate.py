"""Simulates da4ml's RTL in Verilator, clock by clock, and measures how many clocks an inference takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backends.hls.csim import APT
from backends.hls.design import Array
from backends.hls.project import NAME
from backends.hls.tool import Limits, run
from bench.errors import CellFailed, Unavailable

OLDEST = (5, 0)
SPARE_CLOCKS = 8
"""Clocks that the simulation runs on after the last output is due."""
REGISTER = re.compile(r"^C '.*\x01o\x02(?:stage\d+_inp|model_out)\b.*' (\d+)$", re.MULTILINE)
"""The line of one bit of a register in Verilator's report of what toggled: how often it did."""
UNOPTIMISED = "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"
"""The simulation runs for milliseconds: compiling it, in one unit, is what takes the time."""
DRIVER = """#include <cstdio>
#include <cstdint>
#include <memory>
#include <vector>
#include "ioutil.hh"
#include "Vdut.h"
int main(int, char **given) {
    auto dut = std::make_unique<Vdut>();
    const size_t samples = std::stoul(given[1]), clocks = std::stoul(given[2]);
    FILE *in = fopen("in.bin", "rb"), *out = fopen("out.bin", "wb");
    std::vector<int32_t> inputs(samples * N_IN), outputs(N_OUT);
    if (!in || !out || fread(inputs.data(), 4, inputs.size(), in) != inputs.size()) return 2;
    for (size_t clock = 0; clock < clocks; ++clock) {
        if (clock < samples) write_input<N_IN, W_IN>(dut->model_inp, &inputs[clock * N_IN]);
        dut->clk = 0; dut->eval();
        dut->clk = 1; dut->eval();
        read_output<N_OUT, W_OUT>(dut->model_out, outputs.data());
        if (fwrite(outputs.data(), 4, N_OUT, out) != N_OUT) return 3;
    }
    dut->final();
#if VM_COVERAGE
    dut->contextp()->coveragep()->write("toggles.dat");
#endif
    return fclose(out);
}
"""


def find_version(folder: Path, limits: Limits) -> str:
    """Verilator's version. Raises `Unavailable` where it is missing or older than `OLDEST`."""
    said = run(["verilator", "--version"], folder, limits, remedy=APT)
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise Unavailable(f"Verilator {said.strip()[:60]} is too old, {OLDEST[0]}.0 or newer is needed: {APT}")
    return f"{found[1]}.{found[2]}"


def simulate(folder: Path, ports: Mapping[str, Any], inputs: Array, limits: Limits, *, toggles: bool = False) -> Array:
    """Outputs of every clock, (clocks, outputs), when a sample enters on each. `inputs`: (samples, inputs), on the grid.

    `toggles`: also counts the changes of registers, for `count_toggles`.
    """
    _prepare(folder / "src")
    n_in, n_out = ports["in"], ports["out"]
    (folder / "main.cpp").write_text(DRIVER, encoding="utf-8")
    macros = (
        f"-DN_IN={n_in['count']} -DN_OUT={n_out['count']} -DW_IN={n_in['width']} -DW_OUT={n_out['width']} "
        "-I../sim -w -std=c++17"
    )
    command = [
        "verilator",
        "--cc",
        "--exe",
        "--build",
        "-j",
        "1",
        *("--output-split", "0"),
        *("-MAKEFLAGS", UNOPTIMISED),
        "-Wno-fatal",
        "-Wno-lint",
        "-Wno-style",
        "--no-timing",
    ]
    command += ["--prefix", "Vdut", "--top-module", f"{NAME}_wrapper", "-Isrc", "-Isrc/static", "-CFLAGS", macros]
    command += ["--coverage-toggle", "--coverage-max-width", str(10**9)] if toggles else []
    run([*command, f"src/{NAME}_wrapper.v", "main.cpp"], folder, limits, remedy=APT)
    steps = np.rint(inputs * 2.0 ** n_in["fraction"]).astype("<i4")
    steps.tofile(folder / "in.bin")
    clocks = len(inputs) + int(ports["stages"]) + SPARE_CLOCKS
    run([str(folder / "obj_dir" / "Vdut"), str(len(inputs)), str(clocks)], folder, limits)
    bits = np.fromfile(folder / "out.bin", "<i4").reshape(clocks, n_out["count"]).astype(np.int64)
    width = int(n_out["width"])
    bits &= (1 << width) - 1
    negative = (bits >> (width - 1)).astype(bool) & np.asarray(ports["signed"], bool)
    return np.asarray(np.where(negative, bits - (1 << width), bits) * 2.0 ** -n_out["fraction"], np.float64)


def find_latency(clocked: Array, wanted: Array) -> int | None:
    """Clocks from the edge that takes a sample to the edge after which its output stands, one sample a clock.

    None where the outputs are right at several delays, as those that never change are: then no delay can be seen. Raises
    `CellFailed` where at no delay the outputs are those `wanted`, (samples, outputs), to the bit.
    """
    size = len(wanted)
    delays = range(len(clocked) - size + 1)
    right = [delay for delay in delays if np.array_equal(clocked[delay : delay + size], wanted)]
    if right:
        return right[0] if len(right) == 1 else None
    best = max(int((clocked[delay : delay + size] == wanted).all(axis=1).sum()) for delay in delays)
    raise CellFailed(
        f"the RTL in Verilator differs from the C simulation in at least {size - best} of {size} samples: its cycles "
        "and resources are of another network"
    )


def count_toggles(folder: Path) -> int:
    """Changes of single bits of the registers between stages, in the whole simulation with `toggles`."""
    text = (folder / "toggles.dat").read_text(encoding="utf-8", errors="replace")
    return sum(int(found[1]) for found in REGISTER.finditer(text))


def _prepare(sources: Path) -> None:
    """Takes out lint directives that Verilator before 5.008 takes for errors, and leaves only registers to be counted."""
    for path in sources.rglob("*.v"):
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if "WIDTHTRUNC" not in line]
        if path.name != f"{NAME}.v":
            kept.insert(0, "/* verilator coverage_off */")
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")
