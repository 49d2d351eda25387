"""Deployed files kept by their content beside the results, so that a later night can run them again.

artifacts/DIGEST/            the files of one artifact, and `artifact.json` with how it is opened
artifacts/.part-DIGEST-PID   one that is being copied; renamed to DIGEST when it is whole
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench.cache import SIDECAR, sha256
from bench.errors import Unavailable, full_disk_ends
from bench.types import Artifact, Json, Precision

FOLDER = "artifacts"
HOW = "artifact.json"
PART = ".part-"


def keep(results: Path, cache: Path, digests: Collection[str]) -> dict[str, str]:
    """Copies artifacts from the cache; digest -> why one could not be kept. Those that are there already are left.

    Raises `Unavailable` if the folder cannot be written.
    """
    wanted = {digest for digest in digests if digest and not (results / FOLDER / digest / HOW).is_file()}
    found = find_compiled(cache, wanted) if wanted else {}
    for digest, folder in found.items():
        _copy(folder, results / FOLDER / digest, digest)
    return {digest: f"no file {digest[:12]} is in the cache any more" for digest in wanted - set(found)}


def find_compiled(cache: Path, digests: Collection[str]) -> dict[str, Path]:
    """Digest -> the cache's folder of that compiled file."""
    found: dict[str, Path] = {}
    for sidecar in sorted((cache / "compiled").glob(f"*/{SIDECAR}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            body = json.loads(sidecar.read_text(encoding="utf-8"))["body"]
            digest = body["digests"][body["facts"]["file"]]
            if digest in digests:
                found[digest] = sidecar.parent
    return found


def _copy(folder: Path, place: Path, digest: str) -> None:
    body: Mapping[str, Json] = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))["body"]
    part = place.with_name(f"{PART}{digest}-{os.getpid()}")
    try:
        with full_disk_ends(f"the kept files at {place.parent}"):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(folder, part, ignore=shutil.ignore_patterns(SIDECAR))
            (part / HOW).write_text(json.dumps(body), encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)  # one without its `artifact.json`
            part.rename(place)
    except OSError as error:
        raise Unavailable(
            f"cannot keep {place}: {error.strerror or error}; free space, or name another --results"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def find_kept(results: Path, digest: str) -> Artifact:
    """A kept artifact. Raises `Unavailable` that says why there is none: deleted, damaged, never kept."""
    folder = (results / FOLDER / digest).resolve()  # a worker stands in a folder of its own
    try:
        body = json.loads((folder / HOW).read_text(encoding="utf-8"))
        facts, files = body["facts"], dict(body["digests"])
        for name, wanted in files.items():
            file = (folder / name).resolve()
            if folder not in file.parents or sha256(file) != wanted:
                raise Unavailable(f"the kept file {folder / name} is damaged: another content than was kept")
        if files[facts["file"]] != digest:
            raise Unavailable(f"the kept file {folder} is damaged: its folder has another name than its content")
        return Artifact(
            path=folder / facts["file"],
            format=facts["format"],
            digest=digest,
            precision=TypeAdapter(Precision).validate_python(facts["precision"]),
            facts=facts["facts"],
        )
    except FileNotFoundError as error:
        missing = Path(error.filename or folder).name
        where = folder if missing == HOW else folder / missing
        raise Unavailable(f"{where} is gone: it was deleted, or never kept") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise Unavailable(f"the kept file {folder} is damaged: {error}") from error


def prune_kept(results: Path, needed: Collection[str]) -> list[str]:
    """Removes every kept artifact that is not needed, and what a killed process left; returns the digests."""
    removed = []
    for folder in sorted((results / FOLDER).glob("*")) if (results / FOLDER).is_dir() else []:
        if folder.name not in needed:
            shutil.rmtree(folder, ignore_errors=True)
            removed += [] if folder.name.startswith(PART) else [folder.name]
    return removed
