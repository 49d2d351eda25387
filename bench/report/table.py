"""Records -> one flat row per cell: `cells.csv`. Every figure is computed here from the raw samples."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from bench.data.shift import SHIFTS
from bench.records import Quality, Record
from bench.report.budget import judge_budget
from bench.report.columns import CSV_COLUMNS
from bench.stats import (
    accuracy_of,
    drop_interval,
    energy_of,
    host_memory,
    latency,
    latency_p50,
    promised_speedup,
    ratio,
    score_drop_interval,
    score_interval,
)
from bench.stats.end_to_end import split_time
from bench.stats.summaries import SummarizedLatency, summarize
from bench.stats.sustained import Sustained, settle
from bench.types import Clock

Row = dict[str, str | int | float | None]
"""Column -> value, with exactly the columns of `CSV_COLUMNS` in their order; None is an empty field."""


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a field begins that a spreadsheet takes for a formula (CWE-1236)."""


def compute_rows(records: Sequence[Record]) -> list[Row]:
    """One row per record, in order. A missing figure is None, never 0.

    Speed-up, accuracy drop and compression compare a record with its own baseline (the cell
    `baseline_key` of the same run); they are None where that was not measured.
    """
    known = {(record.run_id, record.key): record for record in records}
    return [compute_row(record, known.get((record.run_id, record.baseline_key))) for record in records]


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Writes the rows with a header, in UTF-8. None and NaN are empty fields; text that a spreadsheet would compute has `'` before
    it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in CSV_COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _field(value) for name, value in row.items()} for row in compute_rows(records))


def _field(value: str | float | None) -> str | float | None:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return None if isinstance(value, float) and math.isnan(value) else value


def compute_row(record: Record, baseline: Record | None) -> Row:
    """The row of one record."""
    filled: Row = {
        **identity_columns(record),
        **cost_columns(record, baseline),
        **quality_columns(record, baseline),
        **latency_columns(record),
        **speedup_columns(record, baseline),
        **cold_columns(record),
        **sustained_columns(record),
        **end_to_end_columns(record),
        **memory_columns(record),
        **energy_columns(record),
        **simulation_columns(record),
    }
    filled["budget"] = judge_budget(record.budget, filled)
    return {column.name: filled.get(column.name) for column in CSV_COLUMNS}


def is_baseline(record: Record) -> bool:
    """Whether the other cells of its model are compared with this one."""
    return record.key == record.baseline_key


def identity_columns(record: Record) -> Row:
    """What was measured where, and how it ended."""
    return {
        "run_id": record.run_id,
        "started_at": record.started_at,
        "target": record.target,
        "device": record.device,
        "backend": record.backend,
        "backend_version": record.backend_version or None,
        "model": record.model,
        "weights_from": record.weights or None,
        "data": record.data or None,
        "inputs": record.inputs or None,
        "recipe": record.recipe,
        "calibration": record.calibration or None,
        "batch": record.conditions.batch,
        "threads": record.conditions.threads,
        "status": record.status.value,
        "reason": "; ".join(record.reasons) or None,
        "clock": record.clock.value,
        "digest": record.digest or None,
    }


def cost_columns(record: Record, baseline: Record | None) -> Row:
    """Counts of the deployed file; `compression_ratio` is the baseline's file over this one's.

    No MACs where the counter has no rule for an operator: the sum would leave that operator out.
    """
    cost = record.cost
    if cost is None:
        return {}
    base = baseline.cost if baseline else None
    return {
        "params": cost.params,
        "nonzero_params": cost.nonzero_params,
        "macs": None if cost.unknown else cost.macs,
        "flops": None if cost.unknown else cost.flops,
        "file_bytes": cost.file_bytes,
        "entropy_bytes": cost.entropy_bytes,
        "compression_ratio": base.file_bytes / cost.file_bytes if base and cost.file_bytes else None,
        "promised_speedup": promised_speedup(base, cost),
    }


def quality_columns(record: Record, baseline: Record | None) -> Row:
    """Accuracies as fractions; the drop in percentage points, positive is worse.

    `shifted_accuracy` is the mean over the corruptions of the test set, without other data sets
    (`other_accuracies`).
    """
    quality = record.quality
    if quality is None:
        return {}
    base = baseline.quality if baseline else None
    corrupted = [accuracy for name, accuracy in quality.shifted.items() if name in SHIFTS]
    return {
        **accuracy_columns(quality, base),
        **(score_columns(quality, base) if quality.score else {}),
        "test_samples": quality.labelled or None,
        "shifted_accuracy": fmean(corrupted) if corrupted else None,
        "output_max_abs_err": quality.output_max_abs_err,
        "output_relative_rms": find_relative_rms(quality),
        "top1_agreement": quality.top1_agreement,
    }


