"""The commands over stored runs: report, energy, nightly, regress, triage."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from bench.cli.app import command
from bench.cli.options import (
    answer_options,
    database_option,
    fleet_options,
    judging_options,
    results_option,
    share_options,
)
from bench.paths import cache_folder, data_folder


@command("report")
@results_option
@database_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where to write (default: --results).")
@click.option("--run", "run_id", help="Only this run; 'all' for every run (default: the latest).")
@click.option(
    "--parquet", type=click.Path(path_type=Path, dir_okay=False), help="Also write the rows of cells.csv here."
)
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


def _check_github(*, github: bool) -> None:
    """Raises click's error for annotations, which are text, beside `--json`."""
    if github and click.get_current_context().params["as_json"]:
        raise click.UsageError("--github prints annotations, which are not JSON: leave --json out, or --github")


@command("regress")
@results_option
@database_option
@judging_options
@answer_options
@click.option(
    "--cluster",
    default="",
    metavar="ADDRESS",
    help="Search the series on a Dask cluster: tcp://scheduler:8786, or local:4 for processes of this machine.",
)
def regress_command(**arguments: Any) -> tuple[Any, Any, int]:
    """What changed over the nights of a store: regressions, improvements, environments, missing series."""
    from bench.commands.regress import find_regressions

    _check_github(github=arguments["github"])
    return find_regressions(**arguments, note=lambda text: click.echo(f"note: {text}", err=True))


@command("nightly")
@click.option("--target", "targets", multiple=True, help="Several times for several.  [default: cpu]")
@fleet_options
@click.option("--suite", default="default", show_default=True, help="A shipped suite or a .toml file.")
@click.option("--data", help="Folder of downloaded data sets (default: $PRESSBENCH_DATA).")
@results_option
@database_option
@share_options
@answer_options
@click.option(
    "--again",
    "again_s",
    type=float,
    default=900.0,
    show_default=True,
    help="Seconds a target for running changed files beside their last good ones; 0 for none.",
)
@click.option(
    "--keep-samples",
    type=click.IntRange(14),
    default=60,
    show_default=True,
    help="Runs of a target whose raw samples stay whole; of older ones the quantiles stay.",
)
def nightly_command(
    *,
    results: Path,
    url: str | None,
    data: str | None,
    suite: str,
    targets: tuple[str, ...],
    fleet: str | None,
    sku: str | None,
    tags: tuple[str, ...],
    each: bool,
    **wished: Any,
) -> tuple[Any, Any, int]:
    """Run a suite on targets, or on a fleet, measure changed files again, judge and report the night: what a timer calls."""
    from bench.commands.nights.nightly import Wishes, run_night
    from bench.commands.progress import watching
    from bench.commands.run import name_target
    from bench.line.plan import Request

    _check_github(github=wished["github"])
    root = data_folder(data, os.environ)
    asked = Request(target="cpu", suite=suite, data_root=root, fleet=fleet, sku=sku, tags=tags, each=each)
    given = targets or (None,)
    requests = {request.target: request for request in (name_target(asked, target) for target in given)}
    with watching(sys.stderr) as watch:
        return run_night(
            Wishes(targets=targets or tuple(requests), suite=suite, **wished),
            requests.__getitem__,
            results=results,
            url=url,
            cache=cache_folder(os.environ),
            watch=watch,
        )


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
