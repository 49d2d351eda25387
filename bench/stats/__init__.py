"""Pure statistics: raw samples in, estimates with intervals out. Deterministic, no resampling."""

from bench.stats.energy import Energy, energy_per_inference
from bench.stats.intervals import Estimate, mean_interval, median_interval
from bench.stats.latency import Latency, clean, latency
from bench.stats.ratio import Ratio, ratio

__all__ = [
    "Energy",
    "Estimate",
    "Latency",
    "Ratio",
    "clean",
    "energy_per_inference",
    "latency",
    "mean_interval",
    "median_interval",
    "ratio",
]
