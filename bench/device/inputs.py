"""Inputs of a session: read from the job's file by position, or drawn from its seed; and the check of every feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.device.job import Job
from bench.device.session import Array, Feed, Session
from bench.device.stored import Samples, open_stored
from bench.errors import InvalidInput
from bench.types import TensorSpec

FED_SIZES = "pressbench.fed_sizes"
"""Key of an ONNX file's metadata: JSON, input -> its sizes, where the file leaves them free and they are fed."""


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
    return {name: np.asarray(feed[name], order="C") for name in wanted}


def name_apart(names: Sequence[str]) -> list[str]:
    """Names of a file's inputs under which they can be fed: one that is empty or that two have gets its place behind it."""
    return [
        name if name and names.count(name) == 1 else f"{name or 'input'}_{place}" for place, name in enumerate(names)
    ]


def first_feed(job: Job, session: Session) -> Feed:
    """One batch to time; drawn in the session's own shapes where the job has no file of it."""
    if job.feed is None:
        whole = [replace(spec, batch_axis=None) for spec in session.inputs()]
        drawn = random_inputs(whole, 1, job.seed)
        return {spec.name: array[0] for spec, array in zip(whole, drawn, strict=True)}
    specs = input_specs(job, session)
    return make_feed(load_arrays(job.feed, job, specs), specs, 0)


def input_specs(job: Job, session: Session) -> tuple[TensorSpec, ...]:
    """The session's inputs in the job's order, with the batch axes that the job knows.

    They are matched by name where the names are the same, else by position (a converter may rename them).
    Raises `InvalidInput` for another number of inputs, or a batch that is not the job's.
    """
    own = session.inputs()
    if not job.inputs:
        return own
    if len(own) != len(job.inputs):
        raise InvalidInput(f"the model takes {len(own)} inputs, the data has {len(job.inputs)}")
    by_name = {spec.name: spec for spec in own}
    same = set(by_name) == {spec.name for spec in job.inputs}
    specs = tuple(
        replace(by_name[asked.name] if same else own[place], batch_axis=asked.axis, integers=asked.integers)
        for place, asked in enumerate(job.inputs)
    )
    for spec in specs:
        if spec.axis is not None and (spec.axis >= len(spec.shape) or spec.shape[spec.axis] != job.batch):
            raise InvalidInput(
                f"input {spec.name!r} has shape {spec.shape}: its batch is not the {job.batch} that was asked for"
            )
    return specs


def load_arrays(file: str | None, job: Job, specs: Sequence[TensorSpec]) -> Sequence[Samples]:
    """One array per input, samples first: those of the .npz, read as they are asked for, or drawn from the job's seed.

    Raises `InvalidInput` for another number of arrays than the model has inputs.
    """
    if file is None:
        return random_inputs(specs, max(job.random_samples, job.batch), job.seed)
    stored = open_stored(Path(file))
    arrays = [stored[str(index)] for index in range(len(stored))]
    if len(arrays) != len(specs):
        raise InvalidInput(f"the model takes {len(specs)} inputs, the data has {len(arrays)}")
    return arrays


def random_inputs(specs: Sequence[TensorSpec], samples: int, seed: int) -> list[Array]:
    """Uniform 0..1 for floats, 0 or 1 for whole numbers, by seed and position.

    For a job whose values mean nothing. `bench.inputs.draw` draws on the host, where the graph can be read.
    """
    drawn: list[Array] = []
    for index, spec in enumerate(specs):
        generator = np.random.default_rng([seed, index])
        shape = (samples, *spec.sample_shape)
        kind = np.dtype(spec.dtype)
        if kind.kind == "f":
            drawn.append(generator.random(shape, dtype=np.float32).astype(kind))
        else:
            drawn.append(generator.integers(0, 2, shape).astype(kind))
    return drawn


def make_feed(arrays: Sequence[Samples], specs: Sequence[TensorSpec], start: int) -> dict[str, Array]:
    """The batch that begins at sample `start`, filled up by repeating its last sample.

    Arrays have their samples first; the batch is put where the input has it. An input without a batch axis gets the
    sample itself. Raises `InvalidInput` for data of another shape than the session takes, and for an input without a
    batch axis whose samples differ within a batch.
    """
    batch = find_batch(specs)
    feed: dict[str, Array] = {}
    for array, spec in zip(arrays, specs, strict=True):
        part = array[start : start + batch]
        if len(part) < batch:
            part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        if spec.axis is None:
            if batch > 1 and not all(np.array_equal(row, part[0]) for row in part[1:]):
                raise InvalidInput(
                    f"input {spec.name!r} has no batch axis, and its samples differ within a batch of {batch}: "
                    "give it one value, or measure at --batch 1"
                )
            part = part[0]
        else:
            part = np.moveaxis(part, 0, spec.axis)
        if not part.shape and spec.shape == (1,):  # onnx2tf makes a vector of a scalar
            part = part.reshape(1)
        if part.shape != spec.shape:
            raise InvalidInput(f"input {spec.name!r} wants shape {spec.shape}, the data has {part.shape}")
        feed[spec.name] = np.asarray(part, dtype=spec.dtype, order="C")
    return feed


def find_batch(specs: Sequence[TensorSpec]) -> int:
    """How many samples one inference takes; 1 where no input has a batch axis."""
    return next((spec.shape[spec.axis] for spec in specs if spec.axis is not None), 1)
