"""The end of a run on a terminal: what each cell promised and what it delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import rich.box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from bench.config.suite import BASELINE
from bench.records import Record
from bench.report.budget import KEPT
from bench.report.signs import TERMINAL_STYLES, VERDICT_STYLES
from bench.report.table import Row, compute_rows
from bench.report.text import count, interval, number, percent, size, times
from bench.types import Clock, Status

WIDTHS = {
    "promised": 8,
    "delivered (95\u00a0%)": 15,
    "p50 ms": 8,
    "size": 8,
    "accuracy": 11,
    "status": 12,
}
"""Columns and the least width at which their numbers are whole."""
ENERGY, ENERGY_WIDTH = "mJ", 9
"""The column of a run that has an energy, before the status, and its least width."""
MEASURED = "measured:"
WRAPPED = {"delivered (95\u00a0%)", "status"}
CHANGED = 1.1
"""How far the ratio of two p50s may lie outside the interval of the speed-up before the reader is warned."""
UNMEASURED = {Status.FAILED.value, Status.SKIPPED.value}


def summary(records: Sequence[Record]) -> Group:
    """One run as a table, model by model, then why cells are not ok. Nothing in a name is read as markup."""
    found = compute_rows(records)
    several = len({place_of(row) for row in found}) > 1
    energy = any(row["energy_per_inference_mj"] is not None for row in found)
    devices = show_devices(found)
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=Text(titled(records)),
        caption=Text(
            "\n".join(filter(None, (describe_samples(found), describe_energy(found), describe_changed(found))))
        ),
    )
    table.add_column("", overflow="fold", min_width=14)
    for name, width in (with_energy(WIDTHS) if energy else WIDTHS).items():
        justify: JustifyMethod = "left" if name == "status" else "right"
        table.add_column(name, justify=justify, min_width=width, no_wrap=name not in WRAPPED)
    for model in dict.fromkeys(row["model"] for row in found):
        table.add_section()
        table.add_row(Text(str(model), style="bold"))
        for row in found:
            if row["model"] == model:
                place = (f", {place_of(row)}" if several else "") + (
                    f", {row['device']}" if devices and row["device"] else ""
                )
                joules = [Text(show_energy(row))] if energy else []
                table.add_row(Text(f"  {row['recipe']}{place}"), *show_figures(row), *joules, status_of(row))
    return Group(table, *reasons_of(found))


def with_energy(widths: Mapping[str, int]) -> dict[str, int]:
    """The columns with that of the energy before the status."""
    return {name: widths.get(name, ENERGY_WIDTH) for name in (*list(widths)[:-1], ENERGY, "status")}


def show_energy(row: Row) -> str:
    """Millijoules of one input; a figure that no meter measured says so."""
    source = str(row["energy_source"])
    value = row["energy_per_inference_mj"]
    guessed = "" if value is None or source.startswith(MEASURED) else f"\n{source.partition(':')[0]}"
    return number(value if isinstance(value, float) else None) + guessed


def describe_energy(rows: Sequence[Row]) -> str:
    """Where the energies come from; "" where there are none."""
    sources = dict.fromkeys(str(row["energy_source"]) for row in rows if row["energy_per_inference_mj"] is not None)
    return f"mJ: of one input, above idle, {', '.join(sources)}" if sources else ""


def show_devices(rows: Sequence[Row]) -> bool:
    """Whether each row must name its device: there are several, or one that is emulated or simulated."""
    measured = [row for row in rows if row["status"] not in UNMEASURED]
    simulated = any(row["clock"] == Clock.SIMULATED.value for row in measured)
    return simulated or len({row["device"] for row in measured}) > 1


def titled(records: Sequence[Record]) -> str:
    """What the table is of."""
    return f"run {records[0].run_id} on {records[0].target}" if records else "no cells"


def place_of(row: Row) -> str:
    """Backend and conditions, shown where a run has several."""
    return f"{row['backend']} b{row['batch']} t{row['threads']}"


def show_figures(row: Row) -> list[Text]:
    """`figures`, the delivered speed-up with its verdict in words, in a colour besides."""
    promised, delivered, *others = figures(row)
    verdict = str(row["speedup_verdict"] or "")
    word = f"\n{verdict}" if verdict else ""
    return [Text(promised), Text(f"{delivered}{word}", style=VERDICT_STYLES.get(verdict, "")), *map(Text, others)]


def figures(row: Row) -> list[str]:
    """The numbers of one row as text. A counted or simulated cell has no speed-up: it shows what was counted."""
    value = {name: figure for name, figure in row.items() if not isinstance(figure, str)}
    within = interval(value["speedup_low"], value["speedup_high"])
    measured = bool(within) and value["speedup_low"] != value["speedup_high"]
    return [
        times(value["promised_speedup"]),
        times(value["speedup"]) + (f" ({within})" if measured else "") if value["speedup"] else counted(row),
        number(value["latency_p50_ms"]),
        size(value["file_bytes"]),
        show_quality(value, str(row["score_name"])),
    ]


def show_quality(value: Mapping[str, float | None], name: str = "accuracy") -> str:
    """The accuracy or the task's score, with its 95 % interval on a second line.

    Without labels: how often the first class is the uncompressed network's, else the relative error.
    """
    if value["accuracy"] is not None:
        low, high = value["accuracy_low"], value["accuracy_high"]
        within = "" if low is None or high is None else f"\n{100 * low:.1f}–{100 * high:.1f}"
        return percent(value["accuracy"]) + within
    if value["score"] is not None:
        within = interval(value["score_low"], value["score_high"])
        return f"{name} {number(value['score'])}" + (f"\n{within}" if within else "")
    agreement, error = value["top1_agreement"], value["output_relative_rms"]
    if agreement is not None:
        return f"agrees {agreement:.0%}".replace("%", "\u00a0%")
    return f"error {number(error, 2)}" if error is not None else percent(None)


def describe_samples(rows: Sequence[Row]) -> str:
    """On how many test samples accuracies and scores were found; "" where none has an interval."""
    found: dict[str, None] = {}
    for row in rows:
        if row["test_samples"]:
            found[f"{row['score_name']} of {row['test_samples']} test samples"] = None
    return f"{', '.join(found)}; its 95 % interval beneath" if found else ""


def describe_changed(rows: Sequence[Row]) -> str:
    """Which cells' p50 contradicts their speed-up, because the machine changed since their baseline; "" if none."""
    baselines = {(row["model"], place_of(row), row["device"]): row for row in rows if row["recipe"] == BASELINE}
    named = []
    for row in rows:
        base = baselines.get((row["model"], place_of(row), row["device"]), {})
        measured = base.get("latency_p50_ms"), row["latency_p50_ms"], row["speedup_low"], row["speedup_high"]
        before, after, low, high = (one if isinstance(one, float) else 0.0 for one in measured)
        if before and after and low and not low / CHANGED <= before / after <= high * CHANGED:
            named.append(str(row["recipe"]))
    if not named:
        return ""
    said = ", ".join(dict.fromkeys(named))
    return (
        f"{said}: the machine changed since the baseline, so their p50s do not compare; delivered was measured in turns"
    )


