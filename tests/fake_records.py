"""Records as a run would leave them, made from a seed: what reports and stores are tested with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from bench.cost.roofline import Roofline
from bench.records import EnergyWindow, Launch, LayerTime, MemoryPhase, PairLaunch, Quality, Record, Run
from bench.types import Clock, Conditions, Cost, Simulation, Status

NO_METER = "none: no meter here (no /sys/class/powercap/intel-rapl:0)"
MIB = 2**20
CALIBRATED = "256 samples of the training set of digits, seed 0"

# (milliseconds, parameters, MACs, accuracy) of the float32 baseline
MODELS = {
    "lenet5": (0.042, 61_706, 416_520, 0.9821),
    "resnet8": (0.61, 77_850, 12_501_632, 0.9744),
    "mobilenetv2(width=0.35)": (1.18, 397_402, 5_603_000, 0.9688),
}
# (speed-up, share of MACs that stay, of parameters, of bytes, accuracy drop)
RECIPES = {
    "baseline": (1.0, 1.0, 1.0, 1.0, 0.0),
    "magnitude50-ft": (1.01, 0.5, 0.5, 1.0, 0.003),
    "channels30-ft": (1.31, 0.49, 0.5, 0.52, 0.004),
    "channels50-ft": (1.72, 0.26, 0.27, 0.28, 0.011),
    "int8-static": (2.1, 1.0, 1.0, 0.29, 0.002),
    "int8-dynamic": (0.22, 1.0, 1.0, 0.3, 0.001),
    "float16": (0.81, 1.0, 1.0, 0.51, 0.0),
    "channels50-ft-int8": (3.0, 0.26, 0.27, 0.1, 0.014),
}


def run(run_id: str = "20261122-101500-cpu", **changes: object) -> Run:
    """One run on an imagined laptop."""
    base = Run(
        run_id=run_id,
        started_at="2026-11-22T10:15:00+00:00",
        finished_at="2026-11-22T10:21:40+00:00",
        target="cpu",
        suite="default",
        status="finished",
        machine={"cpu": "Imagined CPU @ 2.80GHz", "cores": 2, "memory_bytes": 8 * 2**30, "governor": "performance"},
        version="0.1.0",
        revision="0123abc",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def record(run_id: str = "20261122-101500-cpu", **changes: object) -> Record:
    """The least a record says."""
    base = Record(
        run_id=run_id,
        key="cell",
        started_at="2026-11-22T10:15:00+00:00",
        target="cpu",
        device="Imagined CPU @ 2.80GHz",
        backend="ort",
        backend_version="1.31.1",
        model="lenet5",
        recipe="baseline",
        recipe_text="",
        conditions=Conditions(),
        status=Status.OK,
        data="digits",
        weights="trained here on digits, seed 0",
        missing={"power_w": NO_METER, "energy_per_inference_mj": NO_METER},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def roofline(**changes: Any) -> Roofline:
    """What ONNX Runtime reaches on the imagined laptop."""
    base = Roofline(
        device="Imagined CPU @ 2.80GHz",
        backend="ort",
        version="1.31.1",
        macs_per_s={"float32": 1e10, "int8": 4e10},
        bandwidth=((2**10, 1e10),),
        node_s=1e-6,
        call_s=5e-6,
    )
    return replace(base, **changes)


def on(backend: str, milliseconds: float, **changes: Any) -> Record:
    """What one backend measured, of the baseline unless a recipe is named."""
    recipe, conditions = changes.get("recipe", "baseline"), changes.get("conditions", Conditions())
    return record(
        **{
            "key": f"{backend}/{recipe}/{conditions}",
            "baseline_key": f"{backend}/baseline/{conditions}",
            "backend": backend,
            "launches": launches(np.random.default_rng(0), milliseconds),
            "quality": Quality(samples=9, accuracy=0.9),
            **changes,
        }
    )


def launches(
    random: np.random.Generator, milliseconds: float, *, count: int = 3, samples: int = 400, bytes_loaded: int = MIB
) -> tuple[Launch, ...]:
    """Fresh processes: each shifted by about 0.8 %, one sample in twelve preempted, memory in four phases."""
    found = []
    for _ in range(count):
        shift = milliseconds * 1e6 * np.exp(random.normal(0, 0.008))
        waits = np.where(random.random(samples) < 1 / 12, random.integers(30_000, 4_000_000, samples), 0)
        times = shift * np.exp(np.abs(random.normal(0, 0.01, samples))) + waits
        found.append(
            Launch(
                samples_ns=tuple(int(t) for t in times),
                waits_ns=tuple(int(w) for w in waits),
                warmup=50,
                load_ms=float(4 + milliseconds * random.uniform(3, 4)),
                memory=tuple(
                    MemoryPhase(name=name, start_bytes=start, peak_bytes=peak, end_bytes=end)
                    for name, start, peak, end in (
                        ("imported", 12 * MIB, 58 * MIB, 57 * MIB),
                        ("loaded", 57 * MIB, 58 * MIB + 2 * bytes_loaded, 57 * MIB + bytes_loaded),
                        ("first_run", 57 * MIB + bytes_loaded, 60 * MIB + bytes_loaded, 59 * MIB + bytes_loaded),
                        ("steady", 59 * MIB + bytes_loaded, 60 * MIB + bytes_loaded, 59 * MIB + bytes_loaded),
                    )
                ),
            )
        )
    return tuple(found)


def pairs(
    random: np.random.Generator, milliseconds: float, speedup: float, *, count: int = 6
) -> tuple[PairLaunch, ...]:
    """ABBA launches of a baseline and a candidate that is `speedup` times as fast."""
    found = []
    for index in range(count):
        shift = np.exp(random.normal(0, 0.006))
        base = milliseconds * 1e6
        rows = base * np.exp(random.normal(0, 0.01, (16, 4))) * [1, shift / speedup, shift / speedup, 1]
        found.append(PairLaunch(blocks_ns=tuple(tuple(row) for row in rows.tolist()), first="ab"[index % 2], loops=8))
    return tuple(found)


def cost(params: int, macs: int, *, keep: tuple[float, float, float] = (1.0, 1.0, 1.0), dense: bool = False) -> Cost:
    """The cost after a recipe that keeps these shares of MACs, parameters and bytes; `dense` keeps zeros stored."""
    macs_left, params_left = int(macs * keep[0]), int(params * keep[1])
    return Cost(
        params=params if dense else params_left,
        nonzero_params=params_left,
        macs=macs if dense else macs_left,
        nonzero_macs=macs_left,
        flops=2 * (macs if dense else macs_left),
        file_bytes=int(4 * params * keep[2]) + 2048,
        weight_bytes=int(4 * params * keep[2]),
        activation_bytes=params,
        peak_activation_bytes=params // 2,
        entropy_bytes=int(3.6 * params_left * keep[2]),
    )


def profile(random: np.random.Generator, milliseconds: float) -> tuple[LayerTime, ...]:
    """A runtime's per-layer times that sum to the latency."""
    shares = random.dirichlet(np.ones(14))
    return tuple(
        LayerTime(
            name=f"/features/conv_{index}/Conv", operator="Conv", mean_us=float(share * milliseconds * 1e3), runs=50
        )
        for index, share in enumerate(shares)
    )


