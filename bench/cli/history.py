"""The commands over stored runs: report, energy, regress, triage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.app import command
from bench.cli.options import database_option, judging_options, results_option


@command("report")
@results_option
@database_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where to write (default: --results).")
@click.option("--run", "run_id", help="Only this run; 'all' for every run (default: the latest).")
def report_command(**arguments: Any) -> tuple[Any, Any]:
    """Write cells.csv and dashboard.html."""
    from bench.commands.report import report_stored

    made = report_stored(**arguments)
    answer = {"csv": str(made.csv), "dashboard": str(made.dashboard), "cells": made.cells}
    return answer, f"{made.csv}\n{made.dashboard}"


@command("energy")
@click.argument("file", type=click.Path(path_type=Path))
@results_option
@database_option
@click.option("--run", "run_id", help="The run that was recorded (default: the latest).")
@click.option("--volts", type=float, help="Supply voltage, where the trace has only a current.")
@click.option("--rate", type=float, help="Samples per second, where the trace has no times.")
@click.option(
    "--clock",
    type=click.Choice(["same", "search"]),
    default="same",
    show_default=True,
    help="'search' finds the difference of the clocks in the trace itself, as for traces without absolute times.",
)
def energy_command(**arguments: Any) -> tuple[Any, Any]:
    """Read the trace of an external meter into a stored run, and write its report again."""
    from bench.commands.energy import add_trace

    return add_trace(**arguments)


@command("regress")
@results_option
@database_option
@judging_options
@click.option(
    "--fail-on",
    multiple=True,
    default=("regression", "missing"),
    show_default=True,
    type=click.Choice(["regression", "missing", "environment", "inconclusive", "improvement", "nothing"]),
    help="Alarms that end with exit code 1. Several times for several.",
)
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Also write JUnit XML here.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Also write a summary here.")
@click.option("--github", is_flag=True, help="Also print GitHub's annotations.")
def regress_command(**arguments: Any) -> tuple[Any, Any, int]:
    """What changed over the nights of a store: regressions, improvements, environments, missing series."""
    from bench.commands.regress import find_regressions

    return find_regressions(**arguments)


@command("triage")
@results_option
@database_option
@judging_options
@click.option("--note", default="", help="Why; `acknowledged` needs one.")
@click.argument("alarm", required=False)
@click.argument("state", required=False, type=click.Choice(["new", "acknowledged", "expected", "fixed"]))
def triage_command(**arguments: Any) -> tuple[Any, Any]:
    """Say what was decided about an alarm of `regress`; without one, list what was."""
    from bench.commands.regress import triage_alarm

    return triage_alarm(**arguments)
