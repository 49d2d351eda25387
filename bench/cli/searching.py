"""The command that searches: search."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.app import command
from bench.cli.options import (
    calibrate_option,
    cluster_option,
    database_option,
    one_board_options,
    results_option,
    shape_option,
    task_option,
    train_option,
)
from bench.paths import cache_folder, data_folder

if TYPE_CHECKING:
    from bench.search.asked import Asked


@command("search")
@click.option("--target", help="A shipped target or a .toml file (default: cpu, or that of the fleet's boards).")
@one_board_options
@click.option(
    "--suite",
    default="default",
    help="A suite whose one model, data set, batch, threads and table [search] count where no option says otherwise.",
)
@click.option("--model", help="A reference network, package.module:function, or an .onnx file.")
@click.option("--weights", help="Checkpoint of the model (.safetensors, or .pt, .pth, .ckpt without code).")
@train_option
@shape_option
@click.option("--dataset", help="digits, mnist, fashion-mnist or a .npz file.")
@task_option
@calibrate_option
@click.option("--data", help="Folder of downloaded data sets (default: $PRESSBENCH_DATA).")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    help="A backend of the target (default: all that are not optional). Several times for several: each runs the "
    "uncompressed network, and the search continues with the fastest.",
)
@click.option("--batch", type=click.IntRange(1), help="Inputs of an inference (default: the suite's).")
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1),
    help="Threads of the runtime (default: the suite's). Several times for several: each runs the uncompressed network, as each "
    "backend does.",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="KEY=NUMBER",
    help="A limit: latency_ms, latency_p99_ms, file_kb, memory_mb, energy_mj or lut. Several times for several.",
)
@click.option(
    "--max-drop",
    type=float,
    help="Percentage points of accuracy that may go; of another task's score, in its own unit (default: the target's limit, else "
    "1 point of an accuracy or of a score from 0 to 1).",
)
@click.option(
    "--max-error",
    type=float,
    help="Relative error of the outputs that is allowed where there is no data set (default: 0.1, at most 0.5).",
)
@click.option(
    "--minimize",
    type=click.Choice(["latency", "energy", "size", "memory", "lut"]),
    help="What is made as small as the limits allow (default: latency, or lut on a simulated FPGA, without a --budget, else the best quality).",
)
@click.option("--time", "time_text", help="How long it may take: 90s, 30m, 2h (default: 1h).")
@click.option("--then", help="Steps after the narrowing (default: finetune(epochs=2) with a data set, else none).")
@click.option(
    "--family",
    "families",
    multiple=True,
    help="Steps that may end a candidate, each tried beside none: mixed_int8(), qat(epochs=2). Several times for several "
    "(default: int8; on an FPGA fixed(width=8), mixed_fixed(max_drop_pp=1), and that with six of ten weights zero; "
    "none: no family).",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    help="A candidate as it is written: a recipe of the suite, or steps, as \"student(model='lenet5') + distill(epochs=6)\". "
    "Several times for several.",
)
@click.option(
    "--student",
    "students",
    multiple=True,
    help="A network that takes the place of yours, tried as it is and narrowed too: a reference network, package.module:function or "
    "a file, or the steps that make it, as \"student(model='lenet5') + distill(epochs=20)\". Several times for several.",
)
@click.option(
    "--strategy",
    help="How candidates are chosen: widths (by a latency table of the target, the default), or the baselines macs, "
    "uniform, random and optuna.",
)
@click.option(
    "--ranks/--no-ranks",
    default=None,
    help="Layers may be factorized too, and their ranks are chosen with the widths (default: no). A latency table takes about three times as long.",
)
@click.option("--resume", is_flag=True, help="Continue the last interrupted search on this target.")
@cluster_option
@results_option
@database_option
def search_command(
    *, resume: bool, cluster: str, results: Path, url: str | None, **chosen: Any
) -> tuple[Any, Any, int]:
    """Search the widths of channels that keep a budget, with the target in the loop."""
    from bench.commands.progress import watching
    from bench.commands.search.command import search_best

    asked, cache = _ask(**chosen), cache_folder(os.environ)
    with watching(sys.stderr) as watch:
        done = search_best(asked, results=results, url=url, resume=resume, cache=cache, watch=watch, cluster=cluster)
    return done.answer, done.text, done.code


def _ask(
    *,
    target: str | None,
    model: str | None,
    dataset: str | None,
    data: str | None,
    backends: tuple[str, ...],
    time_text: str | None,
    **chosen: Any,
) -> Asked:
    from bench.commands.run import name_target
    from bench.line.plan import Request
    from bench.search.asked import Asked, take_suite
    from bench.search.goal import parse_time

    named = ("suite", "fleet", "sku", "tags", "weights", "train", "input_shape", "task", "calibrate")
    request = Request(
        target="cpu",
        models=(model,) if model else (),
        recipes=("baseline",),
        backends=backends,
        data=dataset,
        data_root=data_folder(data, os.environ),
        batch=() if chosen["batch"] is None else (chosen["batch"],),
        threads=chosen["threads"],
        **{name: chosen[name] for name in named},
    )
    request = replace(name_target(request, target), each=False)
    options = {
        **{name: chosen[name] or None for name in ("budgets", "families", "recipes", "students")},
        "time_s": parse_time(time_text) if time_text else None,
        **{name: chosen[name] for name in ("max_drop", "max_error", "minimize", "then", "strategy", "ranks")},
    }
    given = {name: value for name, value in options.items() if value is not None}
    return take_suite(Asked(request=request, **given), given)