def accuracy_columns(quality: Quality, base: Quality | None) -> Row:
    """The accuracy and its drop, each with its interval; and both again as the score of a classification."""
    found = accuracy_of(quality)
    if found is None:
        return {}
    drop = None if base is None or base.accuracy is None else base.accuracy - found.value
    row: Row = {
        "score_name": "accuracy",
        "accuracy": found.value,
        "accuracy_low": found.low,
        "accuracy_high": found.high,
        "accuracy_drop_pp": None if drop is None else 100 * drop,
        "score": found.value,
        "score_low": found.low,
        "score_high": found.high,
        "score_drop": drop,
    }
    if drop is None or quality.lost is None or quality.gained is None or not quality.labelled:
        return row
    paired = drop_interval(quality.lost, quality.gained, quality.labelled)
    assert paired.low is not None
    assert paired.high is not None
    return {
        **row,
        "accuracy_drop_low_pp": 100 * paired.low,
        "accuracy_drop_high_pp": 100 * paired.high,
        "score_drop_low": paired.low,
        "score_drop_high": paired.high,
    }


def score_columns(quality: Quality, base: Quality | None) -> Row:
    """The score of a task and how much worse it is, each with its interval."""
    assert quality.score is not None
    found = score_interval(quality.score, quality.labelled)
    before = base.score if base else None
    row: Row = {
        "score_name": quality.score.name,
        "score": found.value,
        "score_low": found.low,
        "score_high": found.high,
    }
    if before is None or before.name != quality.score.name:
        return row
    drop = score_drop_interval(before, quality.score, quality.labelled)
    itself = base is quality
    return {
        **row,
        "score_drop": drop.value,
        "score_drop_low": None if itself else drop.low,
        "score_drop_high": None if itself else drop.high,
    }


def find_relative_rms(quality: Quality) -> float | None:
    """Of the output that is furthest from its reference; None where no figure counts."""
    told = [one.relative_rms for one in quality.outputs if one.relative_rms is not None and one.counts]
    return max(told, default=None)


def other_accuracies(record: Record) -> dict[str, float]:
    """Accuracies on other data sets than the run's, by a name that no column of cells.csv has."""
    shifted = record.quality.shifted if record.quality else {}
    return {f"accuracy on {name}": accuracy for name, accuracy in shifted.items() if name not in SHIFTS}


def explain_tails(record: Record, row: Row) -> dict[str, str]:
    """Column -> why the samples of a measured cell support no 90th or 99th percentile."""
    tails = [name for name in ("p90", "p99") if row[f"latency_{name}_ms"] is None]
    if record.clock is Clock.SIMULATED or not tails:
        return {}
    if summarized := summarize(record.launches):
        return dict(summarized.missing)
    if not has_samples(record):
        return {}
    why = latency(record.launches, record.clock).missing
    return {f"latency_{name}_ms": why[name] for name in tails}


def latency_columns(record: Record) -> Row:
    """Milliseconds of one inference of a whole batch. A simulator's figure fills `latency_p50_ms` only."""
    if record.clock is Clock.SIMULATED:
        simulated = record.simulation.latency_ms if record.simulation else None
        return median_columns(simulated, record)
    if summarized := summarize(record.launches):
        return summarized_columns(summarized, record)
    if not has_samples(record):
        return {}
    found = latency(record.launches, record.clock)
    return {
        **median_columns(found.p50.value, record),
        "latency_mean_ms": found.mean,
        "latency_p90_ms": found.p90,
        "latency_p99_ms": found.p99,
        "latency_p50_low_ms": found.p50.low,
        "latency_p50_high_ms": found.p50.high,
        "samples": found.samples,
        "clean_share": found.clean_share,
    }


def find_p50_ms(record: Record) -> float | None:
    """`latency_p50_ms` by itself: a history reads no other latency."""
    if record.clock is Clock.SIMULATED:
        return record.simulation.latency_ms if record.simulation else None
    if summarized := summarize(record.launches):
        return summarized.p50.value if summarized.p50 else None
    return latency_p50(record.launches, record.clock) if has_samples(record) else None


def summarized_columns(found: SummarizedLatency, record: Record) -> Row:
    """The same from summaries, as far as they go."""
    p50 = found.p50
    return {
        **median_columns(p50.value if p50 else None, record),
        "latency_mean_ms": found.mean,
        "latency_p50_low_ms": p50.low if p50 else None,
        "latency_p50_high_ms": p50.high if p50 else None,
        "samples": found.samples,
    }


def median_columns(p50_ms: float | None, record: Record) -> Row:
    """The median and the throughput it allows when inferences run one after another."""
    return {
        "latency_p50_ms": p50_ms,
        "throughput_per_s": 1e3 * record.conditions.batch / p50_ms if p50_ms else None,
    }


def has_samples(record: Record) -> bool:
    """Whether any launch left samples of the clock that counts, or their summary."""
    if summarize(record.launches):
        return True
    device = record.clock is Clock.DEVICE
    return any(launch.device_ns if device else launch.samples_ns for launch in record.launches)


