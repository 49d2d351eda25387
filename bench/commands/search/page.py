"""The page of a search: the front with its budgets, trials over time, predicted against measured, the winner's layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.commands.search.plots import Dot, Plot, draw
from bench.report.budget import MEASURED_BY
from bench.report.text import number as show
from bench.search.found import Found
from bench.search.goal import DROPS, ERROR, LATENCY, LUTS, MINIMIZED, UNITS
from bench.search.judge import loss_text
from bench.search.nouns import gone_from
from bench.search.strategies.interface import Tried, front, number, quality_loss
from bench.types import Precision

AXES = {
    LATENCY: ("latency, median, ms", 1.0),
    LUTS: ("LUTs", 1.0),
    "energy_per_inference_mj": ("energy of an inference, mJ", 1.0),
    "file_bytes": ("file, kB", 1e-3),
    "memory_peak_bytes": ("memory beyond the runtime, MB", 1e-6),
}
"""Column that is minimized -> its axis, and the factor to its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A layer of the winner: its outputs, how many it had, and in what it computes. `share`: in percent. `rank`: 0 where it is
    whole."""

    name: str
    outputs: int
    whole: int
    share: float
    bits: str
    rank: int = 0


def render_page(found: Found, said: Sequence[str]) -> str:
    """The text of the page, without scripts. `said`: the answer, as the terminal shows it."""
    environment = Environment(autoescape=True, loader=PackageLoader(__package__, "."), undefined=StrictUndefined)
    plots = [plot for plot in (_front(found), _over_time(found), _predicted(found)) if plot is not None]
    return environment.get_template("page.html").render(
        run_id=found.run_id,
        said=said,
        plots=plots,
        bars=_layers(found),
        network=found.network,
        unit=UNITS[found.goal.cost].strip(),
        trials=[_row(one) for one in found.ended.tried],
        pruned=found.ended.pruned,
    )


def _usable(found: Found) -> list[Tried]:
    return [one for one in found.ended.tried if one.counts and math.isfinite(quality_loss(one))]


def _kind(one: Tried) -> str:
    return "whole" if not one.recipe else "misses" if one.over else "keeps"


def _text(one: Tried) -> str:
    return f"{one.recipe or '(uncompressed)'}: {show(one.cost)}{UNITS[one.column]}, loss {show(quality_loss(one))}"


def _quality_axis(found: Found) -> str:
    names = {"accuracy_drop_pp": "accuracy drop, percentage points", "score_drop": "drop of the score"}
    return next((names[name] for name in DROPS if name in found.goal.quality), "relative error of the outputs")


def _front(found: Found) -> Plot | None:
    """With the margin above each drop: what misses the limit only by that is seen to. None where nothing is believed."""
    if not (usable := _usable(found)):
        return None
    title, factor = AXES[column := MINIMIZED.get(found.goal.minimize, found.goal.cost)]

    def at(one: Tried) -> tuple[float, float]:
        return factor * (number(one.row, column) or 0.0), quality_loss(one)

    dots = [Dot(x=at(one)[0], y=at(one)[1], kind=_kind(one), text=_text(one)) for one in usable]
    across = next((found.goal.quality[name] for name in (*DROPS, ERROR) if name in found.goal.quality), None)
    along = next((most for name, most in found.goal.limits.items() if MEASURED_BY[name][0] == column), None)
    margins = [(dot, found.goal.margin(one.error)) for dot, one in zip(dots, usable, strict=True) if one.recipe]
    return draw(
        "Quality against cost, on the validation split",
        (title, _quality_axis(found)),
        dots,
        [
            ("front", list(map(at, front(usable, found.goal)))),
            *(("margin", [(dot.x, dot.y), (dot.x, dot.y + extra)]) for dot, extra in margins if extra),
        ],
        (along, across),
    )


def _over_time(found: Found) -> Plot | None:
    """What is minimized (else the latency) of each trial, and the best so far of those that keep every limit. None where nothing
    is believed."""
    title, factor = AXES[column := MINIMIZED.get(found.goal.minimize, found.goal.cost)]
    best, line = math.inf, list[tuple[float, float]]()
    dots = []
    for one in _usable(found):
        value = number(one.row, column)
        if value is None:
            continue
        dots.append(Dot(x=one.at_s, y=value * factor, kind=_kind(one), text=_text(one)))
        if not one.over and value * factor < best:
            line += [(one.at_s, best)] if line else []
            best = value * factor
            line.append((one.at_s, best))
    if not dots:
        return None
    if line:
        line.append((dots[-1].x, best))
    return draw("Trials over time, and the best that keeps every limit", ("seconds", title), dots, [("front", line)])


def _predicted(found: Found) -> Plot | None:
    usable = [one for one in _usable(found) if one.predicted is not None and one.recipe]
    if not usable:
        return None
    dots = [Dot(x=one.cost or 0.0, y=one.predicted or 0.0, kind=_kind(one), text=_text(one)) for one in usable]
    ends = [min(dot.x for dot in dots), max(dot.x for dot in dots)]
    return draw(
        "Predicted against measured (the line: equal)",
        (AXES[found.goal.cost][0], "predicted before"),
        dots,
        [("front", [(end, end) for end in ends])],
    )


def _layers(found: Found) -> list[Bar]:
    """The layers of the network that won; none where that is a recipe as it was written. One without inputs went with its branch."""
    finals = found.finals
    one = finals.tried[1] if finals and len(finals.tried) > 1 else None
    if one is None or one.choice is None:
        return []
    gone = gone_from(found.space.groups, one.choice)
    precision = finals.artifact.precision if finals and finals.artifact else None
    return [
        Bar(
            name=layer.name,
            outputs=(left := layer.outputs.at(gone) if layer.inputs.at(gone) else 0),
            whole=layer.outputs.whole,
            share=round(100 * left / layer.outputs.whole, 1),
            bits=_bits(layer.name, precision),
            rank=0
            if layer.rank is None or not gone[layer.rank]
            else found.space.groups[layer.rank].whole - gone[layer.rank],
        )
        for layer in found.space.layers
        if not layer.factor
    ]


def _bits(layer: str, precision: Precision | None) -> str:
    if precision is None:
        return ""
    return "float32" if layer in {*precision.keep_float, *precision.stayed_float} else precision.asked


def _row(one: Tried) -> dict[str, str]:
    return {
        "recipe": one.recipe or "(uncompressed)",
        "at": f"{one.at_s:.0f}",
        "cost": show(one.cost),
        "predicted": show(one.predicted),
        "loss": loss_text(one),
        "status": str(one.row["status"]),
        "over": ", ".join(one.over),
    }
