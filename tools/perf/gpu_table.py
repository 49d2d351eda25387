"""What `make gpu` leaves for people: the machine, the checks, the table, as one markdown page and a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from bench.records import Record
from bench.stats import energy_of, latency, promised_speedup, ratio
from bench.types import Clock, Json

COLUMNS = (
    "model", "batch", "backend", "recipe", "status", "latency_ms", "host_ms", "throughput_per_s", "mj_per_inference",
    "watts", "torch_peak_mib", "nvml_process_mib", "device_used_mib", "promised", "delivered", "delivered_by", "reason",
)  # fmt: skip


def rows(records: Sequence[Record]) -> list[dict[str, str]]:
    """One row a cell; what is missing is empty, its reason in the last column."""
    ordered = sorted(records, key=lambda item: (item.model, item.conditions.batch, item.backend, item.recipe))
    baselines = {record.key: record for record in records}
    return [_row(record, baselines) for record in ordered]


def _row(record: Record, known: Mapping[str, Record]) -> dict[str, str]:
    batch = record.conditions.batch
    row = {
        "model": record.model,
        "batch": str(batch),
        "backend": record.backend,
        "recipe": record.recipe,
        "status": record.status.value,
        "reason": "; ".join(record.reasons),
    }
    if not record.launches:
        return row
    middle = latency(record.launches, record.clock).p50.value
    row["latency_ms"] = f"{middle:.4g}"
    row["host_ms"] = f"{latency(record.launches, Clock.HOST).p50.value:.4g}"
    row["throughput_per_s"] = f"{1e3 * batch / middle:.0f}"
    row |= _energy(record) | _memory(record) | _promise(record, known)
    return row


def _energy(record: Record) -> dict[str, str]:
    found = energy_of(record.launches, record.conditions.batch)
    if found is None:
        return {}
    row = {} if found.watts is None else {"watts": f"{found.watts:.0f}"}
    if found.joules is not None:
        row["mj_per_inference"] = f"{1e3 * found.joules.value:.4g}"
    return row


def _memory(record: Record) -> dict[str, str]:
    figures = record.launches[0].device_memory
    names = {
        "torch_peak_mib": "torch_allocated_peak_bytes",
        "nvml_process_mib": "nvml_process_bytes",
        "device_used_mib": "device_used_bytes",
    }
    return {column: f"{figures[name] / 2**20:.0f}" for column, name in names.items() if name in figures}


def _promise(record: Record, known: Mapping[str, Record]) -> dict[str, str]:
    """MACs of the baseline over those left (zeros left out); time of the baseline over ours."""
    baseline = known.get(record.baseline_key)
    if record.key == record.baseline_key or baseline is None or record.cost is None or baseline.cost is None:
        return {}
    ratio_of_macs = promised_speedup(baseline.cost, record.cost)
    row = {} if ratio_of_macs is None else {"promised": f"{ratio_of_macs:.2f}"}
    if record.pairs:
        return row | {"delivered": f"{ratio(record.pairs).speedup.value:.2f}", "delivered_by": "interleaved, 1 launch"}
    if baseline.launches:
        before, after = (latency(item.launches, item.clock).p50.value for item in (baseline, record))
        return row | {"delivered": f"{before / after:.2f}", "delivered_by": "separate launches"}
    return row


def as_csv(table: Sequence[Mapping[str, str]]) -> str:
    """The table with every column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def as_markdown(
    machine: Mapping[str, Json], checks: Sequence[Mapping[str, Json]], table: Sequence[Mapping[str, str]]
) -> str:
    """A page that stands alone."""
    lines = ["# Measured on a GPU", "", "By `make gpu` (tools/perf/gpu.py). The machine:", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items() if value not in (None, "", [], {})]
    lines += [
        "",
        "Weights are seeded noise: latency, memory and energy do not depend on them, accuracy is not given.",
        "",
    ]
    lines += [
        "## Agreement",
        "",
        "| check | harness | reference | unit | difference | limit | holds | |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for check in checks:
        limit = "shown" if check["limit"] is None else f"{check['limit']:.0%}"
        verdict = "not judged" if check["limit"] is None else "yes" if check["holds"] else "NO"
        lines.append(
            f"| {check['name']} | {check['ours']:.5g} | {check['theirs']:.5g} | {check['unit']} | "
            f"{check['difference']:+.2%} | {limit} | {verdict} | {check['note']} |"
        )
    shown = [column for column in COLUMNS if any(row.get(column) for row in table)]
    lines += ["", "## Cells", "", "| " + " | ".join(shown) + " |", "|" + "-|" * len(shown)]
    lines += ["| " + " | ".join(row.get(column, "") for column in shown) + " |" for row in table]
    return "\n".join(lines) + "\n"
