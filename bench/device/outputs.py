"""Outputs of a session for every evaluation sample: inferred on the device, carried in one .npz, read on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.device.inputs import find_batch, input_specs, load_arrays, make_feed
from bench.device.job import Job
from bench.device.session import Array, Feed, Session
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
    """Every output for all evaluation samples, in order; and how many samples.

    The last batch is filled up by repeating its last sample; what that adds is cut off again. A few batches run
    twice. Where they differ, all do: the second pass is `Output.again`. Outputs that are fed back begin again with
    each pass.
    """
    specs = input_specs(job, session)
    arrays = load_arrays(job.evaluate, job, specs)
    samples, batch = len(arrays[0]), find_batch(specs)
    starts = range(0, samples, batch)
    loop = Loop(session=session, specs=specs, arrays=arrays, feedback=job.feedback)
    first, _ = loop.run(starts, {})
    repeated, state = loop.run(starts[:REPEATED], {})
    differs = any(_differ(one, other) for one, other in zip(first, repeated, strict=False))
    second = [*repeated, *loop.run(starts[REPEATED:], state)[0]] if differs else None
    names = session.outputs() or ("",) * len(first[0])
    outputs = []
    for place, name in enumerate(names):
        known = name in job.output_axes
        axis = find_axis([call[place] for call in first], batch, job.output_axes.get(name), known=known)
        rows, again = (
            _join([call[place] for call in calls], axis, samples) if calls else None for calls in (first, second)
        )
        assert rows is not None
        outputs.append(Output(name=name, rows=rows, again=again))
    return tuple(outputs), samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Batch after batch through a session. `feedback`: (output, input): what a call gives is what the next takes."""

    session: Session
    specs: Sequence[TensorSpec]
    arrays: Sequence[Array]
    feedback: Sequence[tuple[str, str]] = ()

    def run(self, starts: Sequence[int], state: Feed) -> tuple[list[tuple[Array, ...]], Feed]:
        """The outputs of the batches that begin at these samples, and what is fed back after the last.

        Raises `InvalidInput` for a fed back output that is not there, or has another shape or type than the input.
        """
        calls = []
        for start in starts:
            call = self.session.run({**make_feed(self.arrays, self.specs, start), **state})
            state = self._find_state(call) if self.feedback else {}
            calls.append(call)
        return calls, state

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


def find_axis(calls: Sequence[Array], batch: int, axis: int | None, *, known: bool) -> int | None:
    """The batch axis of an output: `axis` where it is known and fits, else the first if it is always as long as the
    batch. None: a row is an inference."""
    if known and axis is None:
        return None
    place = axis or 0
    fits = all(call.ndim > place and call.shape[place] == batch for call in calls)
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


def _join(calls: Sequence[Array], axis: int | None, samples: int) -> Rows:
    """The outputs of all inferences as rows, `axis` the batch axis."""
    moved = calls if axis is None else [np.moveaxis(call, axis, 0) for call in calls]
    if len({call.shape for call in moved}) == 1:
        return np.stack(moved) if axis is None else np.concatenate(moved)[:samples]
    return tuple(moved) if axis is None else tuple(row for call in moved for row in call)[:samples]


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
