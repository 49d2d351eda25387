"""The commands about what is there: targets, backends, meters, recipes, cache, doctor."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from bench.cli.app import command
from bench.errors import InvalidInput
from bench.paths import cache_folder


@command("targets")
@click.argument("action", type=click.Choice(["list", "check", "clean"]), default="list")
@click.argument("name", required=False)
def targets_command(*, action: str, name: str | None) -> tuple[Any, ...]:
    """The targets that ship. `check NAME`: can it be used from here? `clean NAME`: remove what runs left on a board."""
    from bench.commands.listings import check_target, clean_target, list_targets

    if action == "list":
        if name:
            raise InvalidInput(
                f"targets list {name}: it shows all of them: leave the name out, or `targets check {name}`"
            )
        return list_targets()
    if not name:
        raise InvalidInput(f"targets {action}: name the target")
    return clean_target(name) if action == "clean" else check_target(name, cache_folder(os.environ))


@command("backends")
def backends_command() -> tuple[Any, Any]:
    """Every registered backend: its version, or what is missing and how to get it."""
    from bench.commands.listings import list_backends

    return list_backends()


@command("meters")
def meters_command() -> tuple[Any, Any]:
    """Every registered meter of energy: what it covers, its options, and whether it opens here."""
    from bench.commands.meters import list_meters

    return list_meters()


@command("recipes")
def recipes_command() -> tuple[Any, Any]:
    """Every compressor with its arguments and source, and the recipes of the shipped suites."""
    from bench.commands.listings import list_recipes

    return list_recipes()


@command("cache")
@click.argument("action", type=click.Choice(["show", "prune"]), default="show")
@click.option("--older-than", help="Prune what was not used for this long: 12h, 30d, 8w.")
@click.option("--max-size", help="Prune what was used least recently until this is left: 500MB, 5GB.")
@click.option("--dry-run", is_flag=True, help="Say what would be pruned; remove nothing.")
def cache_command(*, action: str, **pruning: Any) -> tuple[Any, Any]:
    """What the artifact cache holds; `cache prune` removes from it, never what a running process uses."""
    from bench.commands.cache import prune_cache, show_cache

    if action == "prune":
        return prune_cache(cache_folder(os.environ), **pruning)
    if any(pruning.values()):
        raise InvalidInput("--older-than, --max-size and --dry-run belong to `pressbench cache prune`")
    return show_cache(cache_folder(os.environ))


@command("doctor")
@click.option("--target", help="What --time and --roofline measure on.  [default: cpu]")
@click.option("--time", "time_s", type=float, help="Seconds for measuring the smallest effect that the target can see.")
@click.option(
    "--roofline", is_flag=True, help="Instead: what a backend reaches there, which the page then explains cells with."
)
@click.option(
    "--backend", "backends", multiple=True, help="Of --roofline: a backend of the target (default: its first)."
)
@click.option("--threads", type=int, default=1, show_default=True, help="Of --roofline: threads of the runtime.")
def doctor_command(
    target: str | None, time_s: float | None, *, roofline: bool, backends: tuple[str, ...], threads: int
) -> tuple[Any, Any] | tuple[Any, Any, int]:
    """Whether this machine can measure, and how well."""
    from bench.commands.doctor import doctor, show_rooflines
    from bench.commands.progress import watching

    if roofline and time_s is not None:
        raise InvalidInput("--roofline and --time measure different things: give one of them")
    if not roofline and (backends or threads != 1):
        raise InvalidInput("--backend and --threads belong to `pressbench doctor --roofline`")
    if target and not roofline and time_s is None:
        raise InvalidInput(f"--target {target}: it is what --time or --roofline measures on: give one of them")
    with watching(sys.stderr) as watch:
        if roofline:
            return show_rooflines(cache_folder(os.environ), target or "cpu", backends, threads, watch.progress)
        return doctor(cache_folder(os.environ), target or "cpu", time_s, watch.progress)
