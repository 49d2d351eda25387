"""The commands about a fleet of boards and the store that its hosts share: fleet, results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.app import command
from bench.cli.options import database_option, results_option


@command("fleet")
@click.argument("action", type=click.Choice(["status"]))
@click.option("--fleet", type=click.Path(dir_okay=False, path_type=Path), help="The boards of this file only.")
@results_option
@database_option
def fleet_command(*, action: str, **arguments: Any) -> tuple[Any, Any]:
    """What each board of a fleet does, its heat, its last check, and when the runs are expected to end."""
    del action
    from bench.commands.fleet.status import show_status

    return show_status(**arguments)


@command("results")
@click.argument("action", type=click.Choice(["copy"]))
@click.option("--to", required=True, help="SQLAlchemy URL or SQLite file to copy into, e.g. postgresql://...")
@results_option
@database_option
def results_command(*, action: str, **arguments: Any) -> tuple[Any, Any]:
    """Copy all results into another database, as from one laptop's file to the PostgreSQL server of a team."""
    del action
    from bench.commands.fleet.results import copy_results

    return copy_results(**arguments)
