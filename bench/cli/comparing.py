"""The commands that measure side by side: compare, bisect."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bench.cli.app import command
from bench.cli.options import (
    add_options,
    calibrate_option,
    database_option,
    input_data_option,
    input_option,
    results_option,
    shape_option,
    signature_option,
    smallest_option,
    task_option,
    train_option,
)
from bench.errors import Regression, Untrusted
from bench.paths import cache_folder, data_folder

if TYPE_CHECKING:
    from bench.commands.versus.sides import Asked
    from bench.types import Progress

repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder of the git repository that revisions are of (default: the current folder).",
)
FAIL_ON = ("slower", "faster", "inconclusive")


def side_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How two sides are measured."""
    options = (
        click.option("--target", help="A shipped target or a .toml file. Stored runs have theirs."),
        click.option(
            "--width", type=float, help="Half width to stop at, as a share (default: half of --smallest-effect)."
        ),
        click.option("--time", "time_s", type=float, help="Seconds to stop after (default: 60)."),
        click.option("--launches", type=click.IntRange(3), help="Exactly so many fresh processes instead of both."),
        click.option("--blocks", default=20, show_default=True, type=click.IntRange(5), help="ABBA blocks in each."),
        click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of the runtime."),
        click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Inputs of an inference."),
        input_option,
        input_data_option,
        signature_option,
    )
    return add_options(options, function)


def network_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How the one model is read, as of `compress`."""
    options = (
        click.option("--weights", help="Checkpoint (.safetensors, or .pt, .pth, .ckpt without code)."),
        train_option,
        shape_option,
        click.option(
            "--dataset",
            help="To train and calibrate with; '' for none (default: digits for a reference network, none for yours).",
        ),
        task_option,
        calibrate_option,
        click.option("--data", "data_root", help="Folder of downloaded data sets (default: $PRESSBENCH_DATA)."),
        click.option("--seed", default=0, show_default=True, help="Of training, compression and inputs."),
    )
    return add_options(options, function)


@command("compare")
@side_options
@smallest_option
@network_options
@click.option("--model", help="The one model of both sides: a reference network, package.module:function, or a file.")
@click.option("--recipe", "recipes", multiple=True, help="Steps, as of compress; twice to compare two recipes.")
@click.option("--backend", "backends", multiple=True, help="Of the target (default: its first); twice to compare two.")
@click.option("--python", "pythons", multiple=True, help="Another environment's Python, to run in; twice for two.")
@click.option("--revision", "revisions", multiple=True, help="Of your git repository; twice to compare two.")
@repository_option
@results_option
@database_option
@click.option(
    "--cell", "cells", multiple=True, help="Part of the name of a cell of two runs; several times for several."
)
@click.option("--records", is_flag=True, help="Two runs from their records only: measure nothing now.")
@click.option("--no-layers", is_flag=True, help="Leave the times of single layers out.")
@click.option("--fail-on", multiple=True, type=click.Choice(FAIL_ON), help="Verdicts that end with exit code 1.")
@click.argument("sides", nargs=-1, metavar="[A B]")
def compare_command(
    *,
    sides: tuple[str, ...],
    model: str | None,
    recipes: tuple[str, ...],
    backends: tuple[str, ...],
    pythons: tuple[str, ...],
    revisions: tuple[str, ...],
    repository: Path | None,
    results: Path,
    url: str | None,
    cells: tuple[str, ...],
    records: bool,
    no_layers: bool,
    fail_on: tuple[str, ...],
    **chosen: Any,
) -> tuple[Any, Any, int]:
    """Ratio of the times of two sides, B over A, measured interleaved, with an interval.

    A and B are two model files, or two stored runs: results folders, FOLDER/RUN, or ids of --results. Or name one
    --model and give one of --recipe, --backend, --python, --revision twice.
    """
    from bench.commands.compare import compare_variants, name_sides
    from bench.commands.progress import watching
    from bench.commands.versus.answer import describe
    from bench.commands.versus.runs import check_runs, names_run

    if sides and model is None and any(map(names_run, sides)):
        check_runs(sides, given_beside(OF_RUNS))
        found, text = compare_stored(sides, chosen, results=results, url=url, cells=cells, measure=not records)
        return found, text, exit_code(found, fail_on)
    if records or cells:
        raise click.UsageError(f"{'--records' if records else '--cell'}: it chooses of two stored runs; leave it out")
    need_target(chosen)
    variants = name_sides(sides, model, recipes, backends, pythons, revisions)
    with watching(sys.stderr) as watch:
        asked = read_asked(chosen, watch.progress, layers=not no_layers)
        answer = compare_variants(variants, asked, repository)
    return answer, describe(answer), exit_code(answer, fail_on)


OF_RUNS = frozenset(
    {
        "as_json",
        "results",
        "url",
        "cells",
        "records",
        "fail_on",
        "smallest_effect",
        "width",
        "time_s",
        "launches",
    }
)
"""Parameters of `compare` that two stored runs take; they have the others already."""


def given_beside(taken: Collection[str]) -> list[str]:
    """The options of the command line whose parameters are not `taken`."""
    context = click.get_current_context()
    others = [one for one in context.command.params if isinstance(one, click.Option) and one.name not in taken]
    return [
        one.opts[0] for one in others if context.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE
    ]


def compare_stored(
    sides: Sequence[str],
    chosen: Mapping[str, Any],
    *,
    results: Path,
    url: str | None,
    cells: tuple[str, ...],
    measure: bool,
) -> tuple[dict[str, Any], str]:
    """The answer and text of two stored runs."""
    from bench.commands.progress import watching
    from bench.commands.versus.runs import Wished, compare_runs

    with watching(sys.stderr) as watch:
        asked = read_asked(chosen, watch.progress)
        wished = Wished(results=results, url=url, cells=cells, measure=measure, asked=asked)
        return compare_runs(sides, wished)


def exit_code(answer: Mapping[str, Any], fail_on: Sequence[str]) -> int:
    """4 where either side must not be believed, 1 for a verdict that fails, else 0."""
    if answer["reasons"]:
        return Untrusted.exit_code
    verdicts = answer["verdicts"] if "verdicts" in answer else [answer["verdict"]]
    return Regression.exit_code if set(verdicts) & set(fail_on) else 0


def need_target(chosen: Mapping[str, Any]) -> None:
    """Raises click's error for a target that is not named."""
    if not chosen["target"]:
        raise click.UsageError("Missing option '--target': a shipped target or a .toml file")


