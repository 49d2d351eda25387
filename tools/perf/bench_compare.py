"""A/A: one 5 ms model against itself beside neighbours that preempt it; what the old rule says of the same launches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from bench.commands.compare import measure_files
from bench.line.versus.until import Patience
from bench.paths import cache_folder
from bench.records import PairLaunch
from bench.stats.intervals import Estimate, mean_interval
from bench.stats.ratio import choose_blocks, take_logs
from tools.perf.subjects import baseline_onnx

NO_WAITS = 2
"""With this many threads no wait is subtracted: blocks that waited count as they are, as the old rule had it."""


def main() -> Iterator[str]:
    model = baseline_onnx("mobilenetv2(size=224)")
    for neighbours in (1, os.cpu_count() or 1):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
        try:
            done = measure_files(
                target="cpu",
                backend=None,
                a=model,
                b=model,
                blocks=20,
                patience=Patience(width=0.01),
                threads=1,
                batch=1,
                cache=cache_folder(os.environ),
                progress=lambda _what, _done: None,
            )
        finally:
            for process in busy:
                process.kill()
                process.wait()
        found = done.ratio
        yield f"A/A beside {neighbours} busy processes: {found.launches} launches in {done.seconds:.0f} s ({done.stopped})"
        yield f"  raw blocks and Student's interval (old): {show(judge_raw(done.pairs))}"
        now = Estimate(value=found.ratio, low=found.low, high=found.high, n=found.launches)
        yield f"  {found.basis} blocks and a trimmed interval: {show(now)}; {found.verdict}, {found.clean_share:.0%} clean"


def judge_raw(pairs: Sequence[PairLaunch]) -> Estimate:
    """The ratio as it was found before waits were subtracted."""
    logs = mean_interval([float(np.median(take_logs(choose_blocks(pair, NO_WAITS)[0]))) for pair in pairs])
    assert logs.low is not None
    assert logs.high is not None
    return Estimate(value=np.exp(logs.value), low=np.exp(logs.low), high=np.exp(logs.high), n=logs.n)


def show(found: Estimate) -> str:
    """The ratio with its interval and half width."""
    assert found.low is not None
    assert found.high is not None
    half = (found.high - found.low) / 2
    return f"{found.value:.4f} ({found.low:.4f} .. {found.high:.4f}), half width {half:.2%} (asked: at most 1 %)"
