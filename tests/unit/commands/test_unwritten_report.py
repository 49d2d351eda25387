"""A report that cannot be written: what was there stays, and neither a run nor a night is lost with it."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from nights import fill, history, night, quiet, stepped

from bench.commands.nights.nightly import Told, Wishes, check_again, run_night
from bench.commands.progress import watching
from bench.commands.report import report_stored
from bench.commands.run import _write, run_suite
from bench.commands.search.command import _write_page
from bench.errors import DiskFull, Unavailable
from bench.line.plan import Request
from bench.line.run import Ended, Measured
from bench.paths import replaced
from bench.store import Store

FULL = Unavailable("--results nights: No space left on device")


def refuse(*_: object) -> None:
    """In place of `write_report`."""
    raise FULL


def test_a_page_that_does_not_fit_on_the_disk_leaves_the_earlier_one_whole(tmp_path, monkeypatch):
    """It took the place of the earlier one, cut off in the middle."""
    with Store.open(tmp_path / "pressbench.db") as store:
        fill(store, history(quiet(3)))
    asked = {"results": tmp_path, "url": None, "out": None, "run_id": None}
    report_stored(**asked)
    page, rows = (tmp_path / "dashboard.html").read_bytes(), (tmp_path / "cells.csv").read_bytes()

    def write_half(_records: object, path: Path, *_: object) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bench.commands.report.write_csv", write_half)
    with pytest.raises(Unavailable, match=r"No space left"):
        report_stored(**asked)
    monkeypatch.setattr("bench.commands.report.write_csv", lambda _, path: path.write_text("rows"))
    monkeypatch.setattr(
        "bench.commands.report.write_dashboard", lambda records, _, path, *more: write_half(records, path, *more)
    )
    with pytest.raises(Unavailable, match=r"No space left"):
        report_stored(**asked)
    assert (tmp_path / "dashboard.html").read_bytes() == page
    assert (tmp_path / "cells.csv").read_text() == "rows" != rows.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "dashboard.html", "pressbench.db"]


def test_a_page_has_the_permissions_of_the_earlier_one(tmp_path):
    """A page made readable for a web server was not any more after the next night."""
    page = tmp_path / "dashboard.html"
    page.write_text("earlier")
    page.chmod(0o664)
    before = os.umask(0o077)
    with replaced(page) as file:
        file.write_text("later")
    os.umask(before)
    assert (page.read_text(), stat.S_IMODE(page.stat().st_mode)) == ("later", 0o664)


def test_a_page_that_may_not_be_written_is_not_replaced(tmp_path, monkeypatch):
    page = tmp_path / "dashboard.html"
    page.write_text("kept")
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (page, os.W_OK))  # root may write everything
    with pytest.raises(PermissionError, match=r"dashboard.html: Permission denied"), replaced(page) as file:
        file.write_text("later")
    assert page.read_text() == "kept"


def test_two_containers_with_the_same_process_numbers_write_files_of_their_own(tmp_path):
    with replaced(tmp_path / "cells.csv") as one, replaced(tmp_path / "cells.csv") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "cells.csv").read_text() == "one"


def test_what_is_no_file_is_written_itself_as_a_device_that_a_link_leads_to(tmp_path):
    """As root, the device itself was replaced by a file."""
    os.mkfifo(tmp_path / "device")
    (tmp_path / "cells.csv").symlink_to("device")
    with replaced(tmp_path / "cells.csv") as file:
        assert file == tmp_path / "device"
    assert (tmp_path / "device").is_fifo()
    assert len([*tmp_path.iterdir()]) == 2


def test_a_page_of_a_search_that_does_not_fit_leaves_the_earlier_one_whole(tmp_path, monkeypatch):
    (page := tmp_path / "search-s" / "search.html").parent.mkdir()
    page.write_text("earlier")
    monkeypatch.setattr("bench.commands.search.command.say", lambda _: None)
    monkeypatch.setattr(
        "bench.commands.search.command.render_page", lambda *_: "\ud800"
    )  # is not text: fails in the middle
    with pytest.raises(UnicodeEncodeError):
        _write_page(SimpleNamespace(finals=None, run_id="s"), tmp_path)
    assert page.read_text() == "earlier"


def test_a_link_to_where_a_page_is_shown_stays_a_link(tmp_path):
    with Store.open(tmp_path / "pressbench.db") as store:
        fill(store, history(quiet(3)))
    (shown := tmp_path / "web").mkdir()
    (tmp_path / "dashboard.html").symlink_to(shown / "bench.html")
    report_stored(results=tmp_path, url=None, out=None, run_id=None)
    assert (tmp_path / "dashboard.html").is_symlink()
    assert (shown / "bench.html").stat().st_size > 10_000


def test_a_run_whose_report_cannot_be_written_says_where_it_is(monkeypatch):
    def refuse_more(*_: object) -> None:
        raise DiskFull("disk full")

    monkeypatch.setattr("bench.commands.run.write_files", refuse_more)
    with pytest.raises(DiskFull, match=r"`pressbench report --results 'my nights' --out FOLDER` writes its files"):
        _write([], [], None, Path("my nights"), None)


def test_a_run_whose_store_is_away_when_its_report_is_written_is_not_called_stored(tmp_path, monkeypatch):
    (suite := tmp_path / "suite.toml").write_text('name = "s"\nmodels = ["lenet5"]\n')
    (target := tmp_path / "target.toml").write_text('name = "t"\n[[backend]]\nname = "ort"\n')
    monkeypatch.setattr("bench.commands.run.run", lambda *_, **__: Ended(run_id="r", counts={}, measured=Measured()))
    monkeypatch.setattr(Store, "runs", lambda _: [replace(night(0), run_id="r")])
    monkeypatch.setattr(Store, "records", refuse)
    options = {"url": None, "resume": False, "report": True, "cache": tmp_path}
    with watching(io.StringIO()) as watch, pytest.raises(Unavailable) as raised:
        run_suite(Request(target=str(target), suite=str(suite)), results=tmp_path, watch=watch, **options)
    assert raised.value is FULL


def fill_nights(folder, monkeypatch, latencies) -> str:
    """A store with a night for each latency, the newest of which counts as tonight's run: its id."""
    with Store.open(folder / "pressbench.db") as store:
        fill(store, history(latencies))
    newest = night(len(latencies) - 1).run_id
    monkeypatch.setattr("bench.commands.nights.nightly.run_target", lambda *given, **_: given[3].runs.append(newest))
    return newest


