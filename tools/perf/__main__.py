"""Runs every benchmark here, or those named on the command line, and prints what they find."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    folder = Path(__file__).parent
    known = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    unknown = set(sys.argv[1:]) - set(known)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    for name in sys.argv[1:] or known:
        print(f"\n## {name}", flush=True)
        for line in import_module(f"tools.perf.bench_{name}").main():
            print(line, flush=True)


if __name__ == "__main__":
    main()
