"""Pure statistics: raw samples in, estimates with intervals out. Deterministic, no resampling."""

from bench.stats.energy import Energy, energy_of, energy_per_inference
from bench.stats.intervals import Estimate, mean_interval, median_interval
from bench.stats.latency import Latency, keep_clean, latency, latency_p50
from bench.stats.memory import HostMemory, host_memory
from bench.stats.quality import accuracy_interval, accuracy_of, drop_interval, score_drop_interval, score_interval
from bench.stats.ratio import Ratio, promised_speedup, ratio
from bench.stats.verdict import Verdict, decide_verdict

__all__ = [
    "Energy",
    "Estimate",
    "HostMemory",
    "Latency",
    "Ratio",
    "Verdict",
    "accuracy_interval",
    "accuracy_of",
    "decide_verdict",
    "drop_interval",
    "energy_of",
    "energy_per_inference",
    "host_memory",
    "keep_clean",
    "latency",
    "latency_p50",
    "mean_interval",
    "median_interval",
    "promised_speedup",
    "ratio",
    "score_drop_interval",
    "score_interval",
]