def suite(seed: int = 7, run_id: str = "20261122-101500-cpu") -> list[Record]:
    """Every model by every recipe, measured, and one cell of each way to go wrong."""
    random = np.random.default_rng(seed)
    return [*measured(random, run_id), *troubled(random, run_id)]


def measured(random: np.random.Generator, run_id: str) -> Iterator[Record]:
    """The cells that went well."""
    for model, (base_ms, params, macs, accuracy) in MODELS.items():
        taste = 1.0 + 0.25 * random.standard_normal()
        for recipe, (usual, *keep, drop) in RECIPES.items():
            speedup = 1.0 if recipe == "baseline" else usual * (1.0 if keep[0] == 0.5 else abs(taste)) ** 0.8
            if recipe == "float16" and model == "lenet5":
                continue
            milliseconds = base_ms / speedup
            yield record(
                run_id,
                key=f"{model}/{recipe}",
                model=model,
                recipe=recipe,
                recipe_text="" if recipe == "baseline" else recipe.replace("-", " + "),
                cost=cost(params, macs, keep=(keep[0], keep[1], keep[2]), dense=recipe.startswith("magnitude")),
                launches=launches(random, milliseconds, bytes_loaded=4 * int(params * keep[2])),
                pairs=() if recipe == "baseline" else pairs(random, base_ms, speedup),
                baseline_key=f"{model}/baseline",
                quality=Quality(
                    samples=360,
                    labelled=360,
                    lost=None if recipe == "baseline" else round(360 * drop) + 2,
                    gained=None if recipe == "baseline" else 2,
                    accuracy=accuracy - drop,
                    reference_accuracy=accuracy,
                    output_max_abs_err=0.0 if recipe == "baseline" else float(random.uniform(1e-3, 0.4)),
                    top1_agreement=1.0 - drop,
                    shifted={"gaussian_noise": accuracy - drop - 0.05, "blur": accuracy - drop - 0.02},
                ),
                profile=profile(random, milliseconds) if recipe in {"baseline", "int8-static"} else (),
                digest=sha256(f"{model}/{recipe}".encode()).hexdigest(),
                inputs="360 samples of the test set of digits",
                calibration=CALIBRATED if recipe.endswith(("int8", "int8-static")) else "",
            )