def speedup_columns(record: Record, baseline: Record | None) -> Row:
    """Time of the baseline over time of this, from interleaved pairs; exactly 1 for a measured baseline.

    A simulated cell that computes outputs is compared with its own simulated baseline: both times are without noise.
    """
    if record.clock is Clock.SIMULATED and record.quality is not None:
        return simulated_speedup(record, baseline)
    if is_baseline(record):
        return {"speedup": 1.0, "speedup_low": 1.0, "speedup_high": 1.0} if has_samples(record) else {}
    if not any(pair.blocks_ns for pair in record.pairs):
        return {}
    found = ratio(record.pairs, record.smallest_effect, threads=record.conditions.threads)
    return {
        "speedup": found.speedup.value,
        "speedup_low": found.speedup.low,
        "speedup_high": found.speedup.high,
        "speedup_verdict": found.verdict,
        "smallest_effect": record.smallest_effect,
    }


def end_to_end_columns(record: Record) -> Row:
    """The inference with the user's functions around it."""
    parts = split_time([launch.end_to_end for launch in record.launches if launch.end_to_end])
    if parts is None:
        return {}
    return {
        "end_to_end_ms": parts.whole_ms,
        "preprocess_ms": parts.before_ms,
        "postprocess_ms": parts.after_ms,
        "processing_share": parts.share,
    }


def simulated_speedup(record: Record, baseline: Record | None) -> Row:
    """Of simulated times of one simulator; nothing where either is not known."""
    before, now = (one.simulation.latency_ms if one and one.simulation else None for one in (baseline, record))
    return {"speedup": before / now} if before and now else {}


def cold_columns(record: Record) -> Row:
    """Milliseconds from the start of a process to its first answer, and its parts: medians over launches."""
    launches = record.launches
    colds = [(launch.load_ms, launch.cold) for launch in launches if launch.cold]
    begun = [(load_ms, cold, cold.start_ms) for load_ms, cold in colds if cold.start_ms is not None]
    imported = [cold.runtime_ms for _, cold in colds if cold.runtime_ms is not None]
    whole = [start + (cold.runtime_ms or 0.0) + load_ms + cold.first_ms for load_ms, cold, start in begun]
    return {
        "cold_start_ms": median(whole) if whole else None,
        "process_start_ms": median(start for *_, start in begun) if begun else None,
        "runtime_load_ms": median(imported) if imported else None,
        "load_ms": median(launch.load_ms for launch in launches) if launches else None,
        "first_inference_ms": median(cold.first_ms for _, cold in colds) if colds else None,
    }


def sustained_columns(record: Record) -> Row:
    """Milliseconds of the first second of a sustained run and after heat has settled."""
    found = find_sustained(record)
    if found is None:
        return {}
    settled, first = found.settled_ms, found.first_ms
    return {
        "sustained_first_ms": first,
        "sustained_p50_ms": settled,
        "sustained_slowdown": settled / first if settled is not None and first else None,
        "settled_after_s": found.after_s,
    }


def find_sustained(record: Record) -> Sustained | None:
    """What the launch that ran for long shows; None where none did."""
    return settle(next((launch.sustained for launch in record.launches if launch.sustained), ()))


def explain_sustained(record: Record) -> dict[str, str]:
    """Why a sustained run has no settled figure."""
    found = find_sustained(record)
    columns = ("sustained_p50_ms", "sustained_slowdown", "settled_after_s")
    return dict.fromkeys(columns, found.reason) if found and found.reason else {}


def memory_columns(record: Record) -> Row:
    """Bytes: medians over launches of what loading left resident and of the worst growth after import.

    An estimate has the memory of the device that it is an estimate for.
    """
    launches = record.launches
    if not launches and record.simulation:
        return {"memory_peak_bytes": record.simulation.memory_bytes}
    found = host_memory(launches)
    return {
        "memory_model_bytes": found.model,
        "memory_peak_bytes": found.peak,
    }


def energy_columns(record: Record) -> Row:
    """Millijoules above idle per input, mean watts with idle included, and the meter or the reason there is none."""
    found = energy_of(record.launches, record.conditions.batch)
    if found is None:
        why = record.missing.get("energy_per_inference_mj") or f"no meter was read (cell {record.status.value})"
        return {"energy_source": why if why.startswith("none") else f"none: {why}"}
    if found.joules is None:
        return {"power_w": found.watts, "energy_source": f"none: {found.reason} ({found.source})"}
    return {
        "power_w": found.watts,
        "energy_per_inference_mj": 1e3 * found.joules.value,
        "energy_source": found.source,
    }


def simulation_columns(record: Record) -> Row:
    """What a simulator, an emulator or an estimator counted, and where each count comes from where there are several."""
    simulation = record.simulation
    if simulation is None:
        return {}
    names = ("cycles", "initiation_interval", "lut", "ff", "dsp", "bram", "instructions", "memory_accesses")
    said = [f"{name}: {source}" for name, source in simulation.notes.get("sources", {}).items()]
    return {**{name: getattr(simulation, name) for name in names}, "count_sources": "; ".join(said) or None}
