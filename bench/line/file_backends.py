"""Which backends of a target measure a model that is a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.config.target import BackendChoice, Target
from bench.plugins import load
from bench.types import Model

Accepts = Callable[[str], Sequence[str]]
"""Name of a backend -> the formats it takes."""


def load_accepts(backend: str) -> Sequence[str]:
    """The formats that a backend takes. Raises as `bench.plugins.load`."""
    accepts: Sequence[str] = load("backend", backend).accepts
    return accepts


def choose_backends(
    model: Model, planned: Sequence[BackendChoice], target: Target, accepts: Accepts = load_accepts
) -> tuple[list[BackendChoice], str]:
    """The planned backends that take the file, and a note if others of the target had to stand in for them.

    If none of the target takes the file, the planned ones stay: their cells say what they take.
    """
    if model.file is None:
        return list(planned), ""
    form = model.file.suffix.removeprefix(".")
    fit = [choice for choice in planned if form in accepts(choice.name)]
    if fit:
        return fit, ""
    others = [choice for choice in target.backend if choice not in planned and form in accepts(choice.name)]
    if not others:
        return list(planned), ""
    names, missed = (", ".join(choice.title for choice in choices) for choices in (others, planned))
    return others, f"{model.name}: measured by {names}, because {missed} takes no .{form} file"
