"""`pressbench compare`: the ratio of the times of two sides, measured interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.commands.versus.answer import make_answer, make_layers
from bench.commands.versus.revision import make_named
from bench.commands.versus.sides import Asked, Network, Variant, make_side, open_setting, read_patience
from bench.errors import InvalidInput
from bench.line.own_models import NOTHING_SAID, InputOptions
from bench.line.prepare import Setting
from bench.line.versus.layers import profile_sides
from bench.line.versus.revisions import find_revision, open_repository
from bench.line.versus.sides import Side, fed_alike, launch_sides, shares_process
from bench.line.versus.until import Compared, Patience, launch_until
from bench.line.wording import known_folders, users_file_named
from bench.records import SMALLEST_EFFECT
from bench.types import Json, Progress

PAIRS = {"recipes": "--recipe", "backends": "--backend", "pythons": "--python", "revisions": "--revision"}
"""What may be given twice, for one model -> its option."""


def compare_files(
    *,
    smallest_effect: float = SMALLEST_EFFECT,
    launches: int | None,
    width: float | None = None,
    time_s: float | None = None,
    **measured: Any,
) -> dict[str, Json]:
    """The answer for two files: as `measure_files`, with when to stop as `read_patience` reads it."""
    patience = read_patience(smallest_effect, width, time_s, launches)
    return make_answer(measure_files(patience=patience, smallest_effect=smallest_effect, **measured), smallest_effect)


def measure_files(
    *,
    target: str,
    backend: str | None,
    a: Path,
    b: Path,
    blocks: int,
    patience: Patience,
    threads: int,
    batch: int,
    cache: Path,
    progress: Progress,
    smallest_effect: float = SMALLEST_EFFECT,
    said: InputOptions = NOTHING_SAID,
) -> Compared:
    """Launches of ABBA blocks until `patience` ends. `said`: of the inputs of both files.

    Raises `InvalidInput` for an unknown target or backend, or a backend that only simulates.
    """
    asked = Asked(
        target=target,
        threads=threads,
        batch=batch,
        blocks=blocks,
        patience=patience,
        smallest_effect=smallest_effect,
        cache=cache,
        progress=progress,
        said=said,
        network=Network(dataset=""),
    )
    with open_setting(asked) as setting:
        sides = [make_side(variant, asked, setting) for variant in name_files((str(a), str(b)), backend)]
        return measure_sides(sides[0], sides[1], asked, setting)


def compare_variants(variants: Sequence[Variant], asked: Asked, repository: Path | None = None) -> dict[str, Any]:
    """The answer for two variants, with their titles and, where `asked.layers`, the times of their layers.

    `repository`: a folder of the one that revisions are of; the current folder where it is None.
    """
    makers = [find_maker(variant, repository) for variant in variants]
    with open_setting(asked) as setting:
        a, b = (make(variant, asked, setting) for make, variant in zip(makers, variants, strict=True))
        done = measure_sides(a, b, asked, setting)
        same = done.ratio.verdict == "same" or not asked.layers
        beside = None if same else profile_sides(a, b)
    answer = {"a": a.title, "b": b.title, **make_answer(done, asked.smallest_effect), **make_layers(beside)}
    return {**answer, "notes": describe_way(a, b)}


def find_maker(variant: Variant, repository: Path | None) -> Callable[[Variant, Asked, Setting], Side]:
    """What makes the side of a variant. Raises `InvalidInput` for a revision that does not exist."""
    if not variant.revision:
        return make_side
    place = open_repository(repository or Path.cwd())
    revision = find_revision(place, variant.revision)
    return partial(make_named, place, revision)


def describe_way(a: Side, b: Side) -> list[str]:
    """What must be known of how the sides ran."""
    apart = "" if shares_process(a, b) else "A and B cannot share a process: fresh processes took turns, A B B A"
    one = a.artifact.digest and a.artifact.digest == b.artifact.digest
    same = "A and B run the same file, byte by byte" if one else ""
    other = a.bench.session == b.bench.session and a.bench.reach is not b.bench.reach
    made = "both files were made by this environment, and run in the ones named" if other else ""
    return [note for note in (apart, same, made) if note]


def name_files(files: Sequence[str], backend: str | None = None) -> list[Variant]:
    """Two files of one backend."""
    return [Variant(title=file, model=file, backend=backend) for file in files]


def name_sides(
    sides: Sequence[str],
    model: str | None,
    recipes: Sequence[str] = (),
    backends: Sequence[str] = (),
    pythons: Sequence[str] = (),
    revisions: Sequence[str] = (),
) -> list[Variant]:
    """A and B from the arguments and options. Raises `InvalidInput` for what does not name two sides."""
    if model is not None:
        if sides:
            raise InvalidInput(f"--model {model} is both sides: leave {' '.join(sides)} out")
        return name_variants(model, recipes, backends, pythons, revisions)
    if len(sides) != 2:
        raise InvalidInput(
            f"{len(sides)} sides: name two model files, or one --model with one of {', '.join(PAIRS.values())} twice"
        )
    if recipes or pythons or revisions or len(backends) > 1:
        raise InvalidInput(
            "two files differ already: for --recipe, --python, --revision or two of --backend give --model"
        )
    return name_files(sides, *backends)


def name_variants(
    model: str, recipes: Sequence[str], backends: Sequence[str], pythons: Sequence[str], revisions: Sequence[str] = ()
) -> list[Variant]:
    """Two variants of one model, which differ in what was given twice.

    Raises `InvalidInput` where nothing was, or several were, or anything was given more often.
    """
    given = {
        "recipes": list(recipes),
        "backends": list(backends),
        "pythons": list(pythons),
        "revisions": list(revisions),
    }
    twice = [name for name, values in given.items() if len(values) > 1]
    options = ", ".join(PAIRS.values())
    if len(twice) != 1 or len(given[twice[0]]) != 2:
        raise InvalidInput(f"--model {model}: give exactly one of {options} twice: what A and B differ in")
    (differ,) = twice
    if given[differ][0] == given[differ][1]:
        raise InvalidInput(f"{PAIRS[differ]} {given[differ][0]} is given twice: A and B are the same")
    return [name_variant(model, given, differ, place) for place in range(2)]


def name_variant(model: str, given: Mapping[str, Sequence[str]], differ: str, place: int) -> Variant:
    """The side at a place, 0 or 1, of what was given twice."""
    one = {name: values[place if name == differ else 0] if values else "" for name, values in given.items()}
    return Variant(
        title=given[differ][place] or "the model as it is",
        model=model,
        recipe=one["recipes"],
        backend=one["backends"] or None,
        python=one["pythons"],
        revision=one["revisions"],
    )


def measure_sides(a: Side, b: Side, asked: Asked, setting: Setting) -> Compared:
    """Launches of both until `asked.patience` ends. Raises `InvalidInput` where inputs were given that fit only one."""
    if not fed_alike(a, b) and shares_process(a, b) and asked.said.data:
        raise InvalidInput(
            f"--input-data {asked.said.data}: {a.title} and {b.title} take inputs of other shapes: leave it out, and "
            "each is timed on drawn inputs of its own shapes"
        )
    known = known_folders({a.title: a.artifact, b.title: b.artifact})
    with users_file_named(setting.cache, f"{a.title} or {b.title}", known):
        return launch_until(
            lambda number: launch_sides(a, b, number),
            asked.patience,
            threads=a.bench.conditions.threads,
            smallest_effect=asked.smallest_effect,
            progress=lambda share: setting.progress("compare", share),
        )