def troubled(random: np.random.Generator, run_id: str) -> Iterator[Record]:
    """One cell of each other status, and one that was simulated."""
    yield record(
        run_id,
        key="lenet5/float16",
        recipe="float16",
        status=Status.UNTRUSTED,
        reasons=("asked for float16 kernels and got float32: every Conv runs in FusedConv(float)",),
        cost=cost(61_706, 416_520, keep=(1, 1, 0.5)),
        launches=launches(random, 0.05),
    )
    yield record(
        run_id,
        key="resnet8/wanda",
        model="resnet8",
        recipe="wanda50",
        status=Status.SKIPPED,
        reasons=("wanda prunes torch modules; this model came as a file",),
    )
    yield record(
        run_id,
        key="mobilenetv2/int4",
        model="mobilenetv2(width=0.35)",
        recipe="int4",
        status=Status.FAILED,
        reasons=("worker killed by signal 9 after 41 s (1,204 MiB resident)",),
    )
    yield record(
        run_id,
        key="resnet8/channels10",
        model="resnet8",
        recipe="channels10-ft",
        status=Status.INCONCLUSIVE,
        reasons=("the interval of the median was still 3.1 % wide at the time limit of 20 s",),
        launches=launches(random, 0.6, samples=60),
        cost=cost(77_850, 12_501_632, keep=(0.9, 0.9, 0.9)),
    )
    yield record(
        run_id,
        key="hls/lenet300",
        target="fpga",
        backend="hls",
        backend_version="1.3.0",
        device="xcu250",
        clock=Clock.SIMULATED,
        model="lenet300",
        recipe="int8",
        simulation=Simulation(source="hls4ml", latency_ms=0.00021, cycles=42, lut=31_137, initiation_interval=1),
        cost=cost(266_610, 266_200),
    )


def energy(millijoules: float = 2.0, windows: int = 3, source: str = "measured:rapl") -> tuple[EnergyWindow, ...]:
    """Windows of 500 inferences over 1 s each, 4 W idle."""
    return tuple(
        EnergyWindow(
            meter=source.partition(":")[2],
            source=source,
            joules=4.0 + 0.5 * millijoules * (1 + index / 100),
            seconds=1.0,
            inferences=500,
            idle_joules=4.0,
            idle_seconds=1.0,
        )
        for index in range(windows)
    )
