"""The run, its machine, the pressbench that measured it, and where weights and ranges come from, as pairs of words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.records import Record, Run
from bench.report.text import number, size
from bench.types import Json


def describe_run(run: Run, records: Sequence[Record]) -> list[tuple[str, str]]:
    """Pairs of a name and a text, without those that have no text. `records`: of this and perhaps of other runs."""
    own = [record for record in records if record.run_id == run.run_id]
    pairs = [
        ("run", run.run_id),
        ("status", run.status),
        ("started", describe_moment(run.started_at)),
        ("ended", describe_moment(run.finished_at)),
        ("target", run.target),
        ("suite", run.suite),
        ("pressbench", describe_version(run)),
        ("weights", list_sources((record.weights, record.model) for record in own)),
        ("data", list_sources((record.data, record.model) for record in own)),
        ("calibration", list_sources((record.calibration, f"{record.model} {record.recipe}") for record in own)),
        *((name_fact(name), describe_fact(name, value)) for name, value in run.machine.items()),
    ]
    return [(name, text) for name, text in pairs if text]


def list_sources(pairs: Iterable[tuple[str, str]]) -> str:
    """Each source with what came from it; just the source where it is the only one. Pairs are (source, what)."""
    found: dict[str, list[str]] = {}
    for source, what in pairs:
        if source and what not in found.setdefault(source, []):
            found[source].append(what)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{source} ({', '.join(names)})" for source, names in found.items())


def describe_version(run: Run) -> str:
    """The version of pressbench, and the commit of its own source where it ran from a checkout."""
    return f"{run.version} (commit {run.revision})" if run.revision else run.version


def describe_moment(iso: str) -> str:
    """A time stamp to the second, with its zone."""
    zone = iso[19:].partition("+")[2]
    return f"{iso[:19].replace('T', ' ')} {'UTC' if zone in ('00:00', '') else f'UTC+{zone}'}" if iso else ""


def name_fact(name: str) -> str:
    """The key of a machine's fact in words; its text carries the unit."""
    return name.replace("_bytes", "").replace("_", " ")


def describe_fact(name: str, value: Json) -> str:
    """One fact of a machine as text; nested ones on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_bytes"):
        return size(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {describe_fact(str(key), inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(describe_fact("", inner) for inner in value)
    return "" if value is None else str(value)