def status_of(row: Row) -> Text:
    """The status, coloured; a simulated cell says so, because its figures are not measured."""
    status = str(row["status"])
    clock = ", simulated" if row["clock"] == Clock.SIMULATED.value else ""
    return Text(status, style=TERMINAL_STYLES[Status(status)]).append(clock, style="default")


def counted(row: Row) -> str:
    """What an emulator or a simulator counted, with its unit; a dash if nothing was."""
    for name in ("instructions", "cycles"):
        value = row[name]
        if isinstance(value, int):
            return f"{count(value)} {name}"
    return times(None)


def reasons_of(rows: Sequence[Row]) -> list[Text]:
    """Why cells are what they are, a line per reason. Cells of a model that were not measured share their line."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for place, row in enumerate(rows):
        if row["reason"]:
            alone = None if row["status"] in UNMEASURED else place
            groups.setdefault((row["model"], row["status"], row["reason"], alone), []).append(row)
    over = [row for row in rows if row["budget"] not in {None, KEPT} and row["status"] not in UNMEASURED]
    return [*(reason_of(group) for group in groups.values()), *map(budget_of, over)]


def budget_of(row: Row) -> Text:
    """Which budgets a cell does not keep, or cannot be shown to."""
    return Text.assemble(
        f"  {row['model']} / {row['recipe']} on {row['backend']}: ", Text(f"budget {row['budget']}", style="dim")
    )


def reason_of(rows: Sequence[Row]) -> Text:
    """The status and reason that these cells of one model share, in one line."""
    first = rows[0]
    cells = f"/ {first['recipe']} on {first['backend']}" if len(rows) == 1 else f"({len(rows)} cells)"
    where = Text(f"  {first['model']} {cells}: ")
    return Text.assemble(where, status_of(first), Text(f", {first['reason']}", style="dim"))
