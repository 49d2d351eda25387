"""The command line: arguments, exit codes; the only place that prints or exits.

Nothing heavy is imported before a command needs it: `pressbench --help` is instant.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from bench import __version__
from bench.errors import InvalidInput, PressbenchError, Regression, Untrusted
from bench.paths import cache_folder, data_folder

INTERRUPTED = 130
PIPED_WIDTH = 160
NOTHING_MEASURED = 3

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Folder of the results database.",
)
database_option = click.option("--database", "url", help="SQLAlchemy URL of the results instead, e.g. postgresql://...")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


def _shape(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"{text!r}: sizes joined by commas, as 3,224,224") from None


shape_option = click.option(
    "--input-shape",
    callback=_shape,
    help="Shape of one input without the batch, as 3,224,224: for a function without a data set, or for axes that an "
    ".onnx file leaves free.",
)

train_option = click.option(
    "--train", is_flag=True, help="Train the network that package.module:function builds, on the data set."
)
calibrate_option = click.option(
    "--calibrate",
    help="What static int8 calibrates on instead of the data set: an .npz of arrays by input name, samples first; or "
    "'random', whose cells are untrusted.",
)

task_option = click.option(
    "--task",
    help="What the network is trained for and judged by: classification (the default), multilabel, regression, "
    "segmentation, or package.module:Task.",
)


input_option = click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=SIZES",
    help="Sizes of one input as the file has it, N for the batch axis: ids=N,128; state=2,N,64; 'sr=' for a scalar. "
    "Several times for several.",
)
input_data_option = click.option(
    "--input-data", help="An .npz of inputs to time and judge with: arrays by input name, samples first."
)
feedback_option = click.option(
    "--feedback",
    multiple=True,
    metavar="OUT=IN",
    help="An output that the next call takes as this input, where outputs are judged. Several times for several.",
)
signature_option = click.option("--signature", help="Which signature of a .tflite file that has several.")


smallest_option = click.option(
    "--smallest-effect",
    type=float,
    default=0.01,
    show_default=True,
    help="Share by which a figure must change to count: 0.01 is 1 %.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pressbench")
def pressbench() -> None:
    """Measure what compressing a neural network really gains on the hardware it ships on."""


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose function returns its answer for `--json`, the text for the terminal, and perhaps an exit code."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @pressbench.command(name)
        @json_option
        @wraps(function)
        def wrapped(*, as_json: bool, **arguments: Any) -> None:
            answer, text, *code = function(**arguments)
            if as_json:
                click.echo(json.dumps(answer, default=str))
            elif text is not None:
                _show(text)
            sys.exit(code[0] if code else 0)

        return wrapped

    return decorate


def _show(text: Any) -> None:
    """A string, or anything rich can draw."""
    if isinstance(text, str):
        click.echo(text)
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, emoji=False).print(text)


@command("run")
@click.option("--target", default="cpu", show_default=True, help="A shipped target or a .toml file.")
@click.option("--suite", default="default", show_default=True, help="A shipped suite or a .toml file.")
@click.option("--model", "models", multiple=True, help="A reference network, package.module:function, or a file.")
@click.option("--weights", help="Checkpoint of the one model given (.safetensors, or .pt, .pth, .ckpt without code).")
@train_option
@shape_option
@input_option
@input_data_option
@feedback_option
@signature_option
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
    **chosen: Any,
) -> tuple[Any, Any, int]:
    """Compress, measure and store every cell of a suite on a target; then write cells.csv and dashboard.html."""
    from bench.commands.progress import watching
    from bench.commands.run import run_suite
    from bench.line.plan import Request

    request = Request(data=dataset, data_root=data_folder(data, os.environ), **chosen)
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
        )
    if not done.measured:
        return done.answer, done.text, NOTHING_MEASURED
    return done.answer, done.text, Regression.exit_code if require_budget and not done.fits else 0


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
@train_option
@shape_option
@input_option
@input_data_option
@feedback_option
@signature_option
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


@command("decode")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .safetensors file to write.")
@click.option("--limit-mib", default=2048, show_default=True, type=click.IntRange(1), help="Most that it may take.")
@click.argument("file", type=click.Path(path_type=Path))
def decode_command(*, file: Path, out: Path, limit_mib: int) -> tuple[Any, Any]:
    """Turn coded weights (.pbw, of compress --coded) back into a checkpoint."""
    from bench.commands.decode import decode_file

    answer = decode_file(file=file, out=out, limit_mib=limit_mib)
    return answer, "\n".join(f"{key}: {value}" for key, value in answer.items())


@command("inspect")
@input_option
@signature_option
@click.argument("file", type=click.Path(path_type=Path))
def inspect_command(**arguments: Any) -> tuple[Any, Any]:
    """Inputs and outputs, params, MACs and bytes of an .onnx, .tflite or .pt2 file, layer by layer."""
    from bench.commands.inspect import inspect_file

    return inspect_file(**arguments)


@command("compare")
@click.option("--target", required=True, help="A shipped target or a .toml file.")
@click.option("--backend", help="A backend of the target (default: its first).")
@click.option("--launches", default=20, show_default=True, type=click.IntRange(3), help="Fresh processes.")
@click.option("--blocks", default=20, show_default=True, type=click.IntRange(5), help="ABBA blocks in each.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of the runtime.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Inputs of an inference.")
@smallest_option
@input_option
@input_data_option
@signature_option
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
def compare_command(
    *, inputs: tuple[str, ...], input_data: str | None, signature: str | None, **arguments: Any
) -> tuple[Any, Any, int]:
    """Ratio of the times of two model files, B over A, measured interleaved, with an interval."""
    from bench.commands.compare import compare_files, describe_verdict
    from bench.commands.progress import watching
    from bench.line.own_models import InputOptions

    said = InputOptions(inputs=inputs, signature=signature or "", data=input_data or "")
    with watching(sys.stderr) as watch:
        answer = compare_files(**arguments, said=said, cache=cache_folder(os.environ), progress=watch.progress)
    interval = f"{answer['low']:.4f} .. {answer['high']:.4f}"
    text = f"B takes {answer['ratio']:.4f} times as long as A ({interval}, 95 %): {describe_verdict(answer)}"
    if answer["basis"] == "raw":
        text += "\na launch had too few clean blocks: those that waited for a CPU count too"
    if answer["unsteady"]:
        text += f"\n{answer['unsteady']} of {answer['launches']} launches began while runs were still getting faster"
    text += "".join(f"\nuntrusted: {reason}" for reason in answer["reasons"])
    return answer, text, Untrusted.exit_code if answer["reasons"] else 0


@command("targets")
@click.argument("action", type=click.Choice(["list", "check", "clean"]), default="list")
@click.argument("name", required=False)
def targets_command(*, action: str, name: str | None) -> tuple[Any, ...]:
    """The targets that ship. `check NAME`: can it be used from here? `clean NAME`: remove what runs left on a board."""
    from bench.commands.listings import check_target, clean_target, list_targets

    if action == "list":
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


def judging_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a night is judged: the same of `regress` and of `triage`, which looks for one of its alarms."""
    rate = click.option("--false-alarms", type=float, default=0.01, show_default=True, help="Share that may be false.")
    nights = click.option(
        "--nights", type=click.IntRange(1), default=14, show_default=True, help="Newest nights to look for changes in."
    )
    target = click.option("--target", help="Only the runs of this target.")
    return target(rate(smallest_option(nights(function))))


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
def doctor_command() -> tuple[Any, Any]:
    """Whether this machine can measure, and how well."""
    from bench.commands.doctor import doctor

    return doctor(cache_folder(os.environ))


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0, the code of a `PressbenchError`, 130 on Ctrl-C."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.path.insert(0, str(Path.cwd()))  # a user's own package.module:function lies where they stand
    try:
        pressbench.main(args=given, standalone_mode=False)
    except PressbenchError as error:
        if "--json" in given:
            click.echo(json.dumps({"error": str(error), "kind": type(error).__name__}))
        click.echo(f"pressbench: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("pressbench: interrupted; `--resume` goes on where it stopped", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