def run_tonight(folder, **wishes):
    with watching(io.StringIO()) as watch:
        return run_night(
            Wishes(targets=("cpu",), suite="s", **wishes),
            lambda target: Request(target=target),
            results=folder,
            url=None,
            cache=folder,
            watch=watch,
        )


@pytest.mark.parametrize(("latencies", "code"), [(quiet(60), 3), (stepped(60, 55), 1)])
def test_a_night_whose_report_cannot_be_written_is_judged_all_the_same(tmp_path, monkeypatch, latencies, code):
    """The error was all that was said of the night, and its exit code hid a regression."""
    newest = fill_nights(tmp_path, monkeypatch, latencies)
    monkeypatch.setattr("bench.commands.nights.nightly.write_report", refuse)
    answer, text, ended = run_tonight(tmp_path)
    assert ended == code
    assert "no report: --results nights: No space left on device" in text
    assert answer["without_report"] == str(FULL)
    assert answer["runs_tonight"] == [newest]
    assert ("REGRESSION" in text) == (code == 1)


@pytest.mark.parametrize(("latencies", "code"), [(quiet(65), 3), (stepped(65, 60), 1)])
def test_a_night_on_a_full_disk_says_what_it_found(tmp_path, monkeypatch, latencies, code):
    """Thinning old nights, or a file of `--junit`, ended it before its judgement was said."""
    fill_nights(tmp_path, monkeypatch, latencies)
    monkeypatch.setattr(Store, "add", refuse)
    answer, text, ended = run_tonight(tmp_path, junit=Path("/dev/full"))
    assert ended == code
    assert ("REGRESSION" in text) == (code == 1)
    assert answer["night_notes"] == ["old nights were not tidied up: --results nights: No space left on device"]
    (lacking,) = answer["not_written"]
    assert lacking.startswith("--junit /dev/full: No space left on device")
    assert f"not written: {lacking}" in text


def test_files_that_are_not_run_beside_their_last_good_ones_as_a_run_began_later_are_noted(tmp_path):
    told = Told()
    with Store.open("sqlite:///:memory:") as store:
        fill(store, history(quiet(60)))
        check_again(
            store, night(58), Wishes(targets=("cpu",), suite="s"), told, results=tmp_path, cache=tmp_path, watch=None
        )
    (note,) = told.notes
    assert note.startswith(f"cpu: run {night(59).run_id} began after tonight's")
