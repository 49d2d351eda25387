"""What was found as docs/papers.md: each figure beside the published one, the mean over the seeds and its spread."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import onnxruntime
import torch

from bench.device.machine import cpu_name

from .claims import Bound, Claim

HEAD = """# What papers claim, tried here

Written by `make papers`; do not edit. Each recipe is what `pressbench compress --model ... --recipe ...` takes, tried
with the seeds {seeds} unless a claim names others. Accuracy is that of the exported file in ONNX Runtime on the whole
test set. The baseline is the uncompressed network of the same seed. Figures are the mean over the seeds ± their standard
deviation.

{reached} of {all} claims reached. {wall} of wall time on {machine}, {cpu} of processor time in the trials.
PyTorch {torch}, ONNX Runtime {ort}.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure of a claim with its value for each seed."""

    bound: Bound
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def holds(self) -> bool:
        """Whether the mean is what is asked for."""
        return self.bound.holds(self.mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A claim with its figures. `spent`: trial -> mean processor seconds. `seeds`: the judges, where not those asked."""

    claim: Claim
    lines: tuple[Line, ...]
    spent: Mapping[str, float]
    seeds: Sequence[int] = ()

    @property
    def reached(self) -> bool:
        """Every bound holds."""
        return all(line.holds for line in self.lines)


def settle(
    claim: Claim, tried: Sequence[Mapping[str, Any]], spent: Mapping[str, float], seeds: Sequence[int] = ()
) -> Settled:
    """The figures of a claim from what its trials found, `tried` by seed and name."""
    lines = tuple(Line(bound=bound, values=tuple(bound.value(one) for one in tried)) for bound in claim.bounds)
    return Settled(claim=claim, lines=lines, spent=spent, seeds=seeds if claim.chosen_on else ())


def page(settled: Sequence[Settled], seeds: Sequence[int], wall_s: float, cpu_s: float) -> str:
    """The whole document."""
    head = HEAD.format(
        seeds=", ".join(map(str, seeds)),
        reached=sum(one.reached for one in settled),
        all=len(settled),
        wall=_duration(wall_s),
        machine=cpu_name(Path("/")) or platform.machine(),
        cpu=_duration(cpu_s),
        torch=torch.__version__,
        ort=onnxruntime.__version__,
    )
    return "\n".join([head, _overview(settled), *(_section(one) for one in settled)])


def _overview(settled: Sequence[Settled]) -> str:
    rows = [f"| {one.claim.title} | {_verdict(one.reached)} |" for one in settled]
    return "\n".join(["| claim | verdict |", "|---|---|", *rows, ""])


def _section(one: Settled) -> str:
    claim = one.claim
    rows = [
        f"| {line.bound.figure} | {line.bound.published or '–'} | {_spread(line)} | "
        f"{', '.join(_number(value) for value in line.values)} | {_asked(line.bound)} | "
        f"{_verdict(line.holds) if line.bound.must else ''} |"
        for line in one.lines
    ]
    recipes = [
        f"- {name}: `{asked.model}`, {_code(asked.recipe)} on {asked.dataset}"
        + (f" ({one.spent[name]:.0f} s of processor time)" if name in one.spent else "")
        for name, asked in claim.trials.items()
        if name != asked.recipe
    ]
    parts = [
        f"## {claim.title}\n\n{claim.source}.\n",
        "| figure | published | here | by seed | asked | |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        *recipes,
        *([f"- seeds {', '.join(map(str, one.seeds))}"] if one.seeds else []),
        *(["", claim.note] if claim.note else []),
        "",
    ]
    return "\n".join(parts)


def _code(recipe: str) -> str:
    return f"`{recipe}`" if recipe else "uncompressed"


def _spread(line: Line) -> str:
    spread = f" ± {_number(stdev(line.values))}" if len(line.values) > 1 else ""
    return f"{_number(line.mean)}{spread} {line.bound.unit}"


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # adding 0 turns -0 into 0


def _asked(bound: Bound) -> str:
    return f"{bound.must} {bound.limit:g}" if bound.must else ""


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
