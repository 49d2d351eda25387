"""Outputs of a session for every evaluation sample: inferred on the device, carried in one .npz, read on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.device.inputs import load_arrays, make_feed
from bench.device.job import Job
from bench.device.session import Array, Session

Rows = Array | tuple[Array, ...]
"""One array, a row per sample; a tuple of arrays, one per sample, where their shape depends on the input.

An output without a batch axis has a row per inference instead.
"""
REPEATED = 2
"""Batches that are inferred a second time, to see whether the network draws random numbers."""
SAME = 1e-3
"""Floats of two runs that differ by less, relative to the largest, are the same: sums on a GPU may be reordered."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Output:
    """One output. `name`: "" where the runtime does not name it. `again`: a second pass, None if it was the same."""

    name: str
    rows: Rows
    again: Rows | None = None


def infer_all(job: Job, session: Session) -> tuple[tuple[Output, ...], int]:
    """Every output for all evaluation samples, in order; and how many samples.

    The last batch is filled up by repeating its last sample; what that adds is cut off again. A few batches run
    twice. Where they differ, all do: the second pass is `Output.again`.
    """
    specs = session.inputs()
    arrays = load_arrays(job.evaluate, job, session)
    samples = len(arrays[0])
    batch = specs[0].shape[0] if specs[0].shape else 1

    def run_from(starts: Sequence[int]) -> list[tuple[Array, ...]]:
        return [session.run(make_feed(arrays, specs, start)) for start in starts]

    starts = range(0, samples, batch)
    first = run_from(starts)
    repeated = run_from(starts[:REPEATED])
    differs = any(_differ(one, other) for one, other in zip(first, repeated, strict=False))
    second = [*repeated, *run_from(starts[REPEATED:])] if differs else None
    names = session.outputs() or ("",) * len(first[0])
    outputs = tuple(
        Output(
            name=name,
            rows=_join([call[place] for call in first], batch, samples),
            again=_join([call[place] for call in second], batch, samples) if second else None,
        )
        for place, name in enumerate(names)
    )
    return outputs, samples


def _differ(one: Sequence[Array], other: Sequence[Array]) -> bool:
    return any(not _is_same(left, right) for left, right in zip(one, other, strict=True))


def _is_same(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind != "f" or not left.size:
        return bool(np.array_equal(left, right))
    largest = float(np.abs(left).max(initial=0.0))
    return bool(np.allclose(left, right, rtol=0.0, atol=SAME * largest, equal_nan=True))


def _join(calls: Sequence[Array], batch: int, samples: int) -> Rows:
    """The outputs of all inferences as rows."""
    by_sample = all(call.ndim and call.shape[0] == batch for call in calls)
    if len({call.shape for call in calls}) == 1:
        return np.concatenate(calls)[:samples] if by_sample else np.stack(calls)
    return tuple(row for call in calls for row in call)[:samples] if by_sample else tuple(calls)


def write_outputs(outputs: Sequence[Output], path: Path) -> None:
    """Writes one .npz: `names`, and the rows of each output under its position ("0", "0.again")."""
    arrays: dict[str, Array] = {"names": np.array([output.name for output in outputs], dtype=np.str_)}
    for place, output in enumerate(outputs):
        arrays |= _pack(str(place), output.rows)
        if output.again is not None:
            arrays |= _pack(f"{place}.again", output.again)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_outputs(path: Path) -> tuple[Output, ...]:
    """What `write_outputs` wrote. Raises `OSError`, `ValueError` or `KeyError` for anything else."""
    with np.load(path, allow_pickle=False) as stored:
        return tuple(
            Output(name=str(name), rows=_unpack(stored, str(place)), again=_unpack_again(stored, place))
            for place, name in enumerate(stored["names"])
        )


def _pack(key: str, rows: Rows) -> dict[str, Array]:
    """Rows of several shapes become their values one after another, and a row of sizes each, filled up with -1."""
    if not isinstance(rows, tuple):
        return {key: rows}
    shapes = np.full((len(rows), max(row.ndim for row in rows)), -1, dtype=np.int64)
    for place, row in enumerate(rows):
        shapes[place, : row.ndim] = row.shape
    return {f"{key}.values": np.concatenate([row.ravel() for row in rows]), f"{key}.shapes": shapes}


def _unpack(stored: Mapping[str, Array], key: str) -> Rows:
    if key in stored:
        return stored[key]
    values, rows, start = stored[f"{key}.values"], [], 0
    for sizes in stored[f"{key}.shapes"].tolist():
        shape = [size for size in sizes if size >= 0]
        length = int(np.prod(shape, dtype=np.int64))
        rows.append(values[start : start + length].reshape(shape))
        start += length
    return tuple(rows)


def _unpack_again(stored: Mapping[str, Array], place: int) -> Rows | None:
    key = f"{place}.again"
    return _unpack(stored, key) if key in stored or f"{key}.values" in stored else None