def read_asked(chosen: Mapping[str, Any], progress: Progress, *, layers: bool = False) -> Asked:
    """The options of `side_options` and `network_options` as the commands take them. Raises as `read_patience`."""
    from bench.commands.versus.sides import Asked, Network, read_patience
    from bench.line.own_models import InputOptions

    network = {name.name: chosen[name.name] for name in fields(Network)}
    effect = chosen["smallest_effect"]
    return Asked(
        target=chosen["target"] or "",
        **{name: chosen[name] for name in ("threads", "batch", "blocks")},
        patience=read_patience(effect, chosen["width"], chosen["time_s"], chosen["launches"]),
        smallest_effect=effect,
        cache=cache_folder(os.environ),
        progress=progress,
        said=InputOptions(
            inputs=chosen["inputs"], signature=chosen["signature"] or "", data=chosen["input_data"] or ""
        ),
        network=Network(**{**network, "data_root": data_folder(chosen["data_root"], os.environ)}),
        layers=layers,
    )


@command("bisect")
@side_options
@click.option(
    "--smallest-effect",
    type=float,
    help="Share from which a step counts as bad (default: half of what bad lost, if that is at least 1 %).",
)
@network_options
@click.option(
    "--model", required=True, help="package.module:function or a file of your repository, or any for --python."
)
@click.option("--recipe", default="", help="Steps, as of compress.")
@click.option("--backend", help="A backend of the target (default: its first).")
@click.option("--good", help="The last revision known to be fast.")
@click.option("--bad", help="A revision known to be slow (default: HEAD).")
@repository_option
@click.option("--python", "pythons", multiple=True, help="Environments in place of revisions, from good to bad.")
def bisect_command(
    *,
    model: str,
    recipe: str,
    backend: str | None,
    good: str | None,
    bad: str | None,
    repository: Path | None,
    pythons: tuple[str, ...],
    smallest_effect: float | None,
    **chosen: Any,
) -> tuple[Any, Any, int]:
    """The first revision of your repository, or the first environment, in which a model is slower."""
    from bench.commands.progress import watching
    from bench.commands.versus.bisect import bisect_environments, bisect_revisions
    from bench.commands.versus.sides import Variant
    from bench.records import SMALLEST_EFFECT

    if bool(pythons) == bool(good) or (pythons and (bad or repository)):
        raise click.UsageError("give --good and --bad for revisions, or --python several times for environments")
    need_target(chosen)
    variant = Variant(title=model, model=model, recipe=recipe, backend=backend)
    with watching(sys.stderr) as watch:
        asked = read_asked(
            {**chosen, "smallest_effect": SMALLEST_EFFECT if smallest_effect is None else smallest_effect},
            watch.progress,
        )
        if pythons:
            return bisect_environments(asked, variant, pythons=pythons, threshold=smallest_effect, say=watch.say)
        return bisect_revisions(
            asked,
            variant,
            good=str(good),
            bad=bad or "HEAD",
            repository=repository or Path.cwd(),
            threshold=smallest_effect,
            say=watch.say,
        )
