"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

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

cluster_option = click.option(
    "--cluster",
    default="",
    metavar="ADDRESS",
    help="Compress and compile on a Dask cluster: tcp://scheduler:8786, or local:4 for processes of this machine.",
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


def judging_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a night is judged: the same of `regress` and of `triage`, which looks for one of its alarms."""
    return click.option("--target", help="Only the runs of this target.")(share_options(function))


def share_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The shares and nights that a judgement goes by."""
    rate = click.option("--false-alarms", type=float, default=0.01, show_default=True, help="Share that may be false.")
    nights = click.option(
        "--nights", type=click.IntRange(1), default=14, show_default=True, help="Newest nights to look for changes in."
    )
    return rate(smallest_option(nights(function)))


def answer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What fails, and what is written besides the terminal."""
    kinds = click.Choice(["regression", "missing", "environment", "inconclusive", "improvement", "nothing"])
    file = click.Path(path_type=Path, dir_okay=False)
    fail_on = click.option(
        "--fail-on",
        multiple=True,
        default=("regression", "missing"),
        show_default=True,
        type=kinds,
        help="Alarms that end with exit code 1. Several times for several.",
    )
    junit = click.option("--junit", type=file, help="Also write JUnit XML here.")
    markdown = click.option("--markdown", type=file, help="Also write a summary here.")
    github = click.option("--github", is_flag=True, help="Also print GitHub's annotations.")
    return fail_on(junit(markdown(github(function))))


tag_option = click.option("--tag", "tags", multiple=True, help="Only boards with this tag; several times for several.")


def fleet_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Which boards of a fleet measure, instead of one target."""
    options = (
        click.option("--fleet", type=click.Path(dir_okay=False), help="A fleet .toml file: its boards measure."),
        click.option("--sku", help="The kind of board: the free ones of it share the cells."),
        tag_option,
        click.option("--each", is_flag=True, help="Measure every cell on each board, to see how far they differ."),
    )
    return add_options(options, function)


def one_board_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of which boards of a fleet one measures everything, instead of one target."""
    options = (
        click.option(
            "--fleet", type=click.Path(dir_okay=False), help="A fleet .toml file: one of its boards measures."
        ),
        click.option("--sku", help="The kind of board: the first free one of it is taken."),
        tag_option,
    )
    return add_options(options, function)


def own_model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a user says of a network of their own: whether it is trained, and what it is fed."""
    options = (train_option, shape_option, input_option, input_data_option, feedback_option, signature_option)
    return add_options(options, function)


def add_options(options: Sequence[Callable[..., Any]], function: Callable[..., Any]) -> Callable[..., Any]:
    """A command with these options, in the order of its help."""
    for option in reversed(options):
        function = option(function)
    return function
