"""How well a network does on samples of a data set, by the data's task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.data.parts import Array, Part
from bench.models.tensors import as_tensors
from bench.tasks.base import Forward, Outputs, Task
from bench.tasks.scoring import join_outputs

BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The task's score, and the mean of its loss over the samples."""

    score: float
    loss: float


@torch.no_grad()
def judge(forward: Forward, part: Part, chosen: Array, task: Task, batch: int = BATCH) -> Judgement:
    """What `forward`, a network in eval mode, is worth on the samples `chosen` (their numbers). Reads a batch at a time."""
    kept: list[Outputs] = []
    wanted: list[Tensor] = []
    total = 0.0
    for start in range(0, len(chosen), batch):
        some = chosen[start : start + batch]
        outputs, targets = forward(*as_tensors(part.inputs(some))), torch.from_numpy(part.targets(some))
        total += len(some) * float(task.loss(outputs, targets))
        kept.append(task.reduce(outputs, targets))
        wanted.append(targets)
    return Judgement(score=task.score(join_outputs(kept), torch.cat(wanted)), loss=total / len(chosen))
