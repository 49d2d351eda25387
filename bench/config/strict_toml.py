"""TOML files with strict keys: a typo is an error that names the file, the key and the nearest right one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.errors import InvalidInput, unknown

STRICT = ConfigDict(extra="forbid", strict=True)
"""The `__pydantic_config__` of each dataclass that `read_toml` fills."""

WANTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a table",
}
"""pydantic's name of an error -> what the file should have there."""
UNION_MEMBERS = ("str", "int", "float", "bool")
"""How pydantic names the members of `Scalar` in the place of an error."""

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


def check_names(names: Iterable[str], where: str) -> None:
    """Raises `InvalidInput`, naming `where`, for a name that no table can show: without a sign, or with one that is not printed."""
    for name in names:
        if not name.strip() or not name.isprintable():
            raise InvalidInput(f"{where}: a name of printable signs, found {name!r}")


def read_toml(path: Path, kind: type[Kind]) -> Kind:
    """The file as a `kind`. Raises `InvalidInput` for what is not TOML, unknown keys and wrong types."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not UTF-8 from byte {error.start} on: save it in UTF-8") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    except RecursionError:
        raise InvalidInput(f"{path}: lists or tables are nested too deeply") from None
    try:
        return TypeAdapter(kind).validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        said = dict.fromkeys(_explain(item, kind) for item in error.errors())
        raise InvalidInput(f"{path}: {'; '.join(said)}") from None


def _explain(item: Any, kind: type[Any]) -> str:
    """One error of pydantic, in words for someone who wrote a TOML file."""
    parts = [part for part in item["loc"] if not str(part).startswith("function-")]
    if parts[-1] in UNION_MEMBERS and item["type"] != "unexpected_keyword_argument":
        return f"key {_place(parts[:-1])!r}: text, a number, true or false, found {item['input']!r}"
    if item["type"] == "unexpected_keyword_argument":
        return _explain_unknown(parts, kind)
    if item["type"] == "missing":
        return f"key {_place(parts)!r} is missing"
    wanted = WANTED.get(item["type"], item["msg"])
    if item["type"] == "tuple_type" and isinstance(item["input"], dict):
        wanted = f"a list of tables, [[{_place(parts)}]]"
    return f"key {_place(parts)!r}: {wanted}, found {item['input']!r}"


def _explain_unknown(parts: Sequence[str | int], kind: type[Any]) -> str:
    """Names the nearest key of the same table, or the table that has a key of this name."""
    table = ".".join(part for part in parts[:-1] if isinstance(part, str))
    name, keys = str(parts[-1]), _keys(kind)
    table = table if table in keys else f"{table.partition('.')[0]}.*"
    near = get_close_matches(name, keys[table], n=1, cutoff=0.5)
    elsewhere = [f"{other}.{name}" for other in keys if other and name in keys[other]]
    meant = elsewhere or near
    hint = f", did you mean {meant[0]!r}?" if meant else ""
    return f"unknown key {_place(parts)!r}{hint} (known keys: {', '.join(keys[table])})"


def _place(parts: Sequence[str | int]) -> str:
    """`("backend", 0, "name")` -> "backend[0].name"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _keys(kind: type[Any]) -> dict[str, list[str]]:
    """Table -> its keys, sorted. "" is the file itself, "measure" the table [measure], "boards.*" every [boards.NAME]."""
    schema = TypeAdapter(kind).json_schema()
    found = {"": sorted(schema["properties"])}
    for name, value in schema["properties"].items():
        named = value.get("additionalProperties")
        of_each = named.get("$ref") if isinstance(named, dict) else None
        optional = next((one["$ref"] for one in value.get("anyOf", ()) if "$ref" in one), None)
        reference = value.get("$ref") or value.get("items", {}).get("$ref") or of_each or optional
        if reference:
            table = f"{name}.*" if of_each else name
            found[table] = sorted(schema["$defs"][reference.rpartition("/")[2]]["properties"])
    return found
