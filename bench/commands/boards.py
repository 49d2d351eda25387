"""What `pressbench targets check` and `targets clean` do on a board reached by SSH and on a phone."""

from __future__ import annotations

from typing import Any

from bench.config.target import Target
from bench.line.measure import find_meters
from bench.reach.base import Reach
from bench.types import Json

RUNTIMES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ort": ("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "{python} -m pip install onnxruntime"),
    "litert": ("ai_edge_litert", ("ai-edge-litert",), "{python} -m pip install ai-edge-litert"),
    "executorch": ("executorch", ("executorch",), "{python} -m pip install executorch"),
    "openvino": ("openvino", ("openvino",), "{python} -m pip install openvino"),
    "pytorch": ("torch", ("torch",), "{python} -m pip install torch"),
    "trt": ("tensorrt", ("tensorrt",), "sudo apt install nvidia-jetpack"),
}
"""Backend -> the package that its session imports, its distributions, and what installs it on a board."""
WRONG_CLOCK_S = 60.0


def look_at_board(target: Target, reach: Reach) -> list[dict[str, Json]]:
    """Rows `kind`, `name`, `state`, `lacking`, `remedy` of what a board has. Raises `Unavailable` if it has no answer."""
    if target.reach == "adb":
        from bench.reach.adb.reach import Adb

        assert isinstance(reach, Adb)
        return reach.check_up()
    from bench.reach.ssh.reach import Ssh

    assert isinstance(reach, Ssh)
    wanted = [RUNTIMES[choice.name] for choice in target.backend if choice.name in RUNTIMES]
    runtimes = {package: (names, remedy.format(python=target.python)) for package, names, remedy in wanted}
    rows, hello = reach.probe(runtimes, find_meters(target))
    return [
        {"kind": "python", "name": str(hello["executable"]), "state": hello["python"]},
        {"kind": "runtime", "name": "numpy", "state": hello["numpy"]},
        *rows,
        _describe_clock(hello["offset_s"]),
    ]


def clean_board(target: Target, reach: Reach) -> dict[str, Any]:
    """Removes what runs left on a board: `freed` bytes, and the names that are `left` because they are not ours."""
    if target.reach == "adb":
        from bench.reach.adb.reach import Adb

        assert isinstance(reach, Adb)
        return reach.clean()
    from bench.reach.ssh.reach import Ssh

    assert isinstance(reach, Ssh)
    return reach.clean()


def _describe_clock(offset_s: float) -> dict[str, Json]:
    wrong = abs(offset_s) > WRONG_CLOCK_S
    return {
        "kind": "clock offset",
        "name": "date",
        "state": f"{offset_s:+z.1f} s",
        "lacking": "the date there is wrong; durations are right, they come from clocks without a date"
        if wrong
        else "",
        "remedy": "sudo timedatectl set-ntp true" if wrong else "",
    }
