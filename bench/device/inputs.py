"""Inputs of a session: read from the job's file by position, or drawn from its seed; and the check of every feed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.device.job import Job
from bench.device.session import Array, Feed, Session
from bench.errors import InvalidInput
from bench.types import TensorSpec


def check_feed(file: str, specs: Sequence[TensorSpec], feed: Feed) -> dict[str, Array]:
    """The feed's arrays in the model's order, contiguous. Every session checks its feeds here.

    Raises `InvalidInput` naming the file and the input: one that is missing or unknown, or an array of another
    shape or dtype than the session's own (nothing is cast).
    """
    wanted = [spec.name for spec in specs]
    if sorted(feed) != sorted(wanted):
        given, takes = (", ".join(map(repr, names)) or "none" for names in (feed, wanted))
        raise InvalidInput(f"{file}: takes the inputs {takes}, the feed has {given}")
    for spec in specs:
        array = feed[spec.name]
        if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
            raise InvalidInput(
                f"{file}: input {spec.name!r} wants {spec.dtype} of shape {spec.shape}, "
                f"the feed is {array.dtype} of shape {array.shape}"
            )
    return {name: np.ascontiguousarray(feed[name]) for name in wanted}


def first_feed(job: Job, session: Session) -> Feed:
    """One batch to time."""
    return make_feed(load_arrays(job.feed, job, session), session.inputs(), 0)


def load_arrays(file: str | None, job: Job, session: Session) -> list[Array]:
    """One array per input in the model's order, samples first: those of the .npz, or drawn from the job's seed.

    Raises `InvalidInput` for another number of arrays than the model has inputs.
    """
    if file is None:
        return random_inputs(session.inputs(), max(job.random_samples, job.batch), job.seed)
    with np.load(Path(file), allow_pickle=False) as stored:
        arrays: list[Array] = [stored[str(index)] for index in range(len(stored.files))]
    if len(arrays) != len(session.inputs()):
        raise InvalidInput(f"the model takes {len(session.inputs())} inputs, the data has {len(arrays)}")
    return arrays


def random_inputs(specs: Sequence[TensorSpec], samples: int, seed: int) -> list[Array]:
    """Uniform 0..1 for floats, the type's low non-negative range for integers, by seed and position."""
    drawn: list[Array] = []
    for index, spec in enumerate(specs):
        generator = np.random.default_rng([seed, index])
        shape = (samples, *spec.shape[1:])
        kind = np.dtype(spec.dtype)
        if kind.kind == "f":
            drawn.append(generator.random(shape, dtype=np.float32).astype(kind))
        elif kind.kind == "b":
            drawn.append(generator.integers(0, 2, shape).astype(kind))
        else:
            drawn.append(generator.integers(0, min(128, np.iinfo(kind).max), shape).astype(kind))
    return drawn


def make_feed(arrays: Sequence[Array], specs: Sequence[TensorSpec], start: int) -> Feed:
    """The batch that begins at sample `start`, filled up by repeating its last sample.

    Raises `InvalidInput` for data of another shape than the session takes.
    """
    feed: dict[str, Array] = {}
    for array, spec in zip(arrays, specs, strict=True):
        batch = spec.shape[0] if spec.shape else 1
        part = array[start : start + batch]
        if len(part) < batch:
            part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        if part.shape != spec.shape:
            raise InvalidInput(
                f"input {spec.name!r} wants shape {spec.shape}, the data has {(batch, *array.shape[1:])}"
            )
        feed[spec.name] = np.ascontiguousarray(part, dtype=spec.dtype)
    return feed
