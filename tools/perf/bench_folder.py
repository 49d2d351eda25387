"""Memory of a whole run with a folder of 100,000 images, above that of the same run with 100."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

MANY, FEW = 100_000, 100
SIDE = 32
CLASSES = 4
MOST_BYTES = 10**9
POLL_S = 0.25
NETWORK = """
from torch import nn

def build():
    layers = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, CLASSES)
    return nn.Sequential(*layers)
"""
SUITE = """
name = "folder"
data = "DATA"
models = ["net_of_folder:build"]
backends = ["ort"]
shifts = true

[recipes]
int8 = "int8()"
tuned = "finetune(epochs=1)"

[measure]
launches = 1
pairs = 0
time_s = 0.2
warmup_s = 0.1
profile_runs = 0
"""


@dataclass(slots=True)
class Peaks:
    """The most resident bytes of the command and of its largest worker. `anonymous`: without pages of mapped files."""

    command: int = 0
    worker: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    def look(self, command: psutil.Process) -> None:
        """Reads the kernel's high-water marks."""
        for process in (command, *command.children(recursive=True)):
            try:
                text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            found = next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)
            if process.pid == command.pid:
                self.command = max(self.command, found)
            else:
                self.worker = max(self.worker, found)


def main() -> Iterator[str]:
    yield f"resident memory of `run` with int8() and finetune on images of {SIDE}x{SIDE}, the most at any time"
    found = {}
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as name:
            start = time.perf_counter()
            folder = Path(name)
            write_images(folder / "images", count)
            written = time.perf_counter()
            found[count] = measure(folder)
            took = f"{written - start:.0f} s to write, {time.perf_counter() - written:.0f} s to run"
            peaks = found[count]
            yield f"{count} images: command {peaks.command / 1e6:.0f} MB, worker {peaks.worker / 1e6:.0f} MB ({took})"
    for who in ("command", "worker"):
        above = getattr(found[MANY], who) - getattr(found[FEW], who)
        verdict = "within" if above < MOST_BYTES else "OVER"
        yield f"{who}: {above / 1e6:.0f} MB above the run with {FEW} images ({verdict} {MOST_BYTES / 1e6:.0f} MB)"


def write_images(folder: Path, count: int) -> None:
    """Noise around a colour of each class."""
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        place = folder / f"class{label}"
        place.mkdir(parents=True)
        for number in range(count // CLASSES):
            pixels = generator.integers(0, 128, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[..., label % 3] += np.uint8(32 * label)
            Image.fromarray(pixels).save(place / f"{number:06}.png", compress_level=1)


def measure(folder: Path) -> Peaks:
    """Peaks of `pressbench run` in a process of its own, with its own cache."""
    (folder / "net_of_folder.py").write_text(NETWORK.replace("CLASSES", str(CLASSES)), encoding="utf-8")
    (folder / "suite.toml").write_text(SUITE.replace("DATA", str(folder / "images")), encoding="utf-8")
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PRESSBENCH_CACHE": str(folder / "cache")}
    arguments = ["run", "--target", "cpu", "--suite", str(folder / "suite.toml"), "--results", str(folder / "results")]
    command = [sys.executable, "-c", "from bench.cli import main; main()", *arguments]
    peaks = Peaks()
    with (folder / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peaks.look(psutil.Process(process.pid))
            time.sleep(POLL_S)
        log.seek(0)
        if process.returncode:
            sys.exit(f"the run ended with exit code {process.returncode}:\n{log.read()[-2000:]}")
    return peaks
