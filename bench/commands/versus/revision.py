"""One side of a comparison from a revision of the user's repository, whose working tree is never touched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.commands.versus.build import Order, build_side
from bench.commands.versus.sides import Asked, Variant, make_side
from bench.errors import InvalidInput, PressbenchError
from bench.line.prepare import Setting
from bench.line.versus.revisions import Repository, Revision, check_pointer, write_revision
from bench.line.versus.sides import Side
from bench.models.registry import FILE_SUFFIXES, names_reference

PATHS = ("weights", "dataset", "data_root", "calibrate")
"""What of a network may be a path of the user's."""


def make_revision(repository: Repository, revision: Revision, variant: Variant, asked: Asked, setting: Setting) -> Side:
    """The side of a revision, from its files in a temporary folder, which is removed again.

    Raises what building raises, `InvalidInput` for a file that the revision does not have.
    """
    if variant.python:
        raise InvalidInput("--python and --revision: give one of them; a revision is built and run by this Python")
    if names_reference(variant.model):
        raise InvalidInput(
            f"--model {variant.model} is one of our networks, the same at every revision: name package.module:function or "
            "a file of your repository"
        )
    checkout = setting.folder / "revisions" / revision.hash
    try:
        write_revision(repository, revision, checkout)
        if variant.model.endswith(FILE_SUFFIXES):
            file = checkout / place_in(repository, Path(variant.model))
            if not file.is_file():
                raise InvalidInput(f"there is no file {variant.model} in this revision")
            check_pointer(file)
            return make_side(replace(variant, title=revision.title, model=str(file)), asked, setting)
        order = make_order(repository, revision, checkout, variant, asked)
        return build_side(
            order, setting.folder / f"built-{revision.hash}", place_to_stand(repository, checkout), setting
        )
    finally:
        shutil.rmtree(checkout, ignore_errors=True)


def make_named(repository: Repository, revision: Revision, variant: Variant, asked: Asked, setting: Setting) -> Side:
    """As `make_revision`; errors begin with the revision's title."""
    try:
        return make_revision(repository, revision, variant, asked, setting)
    except PressbenchError as error:
        raise type(error)(f"{revision.title}: {error}") from error


def make_order(repository: Repository, revision: Revision, checkout: Path, variant: Variant, asked: Asked) -> Order:
    """What the process that builds is asked for, its paths absolute: it stands elsewhere."""
    network = asked.network
    return Order(
        target=absolute(asked.target),
        threads=asked.threads,
        batch=asked.batch,
        cache=asked.cache.absolute(),
        said=replace(asked.said, data=absolute(asked.said.data)),
        network=replace(network, **{name: absolute(getattr(network, name)) for name in PATHS}),
        variant=replace(variant, title=revision.title),
        repository=repository.root,
        checkout=checkout,
    )


def place_to_stand(repository: Repository, checkout: Path) -> Path:
    """The folder of the revision where the user stands in their repository; its top where there is no such folder."""
    here = Path.cwd().resolve()
    inside = checkout / here.relative_to(repository.root) if here.is_relative_to(repository.root) else checkout
    return inside if inside.is_dir() else checkout


def absolute(text: Any) -> Any:
    """A path that exists from here, so that another folder finds it too; any other text as it is."""
    return str(Path(text).absolute()) if text and Path(text).exists() else text


def place_in(repository: Repository, file: Path) -> Path:
    """Where a file of the user's lies in their repository. Raises `InvalidInput` for one outside."""
    place = file.absolute().parent.resolve() / file.name
    if not place.is_relative_to(repository.root):
        raise InvalidInput(f"--model {file} lies outside the repository {repository.root}")
    return place.relative_to(repository.root)
