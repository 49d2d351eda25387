"""A/A: one 5 ms model against itself while one core is busy with other work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.commands.compare import compare_files
from bench.paths import cache_folder
from tools.perf.subjects import baseline_onnx


def main() -> Iterator[str]:
    model = baseline_onnx("mobilenetv2(size=224)")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        start = time.perf_counter()
        found = compare_files(
            target="cpu",
            backend=None,
            a=model,
            b=model,
            launches=20,
            blocks=20,
            threads=1,
            batch=1,
            cache=cache_folder(os.environ),
            progress=lambda _what, _done: None,
        )
        took = time.perf_counter() - start
    finally:
        busy.kill()
        busy.wait()
    half = (found["high"] - found["low"]) / 2
    yield f"A/A with a busy core: {found['ratio']:.4f} ({found['low']:.4f} .. {found['high']:.4f}), {found['verdict']}"
    yield f"half width {half:.2%} (asked: at most 1 %), holds 1: {found['low'] <= 1 <= found['high']}"
    yield f"{found['launches']} launches in {took:.0f} s (asked: under 60 s)"
