"""Messages name the user's file: paths inside the cache mean nothing to a user, and are gone tomorrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.errors import PressbenchError
from bench.types import Artifact, Model

DEPLOYED = r"(?<![\w./-])model\.(?:onnx|tflite|pt2)\b"
"""The name of every compiled file, as an adapter that names a file without its folder says it."""
REST = r"/[^\s'\",;:()]+"
"""The rest of a path, up to what ends it in a message."""


def title_of(model: Model) -> str:
    """How a user names a model: by its file, or by its text."""
    return str(model.brought or model.name)


def name_users_file(text: str, cache: Path, name: str, known: Mapping[Path, str] | None = None) -> str:
    """The text with `name` in place of every path below the cache; paths in a folder of `known` have its name.

    A text that names the cache's own folder keeps it: it is about the cache.
    """
    for folder, title in (known or {}).items():
        text = _replace(rf"{re.escape(str(folder))}(?:{REST})?", title, text)
    return _replace(rf"{re.escape(str(cache))}/[\w-]+{REST}|{DEPLOYED}", name, text)


def _replace(pattern: str, title: str, text: str) -> str:
    return re.sub(pattern, lambda _: title, text)


@contextmanager
def users_file_named(cache: Path, name: str, known: Mapping[Path, str] | None = None) -> Iterator[None]:
    """Around work on cached files: passes on its `PressbenchError` with `name_users_file` applied to the text."""
    try:
        yield
    except PressbenchError as error:
        text = name_users_file(str(error), cache, name, known)
        if text == str(error):
            raise
        raise type(error)(text) from error


def known_folders(artifacts: Mapping[str, Artifact]) -> dict[Path, str]:
    """Folder in the cache -> user's file, from user's file -> what it was compiled to."""
    return {artifact.path.parent: name for name, artifact in artifacts.items()}
