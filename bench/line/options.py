"""What a target and its backends agree on: options, checked against what is declared, and the widths of layers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.compress.recipe import fit_widths
from bench.config.target import BackendChoice, Target
from bench.device.meters.base import Meter
from bench.errors import InvalidInput, unknown
from bench.machine import cpu_flags
from bench.plugins import load
from bench.types import Backend, Recipe, Scalar

LOCAL = "local"
"""The reach of this machine, whose CPU is known when a run is planned."""


def check_options(plugin: Backend | type[Backend | Meter], options: Mapping[str, Scalar], whose: str) -> None:
    """Raises `InvalidInput` for an option that a backend or meter does not declare, or a value that it does not take.

    `whose`: how the message names it. A backend may check more when it compiles: a range, a combination.
    """
    for key, value in options.items():
        if key not in plugin.options:
            raise unknown(f"option of {whose}", key, plugin.options)
        allowed = plugin.options[key]
        if allowed and value not in allowed:
            raise InvalidInput(f"{whose}: option {key} = {value!r}; allowed are {', '.join(map(repr, allowed))}")


def read_options(texts: Sequence[str]) -> dict[str, Scalar]:
    """KEY=VALUE of `--option`, the value as a target file has it: `true`, `8`, `0.5`, or text without quotes.

    Raises `InvalidInput` for a text without a key or a value, and for a key that is given twice.
    """
    found: dict[str, Scalar] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key.strip() or not value.strip():
            raise InvalidInput(f"--option {text}: KEY=VALUE, as reduce_range=true")
        if key in found:
            raise InvalidInput(f"--option {key} is given twice")
        try:
            read = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            read = value
        found[key] = read if isinstance(read, (str, int, float, bool)) else value
    return found


def check_target_options(target: Target) -> None:
    """`check_options` of every backend and meter of a target. Raises as `bench.plugins.load` too."""
    for choice in target.backend:
        check_options(load("backend", choice.name), choice.options, f"backend {choice.title} of target {target.name}")
    for name, options in target.meter_options.items():
        check_options(load("meter", name), options, f"meter {name} of target {target.name}")


def fit_recipe(recipe: Recipe, choice: BackendChoice, reach: str, root: Path = Path("/")) -> tuple[Recipe, str]:
    """The recipe with the widths that it leaves to the target chosen, and a note that says which; "" if it leaves none.

    `root`: where /proc is. Raises as `bench.plugins.load`.
    """
    where, step = find_width_step(load("backend", choice.name), choice.options, reach, root)
    fitted = fit_widths(recipe, step)
    if fitted == recipe:
        return recipe, ""
    return fitted, f"width step {step}: the kernels of {choice.title} take {step} channels at a time{where}"


def find_width_step(backend: type[Backend], options: Mapping[str, Scalar], reach: str, root: Path) -> tuple[str, int]:
    """Where the backend runs, in words (" with avx512"), and how many channels its kernels take at a time there."""
    steps = backend.width_steps
    named = [str(value) for value in options.values() if str(value) in steps]
    if not named and reach == LOCAL and "avx512" in steps and "avx512f" in cpu_flags(root):
        named = ["avx512"]
    return (f" with {named[0]}", steps[named[0]]) if named else ("", steps[""])
