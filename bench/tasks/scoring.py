"""Scores of deployed outputs, with the values that an interval needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.device.stored import rows_at_once
from bench.records import Score
from bench.tasks.base import Array, Outputs, Task

GROUPS = 20
"""Groups of samples that are left out one after another, for the jackknife of a score."""


def measure_score(task: Task, outputs: Sequence[Array], targets: Array) -> Score:
    """The task's score of all samples, and of all but each of up to `GROUPS` groups of them.

    `outputs`: one array or several, a row per sample. Sample i is in group i mod `GROUPS`, so that two networks judged
    on the same samples have the same groups. Raises what `Task.score` raises.
    """
    wanted = torch.from_numpy(np.ascontiguousarray(targets))
    step = rows_at_once(max(one[:1].nbytes for one in outputs))
    starts = range(0, len(targets), step)
    found = join_outputs([_reduce(task, outputs, wanted, slice(start, start + step)) for start in starts])
    groups = min(GROUPS, len(wanted))
    group = torch.arange(len(wanted)) % max(1, groups)
    without = [task.score(_rows(found, group != left), wanted[group != left]) for left in range(groups)]
    return Score(
        name=task.kind.name,
        unit=task.kind.unit,
        higher_is_better=task.kind.higher_is_better,
        value=task.score(found, wanted),
        without=tuple(without) if groups > 1 else (),
    )


def _reduce(task: Task, outputs: Sequence[Array], wanted: Tensor, chosen: slice) -> Outputs:
    """What the score needs of these rows."""
    tensors = tuple(torch.from_numpy(np.array(one[chosen])) for one in outputs)
    return task.reduce(tensors[0] if len(tensors) == 1 else tensors, wanted[chosen])


def _rows(outputs: Outputs, kept: Tensor) -> Outputs:
    return outputs[kept] if isinstance(outputs, Tensor) else tuple(one[kept] for one in outputs)


def join_outputs(batches: list[Outputs]) -> Outputs:
    """The outputs of all batches, samples first."""
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat([one for one in batches if isinstance(one, Tensor)])
    every = [one for one in batches if not isinstance(one, Tensor)]
    return tuple(torch.cat(parts) for parts in zip(*every, strict=True))
