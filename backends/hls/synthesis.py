"""Synthesises RTL with yosys for a Xilinx family and counts what it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.hls.csim import APT
from backends.hls.project import NAME
from backends.hls.tool import Limits, run
from bench.errors import CellFailed

LUTS = re.compile(r"LUT[1-6]|SRL16E?|SRLC\w+|RAM\d+\w*")
FLIP_FLOPS = re.compile(r"FD[RSCP]E\w*|LD[CP]E")
CARRIES = re.compile(r"CARRY4|CARRY8")
DSPS = re.compile(r"DSP48E\d|DSP48A1")
CELL = re.compile(r"^\s{4,}(\w+)\s+(\d+)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Cells after technology mapping, before place and route. `lut`: also those used as shift registers or memory.
    `bram`: blocks of 18 Kbit.
    """

    lut: int
    ff: int
    carry: int
    dsp: int
    bram: int


def find_version(folder: Path, limits: Limits) -> str:
    """The version of yosys. Raises `Unavailable` where it is missing."""
    said = run(["yosys", "-V"], folder, limits, remedy=APT)
    found = re.search(r"Yosys (\S+)", said)
    return found[1] if found else said.strip()[:40]


def synthesise(folder: Path, family: str, limits: Limits) -> Resources:
    """Of the RTL in `folder`/src, for a family as `synth_xilinx -family` names it (`xc7`)."""
    names = [path.relative_to(folder).as_posix() for path in sorted((folder / "src").rglob("*.v"))]
    sources = " ".join(name for name in names if not name.endswith("_wrapper.v"))
    script = (
        f"read_verilog -defer {sources}\n"
        f"synth_xilinx -family {family} -top {NAME} -flatten -noiopad -noclkbuf\n"
        "tee -o stat.txt stat\n"
    )
    (folder / "synth.ys").write_text(script, encoding="utf-8")
    run(["yosys", "-q", "-s", "synth.ys"], folder, limits, remedy=APT)
    return count((folder / "stat.txt").read_text(encoding="utf-8"))


def count(report: str) -> Resources:
    """Reads the last module of what `stat` printed, which has none where all outputs are constants. Raises `CellFailed` for
    a report without cells."""
    cells: dict[str, int] = {}
    number, *lines = report.rpartition("Number of cells:")[2].splitlines() or [""]
    for line in lines:
        if found := CELL.match(line):
            cells[found[1]] = int(found[2])
    if not cells and number.strip() != "0":
        raise CellFailed("yosys counted no cells")
    return Resources(
        lut=_sum(cells, LUTS),
        ff=_sum(cells, FLIP_FLOPS),
        carry=_sum(cells, CARRIES),
        dsp=_sum(cells, DSPS),
        bram=_sum(cells, re.compile(r"RAMB18E1|RAMB18E2")) + 2 * _sum(cells, re.compile(r"RAMB36E1|RAMB36E2")),
    )


def _sum(cells: Mapping[str, int], kind: re.Pattern[str]) -> int:
    return sum(number for name, number in cells.items() if kind.fullmatch(name))
