"""`pressbench cache`: what the artifact cache holds, and `pressbench cache prune`, which removes from it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Group

from bench.errors import InvalidInput
from bench.report.text_table import text_table
from bench.types import Json
from bench.upkeep import MEANINGS, Kept, prune, survey

SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
COLUMNS = ("kind", "entries", "size", "oldest use (UTC)", "newest use", "in use", "")
Answer = tuple[Json, Json]


def show_cache(cache: Path) -> Answer:
    """Size, number and oldest and newest use of what is kept, by kind."""
    kept = survey(cache)
    kinds = [_summary(kind, [item for item in kept if item.kind == kind]) for kind in MEANINGS]
    there = [kind for kind in kinds if kind["entries"]]
    total = sum(item.size for item in kept)
    head = f"{cache}: {size_text(total)}"
    text = Group(head, text_table(COLUMNS, [_row(kind) for kind in there])) if there else f"{head}, nothing is kept"
    return {"folder": str(cache), "bytes": total, "kinds": there}, text


def prune_cache(cache: Path, *, older_than: str | None, max_size: str | None, dry_run: bool) -> Answer:
    """Removes what `bench.upkeep.prune` chooses; says what it removed and what it left because it is in use.

    Raises `InvalidInput` for a duration or a size that does not read.
    """
    done = prune(
        cache,
        older_than_s=None if older_than is None else amount(older_than, SECONDS, "--older-than", "30d or 12h"),
        max_bytes=None if max_size is None else int(amount(max_size, BYTES, "--max-size", "5GB or 500MB")),
        dry_run=dry_run,
        now=time.time(),
    )
    freed, left = (sum(item.size for item in items) for items in (done.removed, done.left))
    answer = {
        "folder": str(cache),
        "dry_run": dry_run,
        "removed": [_facts(item) for item in done.removed],
        "in_use": [_facts(item) for item in done.spared],
        "leftovers": [str(path) for path in done.leftovers],
        "freed_bytes": freed,
        "left_bytes": left,
    }
    verb = "would remove" if dry_run else "removed"
    count = f"{len(done.removed)} of {len(done.removed) + len(done.left)} entries"
    lines = [f"{verb} {count}, {size_text(freed)}; {size_text(left)} stay"]
    if done.leftovers:
        lines.append(f"{verb} what killed processes left: {len(done.leftovers)} files or folders")
    if done.spared:
        lines.append(f"left what running processes use: {len(done.spared)}")
    return answer, "\n".join(lines)


def amount(text: str, units: Mapping[str, int], option: str, example: str) -> float:
    """A number and a unit, in the smallest unit. Raises `InvalidInput` naming the option and its units."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    unit = {name.lower(): size for name, size in units.items()}.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise InvalidInput(f"{option} {text!r}: a number and one of {', '.join(units)}, as {example}")
    return float(match[1]) * unit


def size_text(size: int) -> str:
    """Bytes in the largest unit that leaves a whole number in front: 1.5 GB."""
    name, unit = next(((name, unit) for name, unit in reversed(BYTES.items()) if size >= unit), ("bytes", 1))
    return f"{size / unit:.1f} {name}" if unit > 1 else f"{size} bytes"


def _summary(kind: str, kept: Sequence[Kept]) -> dict[str, Json]:
    return {
        "kind": kind,
        "what": MEANINGS[kind],
        "entries": len(kept),
        "bytes": sum(item.size for item in kept),
        "oldest_use": min((_time(item.used) for item in kept), default=""),
        "newest_use": max((_time(item.used) for item in kept), default=""),
        "in_use": sum(item.in_use for item in kept),
        "prunable": all(item.prunable for item in kept),
    }


def _row(kind: Mapping[str, Json]) -> tuple[str, ...]:
    uses = (kind[name][:16].replace("T", " ") for name in ("oldest_use", "newest_use"))
    left = "" if kind["prunable"] else "; prune leaves it"
    what = f"{kind['what']}{left}"
    return (kind["kind"], str(kind["entries"]), size_text(kind["bytes"]), *uses, str(kind["in_use"]), what)


def _facts(item: Kept) -> dict[str, Json]:
    return {"kind": item.kind, "name": item.name, "bytes": item.size, "used": _time(item.used)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
