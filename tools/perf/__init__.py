"""Benchmarks of the harness itself: `make perf` runs them all. Ratios from one run; nothing is asserted by time."""
