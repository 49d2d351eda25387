"""Tries every claim on every seed and writes docs/papers.md.

What is found is kept under the cache as it comes: an interrupted run goes on where it stopped.
Ends with 1 when a claim is not reached.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from bench.paths import cache_folder

from .claims import Claim
from .page import Settled, page, settle
from .runner import Key, try_all
from .speed import SPEED, one_shots
from .table import CLAIMS
from .trial import ROOT, Found


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.papers", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--only", default="", help="claims whose title holds this text; printed, not written")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "papers.md")
    options = parser.parse_args()
    claims = [claim for claim in CLAIMS if options.only.lower() in claim.title.lower()]
    cache = cache_folder(os.environ)
    data_root = str((ROOT / os.environ.get("PRESSBENCH_DATA", "../shared")).resolve())
    started = time.perf_counter()
    found = try_all(claims, options.seeds, processes=options.processes, cache=cache, data_root=data_root)
    settled = [_settle(claim, options.seeds, found) for claim in claims]
    if options.only.lower() in SPEED.title.lower():
        settled.append(one_shots(options.seeds, cache))
    spent = (time.perf_counter() - started, sum(one.cpu_s for one in found.values()))
    text = page(settled, options.seeds, *spent)
    if options.only:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"{options.out}: {sum(one.reached for one in settled)} of {len(settled)} claims reached")
    sys.exit(0 if all(one.reached for one in settled) else 1)


def _settle(claim: Claim, seeds: Sequence[int], found: Mapping[Key, Found]) -> Settled:
    judges = claim.seeds(seeds)
    tried = [{name: found[asked, seed] for name, asked in claim.trials.items()} for seed in judges]
    spent = {name: fmean(one[name].cpu_s for one in tried) for name in claim.trials}
    return settle(claim, tried, spent, judges)


if __name__ == "__main__":
    main()
