"""The commands that read one file: inspect, decode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.app import command
from bench.cli.options import input_option, signature_option


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
