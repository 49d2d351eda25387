"""Stores of many nights, made from a seed: what `pressbench regress` is tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert

from bench.records import Launch, Record, Run
from bench.regress.figures import take_all
from bench.store import NightFigures, Store
from bench.store.codec import pack_record, pack_run
from bench.store.schema import CELLS, RUNS
from bench.types import Cost
from tests.fake_records import record, run

FIRST = datetime(2025, 1, 1, 2, tzinfo=UTC)
MACHINE = {"machine": {"kernel": "6.1", "cpu": "Imagined CPU"}}


def night(number: int, **changes: Any) -> Run:
    """The run of one night; `target` also names it."""
    at = (FIRST + timedelta(days=number)).isoformat()
    target = changes.get("target", "cpu")
    return replace(
        run(f"night-{number:03}-{target}", started_at=at, finished_at=at, revision="abc"), **{"suite": "s", **changes}
    )


def quiet(nights: int, *, milliseconds: float = 1.0, scatter: float = 0.004, seed: int = 0) -> list[float]:
    """Latencies of nights on which nothing changed."""
    return list(milliseconds * np.exp(np.random.default_rng(seed).normal(0, scatter, nights)))


def stepped(nights: int, at: int, factor: float = 1.03, **options: Any) -> list[float]:
    """Latencies that are `factor` times as long from night `at` on."""
    return [value * (factor if place >= at else 1) for place, value in enumerate(quiet(nights, **options))]


def cell(of: Run, milliseconds: float | None, *, size: int = 1000, **changes: Any) -> Record:
    """A cell of a night, of one launch; without a latency for None."""
    samples = tuple(int(1e6 * milliseconds) + place for place in range(9)) if milliseconds else ()
    return record(
        of.run_id,
        **{
            "key": f"{changes.get('model', 'lenet5')}/{changes.get('recipe', 'baseline')}/{changes.get('backend', '')}",
            "started_at": of.started_at,
            "target": of.target,
            "launches": (Launch(samples_ns=samples),) if samples else (),
            "cost": Cost(
                params=9,
                nonzero_params=9,
                macs=100,
                nonzero_macs=100,
                flops=200,
                file_bytes=size,
                weight_bytes=9,
                activation_bytes=9,
                peak_activation_bytes=9,
            ),
            "facts": MACHINE,
            "digest": "file",
            **changes,
        },
    )


def fill(store: Store, nights: Sequence[tuple[Run, Sequence[Record]]]) -> None:
    """Stores whole nights in one transaction: a commit for each cell would wait for the disk a thousand times."""
    runs = [
        {
            **{
                name: getattr(one, name)
                for name in ("run_id", "started_at", "target", "suite", "status", "finished_at")
            },
            "body": pack_run(one),
        }
        for one, _ in nights
    ]
    cells = [
        {"run_id": one.run_id, "key": each.key, "status": each.status.value, "body": pack_record(each)}
        for one, records in nights
        for each in records
    ]
    with store.engine.begin() as connection:
        if runs:
            connection.execute(insert(RUNS), runs)
        if cells:
            connection.execute(insert(CELLS), cells)


def history(latencies: Sequence[float | None], **changes: Any) -> list[tuple[Run, list[Record]]]:
    """Nights of one cell; None: a night whose cell has no latency."""
    return [(one, [cell(one, value, **changes)]) for one, value in ((night(n), v) for n, v in enumerate(latencies))]


def figures(nights: Sequence[tuple[Run, Sequence[Record]]]) -> list[tuple[Run, NightFigures]]:
    """What a history reads of nights."""
    return [(one, take_all(one, records)) for one, records in nights]


def several(series: Mapping[str, Sequence[float]]) -> list[tuple[Run, list[Record]]]:
    """Nights of several models, by name."""
    count = len(next(iter(series.values())))
    runs = [night(number) for number in range(count)]
    return [(one, [cell(one, values[n], model=name) for name, values in series.items()]) for n, one in enumerate(runs)]
