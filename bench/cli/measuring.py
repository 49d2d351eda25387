"""The commands that compress and measure: run, compress."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from bench.cli.app import command
from bench.cli.options import (
    calibrate_option,
    cluster_option,
    database_option,
    fleet_options,
    own_model_options,
    results_option,
    task_option,
)
from bench.errors import Regression, Untrusted
from bench.paths import cache_folder, data_folder

NOTHING_MEASURED = 3


@command("run")
@click.option("--target", help="A shipped target or a .toml file.  [default: cpu]")
@fleet_options
@click.option("--suite", default="default", show_default=True, help="A shipped suite or a .toml file.")
@click.option("--model", "models", multiple=True, help="A reference network, package.module:function, or a file.")
@click.option("--weights", help="Checkpoint of the one model given (.safetensors, or .pt, .pth, .ckpt without code).")
@own_model_options
@click.option("--recipe", "recipes", multiple=True, help="A recipe of the suite, or steps: 'prune(amount=0.5)'.")
@click.option("--backend", "backends", multiple=True, help="A backend of the target.")
@click.option("--dataset", help="digits, mnist, fashion-mnist or a .npz file, instead of the suite's.")
@task_option
@calibrate_option
@click.option("--data", help="Folder of downloaded data sets (default: $PRESSBENCH_DATA).")
@click.option("--batch", multiple=True, type=int, help="Batch size instead of the suite's; several times for several.")
@click.option("--threads", multiple=True, type=int, help="Threads instead of the suite's; several times for several.")
@click.option("--launches", type=int, help="Fresh processes for each cell, instead of the suite's number.")
@click.option("--time", "time_s", type=float, help="Seconds of samples in each launch, instead of the suite's.")
@click.option("--smallest-effect", type=float, help="As `smallest_effect` of a suite: 0.01 is 1 %.")
@click.option("--preprocess", help="package.module:function to time before the inference, on the device.")
@click.option("--postprocess", help="package.module:function to time after it.")
@click.option("--require-budget", is_flag=True, help="Exit with 1 if no trusted cell keeps the target's budget.")
@click.option("--resume", is_flag=True, help="Continue the last interrupted run of this target and suite.")
@cluster_option
@results_option
@database_option
@click.option("--no-report", is_flag=True, help="Leave cells.csv and dashboard.html out.")
def run_command(
    *,
    results: Path,
    url: str | None,
    resume: bool,
    require_budget: bool,
    no_report: bool,
    data: str | None,
    dataset: str | None,
    cluster: str,
    target: str | None,
    **chosen: Any,
) -> tuple[Any, Any, int]:
    """Compress, measure and store every cell of a suite on a target; then write cells.csv and dashboard.html."""
    from bench.commands.progress import watching
    from bench.commands.run import name_target, run_suite
    from bench.line.plan import Request

    request = Request(target="cpu", data=dataset, data_root=data_folder(data, os.environ), **chosen)
    request = name_target(request, target)
    with watching(sys.stderr) as watch:
        done = run_suite(
            request,
            results=results,
            url=url,
            resume=resume,
            report=not no_report,
            cache=cache_folder(os.environ),
            watch=watch,
            require_budget=require_budget,
            cluster=cluster,
        )
    if not done.measured:
        return done.answer, done.text, NOTHING_MEASURED
    return done.answer, done.text, Regression.exit_code if require_budget and not done.fits else 0


@command("compress")
@click.option("--model", required=True, help="A reference network, package.module:function, or a file.")
@click.option("--recipe", required=True, help="Steps: 'prune(amount=0.5) + finetune(epochs=2)'.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write: .onnx, .tflite with --backend litert.",
)
@click.option(
    "--coded", type=click.Path(path_type=Path), help="Also write the coded weights here (.pbw), for `decode`."
)
@click.option("--weights", help="Checkpoint (.safetensors, or .pt, .pth, .ckpt without code).")
@own_model_options
@click.option(
    "--dataset",
    help="To train, calibrate and judge with; '' for none (default: digits for a reference network, none for yours).",
)
@task_option
@calibrate_option
@click.option("--data", help="Folder of downloaded data sets (default: $PRESSBENCH_DATA).")
@click.option("--backend", default="ort", show_default=True, help="The backend that makes the file.")
@click.option(
    "--option", "options", multiple=True, help="KEY=VALUE of the backend, as `reduce_range=true`; several times."
)
@click.option("--seed", default=0, show_default=True, help="Of training, compression and inputs.")
def compress_command(
    *,
    data: str | None,
    inputs: tuple[str, ...],
    input_data: str | None,
    feedback: tuple[str, ...],
    signature: str | None,
    **arguments: Any,
) -> tuple[Any, Any, int]:
    """Write one compressed model, with its cost and accuracy; exit code 4 if its outputs must not be believed."""
    from bench.commands.compress import compress_one
    from bench.commands.progress import watching
    from bench.line.own_models import InputOptions

    with watching(sys.stderr) as watch:
        answer = compress_one(
            **arguments,
            said=InputOptions(inputs=inputs, feedback=feedback, signature=signature or "", data=input_data or ""),
            data_root=data_folder(data, os.environ),
            cache=cache_folder(os.environ),
            progress=watch.progress,
        )
    missing: dict[str, str] = answer["missing"]
    shown = {key: value for key, value in answer.items() if key not in {"layers", "missing"}}
    shown |= {key: f"none ({reason})" for key, reason in missing.items()}
    text = "\n".join(f"{key}: {value}" for key, value in shown.items() if value not in (None, (), []))
    return answer, text, Untrusted.exit_code if "untrusted" in answer else 0
