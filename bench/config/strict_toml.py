"""TOML files with strict keys: a typo is an error that names the file, the key and the nearest right one."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.errors import InvalidInput, unknown

STRICT = ConfigDict(extra="forbid", strict=True)
"""Put as `__pydantic_config__` on a dataclass that `read_toml` fills."""

Kind = TypeVar("Kind")


def shipped(package: str) -> dict[str, Path]:
    """Name -> TOML file of a package that ships them (`targets`, `bench.suites`)."""
    folder = Path(str(files(package)))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def locate(what: str, name: str, package: str) -> Path:
    """A shipped file by its name, or any file by a path that ends in .toml."""
    known = shipped(package)
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise InvalidInput(f"{what} file {name}: no such file")
        return Path(name)
    if name not in known:
        raise unknown(what, name, known)
    return known[name]


def read_toml(path: Path, kind: type[Kind]) -> Kind:
    """The file as a `kind`. Raises `InvalidInput` for what is no TOML, unknown keys and wrong types."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    try:
        return TypeAdapter(kind).validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise InvalidInput(f"{path}: {'; '.join(_explain(item, kind) for item in error.errors())}") from None


def _explain(item: Any, kind: type[Any]) -> str:
    place = ".".join(str(part) for part in item["loc"] if not str(part).startswith("function-"))
    if item["type"] == "unexpected_keyword_argument":
        known = sorted(_keys(kind))
        near = get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f", did you mean {near[0]!r}?" if near else ""
        return f"unknown key {place!r}{hint} (known keys: {', '.join(known)})"
    if item["type"] == "missing":
        return f"key {place!r} is missing"
    return f"key {place!r}: {item['msg']} (found {item['input']!r})"


def _keys(kind: type[Any]) -> set[str]:
    """All keys of a schema, nested ones too: the hint may point one level off, never to a wrong name."""
    schema = TypeAdapter(kind).json_schema()
    blocks = [schema, *schema.get("$defs", {}).values()]
    return {key for block in blocks for key in block.get("properties", {})}
