"""`pressbench search`: searches, writes the winner's files, and says what was found."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Group
from rich.text import Text

from bench.cache import check_writable
from bench.commands.progress import Watch
from bench.commands.report import Report, open_existing, write_report
from bench.commands.run import look_around
from bench.commands.search.answer import describe, draw, say
from bench.commands.search.page import render_page
from bench.commands.temporary import owned_temporary_files
from bench.errors import InvalidInput, Regression, Unavailable
from bench.line.run import Surroundings
from bench.paths import check_results, database, replaced, written
from bench.records import SEARCH, Run
from bench.search.asked import SUITE, Asked
from bench.search.found import Finals, Found
from bench.search.run import find_best
from bench.store import Store, find_absent_file
from bench.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `pressbench search` answers with. `code`: 0 where a network keeps every limit on the test set too."""

    answer: Json
    text: Group
    code: int


def search_best(
    asked: Asked, *, results: Path, url: str | None, resume: bool, cache: Path, watch: Watch, cluster: str = ""
) -> Answer:
    """Searches, stores every trial, and writes the winner's file, the search's page and the report into `results`.

    `cluster`: where candidates are trained, "" for this process.

    Raises what `find_best` raises, of a fleet `find_on_one_board`, and `InvalidInput` where there is nothing to resume.
    """
    check_writable(cache)
    earlier = _find_earlier(asked, results, url) if resume else None
    check_results(results)
    with owned_temporary_files() as folder, Store.open(database(results, url), say=watch.note) as store:
        around = look_around(store, cache, folder, watch, cluster)
        found = _find(asked, around, watch, earlier)
        watch.finish()
        try:
            files, report = _write(found, store, results)
        except Unavailable as error:  # the search is not lost with its files
            raise Unavailable(f"{error}. {' '.join(say(found))}") from error
    answer = {**describe(found), "files": list(map(str, files)), "dashboard": str(report.dashboard)}
    text = Group(*draw(found), Text("\n".join(f"Wrote {file}" for file in (*files, report.csv, report.dashboard))))
    return Answer(answer=answer, text=text, code=0 if _is_kept(found) else Regression.exit_code)


def _find(asked: Asked, around: Surroundings, watch: Watch, earlier: Run | None) -> Found:
    """On one target, or on one board of a fleet, whose code is imported only then."""
    if asked.request.fleet is None:
        return find_best(asked, around, watch.say, earlier=earlier)
    from bench.commands.search.on_fleet import find_on_one_board

    return find_on_one_board(asked, around, watch, earlier)


def _write(found: Found, store: Store, results: Path) -> tuple[tuple[Path, ...], Report]:
    """The winner's files and the search's page; the report of the finalists."""
    finals = found.finals
    files = (*(_write_winner(finals, results) if finals else ()), _write_page(found, results))
    shown = finals.run_id if finals else found.run_id
    return files, write_report(store, [one for one in store.runs() if one.run_id == shown], results, "--results")


def _write_page(found: Found, results: Path) -> Path:
    """The page of the search, beside the winner's file."""
    folder = results / f"search-{found.finals.run_id if found.finals else found.run_id}"
    with written(folder, "--results"):
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(folder / "search.html") as file:
            file.write_text(render_page(found, say(found)), encoding="utf-8")
    return folder / "search.html"


def _is_kept(found: Found) -> bool:
    """Whether what is shipped is believed and keeps every limit: the winner, or the uncompressed network where nothing is better."""
    if found.finals is None:
        return False
    shipped = found.finals.tried[:2][-1]
    return (shipped.counts or not shipped.recipe) and not shipped.over


def _find_earlier(asked: Asked, results: Path, url: str | None) -> Run:
    """The last interrupted search that was asked for the same. Raises `InvalidInput` where there is none."""
    absent = InvalidInput(f"--resume: there is no interrupted search on target {asked.request.target!r}")
    if find_absent_file(url) if url else not (results / "pressbench.db").exists():
        raise absent
    with open_existing(results, url) as store:
        kind = asked.request.target, SUITE, "interrupted"
        runs = [run for run in reversed(store.runs()) if SEARCH in run.request]  # a suite of the user may have its name
    begun = [run for run in runs if (run.target, run.suite, run.status) == kind]
    differences = [_find_difference(asked, one) for one in begun]
    if "" in differences:
        return begun[differences.index("")]
    raise InvalidInput(differences[0]) if differences else absent


def _find_difference(asked: Asked, earlier: Run) -> str:
    """By what an interrupted search differs from what is asked now; "" where it does not."""
    there = asked.on(earlier.request.get("board"))
    wanted = asked.begin(replace(earlier, request=there.stored_request()))
    for known, now in ((earlier.request, wanted.request), (earlier.request[SEARCH], wanted.request[SEARCH])):
        for name, value in known.items():
            if name != SEARCH and value != now.get(name):
                return (
                    f"--resume: run {earlier.run_id} was begun with other options ({name}: {value}, now {now.get(name)}): give "
                    "the same, or leave --resume out to begin another search"
                )
    return ""


def _write_winner(finals: Finals, results: Path) -> tuple[Path, ...]:
    """The deployed file of the winner, and its recipe."""
    if finals.artifact is None:
        return ()
    folder = results / f"search-{finals.run_id}"
    file, recipe = folder / f"winner{finals.artifact.path.suffix}", folder / "recipe.txt"
    with written(folder, "--results"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(finals.artifact.path, file)
        recipe.write_text(f"{finals.tried[1].recipe}\n", encoding="utf-8")
    return file, recipe
