"""Prints what the nightly detects and how often it is wrong."""

from __future__ import annotations

from tools.perf_stats.simulated import main

if __name__ == "__main__":
    main()
