"""Outputs of a session for every evaluation sample: inferred on the device, carried in one .npz, read on the host."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bench.device.inputs import find_batch, input_specs, load_arrays, make_feed
from bench.device.job import Job
from bench.device.session import Array, Feed, Session
from bench.device.stored import NpzWriter, Samples, Spool, Stored, new_npz, open_stored, pieces_of
from bench.errors import InvalidInput
from bench.types import TensorSpec

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
    """Every output for all evaluation samples, in order; and how many samples. Many values lie in nameless files.

    The last batch is filled up by repeating its last sample; what that adds is cut off again. A few batches run
    twice. Where they differ, all do: the second pass is `Output.again`. Outputs that are fed back begin again with
    each pass.
    """
    specs = input_specs(job, session)
    arrays = load_arrays(job.evaluate, job, specs)
    samples, batch = len(arrays[0]), find_batch(specs)
    starts = range(0, samples, batch)
    loop = Loop(session=session, specs=specs, arrays=arrays, feedback=job.feedback)
    folder = Path(job.outputs).parent if job.outputs else None
    first, second = Calls(folder), Calls(folder)
    loop.run(starts, {}, first)
    state = loop.run(starts[:REPEATED], {}, second)
    differs = any(_differ(one, other) for one, other in zip(first.beginning(), second.beginning(), strict=False))
    if differs:
        loop.run(starts[REPEATED:], state, second)
    names = session.outputs() or ("",) * len(first.outputs)
    joined = [calls.join(job, names, batch, samples) for calls in ((first, second) if differs else (first,))]
    again = joined[1] if differs else [None] * len(names)
    found = zip(names, joined[0], again, strict=True)
    return tuple(Output(name=name, rows=rows, again=more) for name, rows, more in found), samples


def first_feeds(job: Job, session: Session, count: int) -> list[Feed]:
    """The first evaluation batches, at most `count`."""
    specs = input_specs(job, session)
    arrays = load_arrays(job.evaluate, job, specs)
    return [make_feed(arrays, specs, start) for start in range(0, len(arrays[0]), find_batch(specs))[:count]]


class Calls:
    """The outputs of inferences, one after another: a spool for each output."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.outputs: list[Spool] = []

    def add(self, call: Sequence[Array]) -> None:
        """Keeps what one inference gave."""
        self.outputs = self.outputs or [Spool(self._folder) for _ in call]
        for spool, array in zip(self.outputs, call, strict=True):
            spool.add(np.asarray(array))

    def beginning(self) -> list[tuple[Array, ...]]:
        """The outputs of the first `REPEATED` inferences."""
        return list(zip(*(islice(spool, REPEATED) for spool in self.outputs), strict=True))

    def join(self, job: Job, names: Sequence[str], batch: int, samples: int) -> list[Rows]:
        """The rows of each output."""
        axes = (
            find_axis(spool.shapes, batch, job.output_axes.get(name), known=name in job.output_axes)
            for name, spool in zip(names, self.outputs, strict=True)
        )
        return [_join(spool, axis, samples) for spool, axis in zip(self.outputs, axes, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Batch after batch through a session. `feedback`: (output, input): what a call gives is what the next takes."""

    session: Session
    specs: Sequence[TensorSpec]
    arrays: Sequence[Samples]
    feedback: Sequence[tuple[str, str]] = ()

    def run(self, starts: Sequence[int], state: Feed, calls: Calls) -> Feed:
        """Adds to `calls` the outputs of the batches that begin at these samples. Returns what is fed back after the last.

        Raises `InvalidInput` for a fed back output that is not there, or has another shape or type than the input.
        """
        for start in starts:
            call = self.session.run({**make_feed(self.arrays, self.specs, start), **state})
            state = self._find_state(call) if self.feedback else {}
            calls.add(call)
        return state

    def _find_state(self, call: Sequence[Array]) -> dict[str, Array]:
        given = dict(zip(self.session.outputs(), call, strict=False))
        wanted = {spec.name: spec for spec in self.specs}
        state = {}
        for output, name in self.feedback:
            if output not in given or name not in wanted:
                raise InvalidInput(
                    f"--feedback {output}={name}: the deployed file has the outputs {', '.join(given) or 'without names'} "
                    f"and the inputs {', '.join(wanted)}"
                )
            spec, array = wanted[name], given[output]
            if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
                raise InvalidInput(
                    f"--feedback {output}={name}: the output is {array.dtype} {array.shape}, the input takes "
                    f"{spec.dtype} {spec.shape}"
                )
            state[name] = array
        return state


def find_axis(shapes: Sequence[tuple[int, ...]], batch: int, axis: int | None, *, known: bool) -> int | None:
    """The batch axis of an output, from its shapes in all calls: `axis` where it is known and fits, else the first if it
    is always as long as the batch. None: a row is an inference."""
    if known and axis is None:
        return None
    place = axis or 0
    fits = all(len(shape) > place and shape[place] == batch for shape in shapes)
    return place if fits else None


def _differ(one: Sequence[Array], other: Sequence[Array]) -> bool:
    return any(not _is_same(left, right) for left, right in zip(one, other, strict=True))


def _is_same(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind != "f" or not left.size:
        return bool(np.array_equal(left, right))
    largest = float(np.abs(left).max(initial=0.0))
    return bool(np.allclose(left, right, rtol=0.0, atol=SAME * largest, equal_nan=True))


def _join(calls: Spool, axis: int | None, samples: int) -> Rows:
    """The outputs of all inferences as rows, `axis` the batch axis."""
    moved = calls if not axis else _move(calls, axis)
    if len(set(moved.shapes)) == 1:
        whole = moved.flat().reshape(len(moved.shapes), *moved.shapes[0])
        return whole if axis is None else whole.reshape(-1, *whole.shape[2:])[:samples]
    values, rows, start = moved.flat(), [], 0
    for shape in moved.shapes:
        size = math.prod(shape)
        call = values[start : start + size].reshape(shape)
        rows += [call] if axis is None else list(call)
        start += size
    return tuple(rows) if axis is None else tuple(rows)[:samples]


def _move(calls: Spool, axis: int) -> Spool:
    """The same outputs with the batch axis first."""
    moved = Spool(calls.folder)
    for call in calls:
        moved.add(np.moveaxis(call, axis, 0))
    return moved


def write_outputs(outputs: Sequence[Output], path: Path) -> None:
    """Writes one .npz: `names`, and the rows of each output under its position ("0", "0.again")."""
    with new_npz(path) as writer:
        names = np.array([output.name for output in outputs], dtype=np.str_)
        writer.add("names", names.shape, names.dtype, [names])
        for place, output in enumerate(outputs):
            _write_rows(writer, str(place), output.rows)
            if output.again is not None:
                _write_rows(writer, f"{place}.again", output.again)


def _write_rows(writer: NpzWriter, key: str, rows: Rows) -> None:
    """Rows of several shapes become their values one after another, and a row of sizes each, filled up with -1."""
    if not isinstance(rows, tuple):
        writer.add(key, rows.shape, rows.dtype, pieces_of(rows))
        return
    shapes = np.full((len(rows), max(row.ndim for row in rows)), -1, dtype=np.int64)
    for place, row in enumerate(rows):
        shapes[place, : row.ndim] = row.shape
    writer.add(f"{key}.values", (sum(row.size for row in rows),), np.result_type(*rows), rows)
    writer.add(f"{key}.shapes", shapes.shape, shapes.dtype, [shapes])


def read_outputs(path: Path) -> tuple[Output, ...]:
    """What `write_outputs` wrote; many values stay in the file, which may be removed. Raises `OSError`, `ValueError` or
    `KeyError` for anything else."""
    stored = open_stored(path)
    return tuple(
        Output(name=str(name), rows=_read_rows(stored, str(place)), again=_read_again(stored, place))
        for place, name in enumerate(stored["names"].load())
    )


def _read_rows(stored: Mapping[str, Stored], key: str) -> Rows:
    if key in stored:
        return stored[key].load()
    values, rows, start = stored[f"{key}.values"].load(), [], 0
    for sizes in stored[f"{key}.shapes"].load().tolist():
        shape = [size for size in sizes if size >= 0]
        length = math.prod(shape)
        rows.append(values[start : start + length].reshape(shape))
        start += length
    return tuple(rows)


def _read_again(stored: Mapping[str, Stored], place: int) -> Rows | None:
    key = f"{place}.again"
    return _read_rows(stored, key) if key in stored or f"{key}.values" in stored else None
