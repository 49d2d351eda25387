"""The options that a target gives a backend or a meter: checked by name and value against what it declares."""

from __future__ import annotations

from collections.abc import Mapping

from bench.config.target import Target
from bench.device.meters.base import Meter
from bench.errors import InvalidInput, unknown
from bench.plugins import load
from bench.types import Backend, Scalar


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


def check_target_options(target: Target) -> None:
    """`check_options` of every backend and meter of a target. Raises as `bench.plugins.load` too."""
    for choice in target.backend:
        check_options(load("backend", choice.name), choice.options, f"backend {choice.title} of target {target.name}")
    for name, options in target.meter_options.items():
        check_options(load("meter", name), options, f"meter {name} of target {target.name}")
