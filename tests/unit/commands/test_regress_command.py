"""`pressbench regress` and `triage`: exit codes, files, and names that are no markup."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from nights import cell, fill, history, night, quiet, stepped
from sqlalchemy import text

from bench.cli import main
from bench.store import Store

HOSTILE = "<script>alert(1)</script>|\n::error::boo \x1b[31m%0A @all"
SLOWER = history(stepped(60, 50))


@pytest.fixture
def pressbench(tmp_path, capsys, monkeypatch):
    """Runs the command line on a store in `results`; exit code, output and messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    def stored(nights):
        (tmp_path / "results").mkdir(exist_ok=True)
        with Store.open(tmp_path / "results" / "pressbench.db") as store:
            fill(store, nights)

    run.stored = stored
    return run


def test_a_regression_exits_1_and_names_the_series_the_night_and_the_size(pressbench):
    pressbench.stored(SLOWER)
    code, out, _ = pressbench("regress")
    assert code == 1
    assert "REGRESSION  cpu: the same file, from 2025-02-20T02:00:00+00:00 on" in out
    assert "+2.87 % (+2.61 to +3.13)" in out
    assert "cpu / Imagined CPU @ 2.80GHz / ort / lenet5 / baseline / digits / b1 t1 / latency (ms, host clock)" in out
    assert out.rstrip().endswith("1 regression")


def test_a_quiet_night_exits_0(pressbench):
    pressbench.stored(history(quiet(30)))
    code, out, _ = pressbench("regress")
    assert code == 0
    assert out.rstrip().endswith("nothing changed")


@pytest.mark.parametrize(("words", "code"), [(["nothing"], 0), (["missing"], 0), (["improvement", "regression"], 1)])
def test_only_the_kinds_that_are_asked_for_fail(pressbench, words, code):
    pressbench.stored(SLOWER)
    options = [part for word in words for part in ("--fail-on", word)]
    assert pressbench("regress", *options)[0] == code


def test_nothing_and_something_to_fail_on_is_refused(pressbench):
    pressbench.stored(SLOWER)
    code, _, said = pressbench("regress", "--fail-on", "nothing", "--fail-on", "missing")
    assert (code, "--fail-on nothing stands by itself" in said) == (2, True)


def test_json_has_every_alarm(pressbench):
    pressbench.stored(SLOWER)
    code, out, _ = pressbench("regress", "--json")
    found = json.loads(out)
    (alarm,) = found["alarms"]
    assert code == found["failed"] == 1
    assert (alarm["kind"], alarm["metric"], alarm["state"]) == ("regression", "latency", "new")
    assert alarm["low"] < 1.03 < alarm["high"]
    assert alarm["p"] < 0.001


def test_junit_has_a_failure_for_each_open_alarm(pressbench, tmp_path):
    pressbench.stored(SLOWER)
    pressbench("regress", "--junit", "out.xml")
    suite = ET.parse(tmp_path / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert suite.find("testcase/failure").get("message").startswith("regression: +2.87 % (")


def test_a_quiet_night_is_one_test_that_passed(pressbench, tmp_path):
    pressbench.stored(history(quiet(30)))
    pressbench("regress", "--junit", "out.xml")
    suite = ET.parse(tmp_path / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), len(suite)) == ("1", "0", 1)


def test_names_are_no_markup_anywhere(pressbench, tmp_path):
    pressbench.stored(history(stepped(60, 50), model=HOSTILE))
    code, out, _ = pressbench("regress", "--junit", "out.xml", "--markdown", "out.md", "--github")
    assert code == 1
    assert "\x1b" not in out
    lines = out.splitlines()
    assert sum(line.startswith("::") for line in lines) == 1
    assert "script" in ET.parse(tmp_path / "out.xml").getroot().find("testcase").get("name")
    written = (tmp_path / "out.md").read_text()
    assert "\\<script\\>" in written
    assert written.count("<") == written.count("\\<")
    assert " @all" not in written


def test_annotations_have_the_level_of_their_kind(pressbench):
    pressbench.stored(SLOWER)
    out = pressbench("regress", "--github")[1]
    (line,) = [line for line in out.splitlines() if line.startswith("::")]
    assert line.startswith("::error title=regression::cpu / ")
    assert "%25" in line  # the % of the size


def test_a_file_that_cannot_be_written_is_named(pressbench, tmp_path):
    pressbench.stored(history(quiet(30)))
    code, said, _ = pressbench("regress", "--junit", str(tmp_path / "absent" / "out.xml"))
    assert (code, "nothing changed\nnot written: --junit" in said, "out.xml" in said) == (3, True, True)


def test_a_file_that_cannot_be_written_hides_no_regression(pressbench, tmp_path):
    pressbench.stored(SLOWER)
    lacking = str(tmp_path / "absent" / "out")
    code, said, _ = pressbench("regress", "--junit", lacking, "--markdown", lacking, "--json")
    assert (code, json.loads(said)["failed"]) == (1, 1)
    assert ["--junit" in said, "--markdown" in said] == [True, True]


def one_alarm(pressbench):
    return json.loads(pressbench("regress", "--json")[1])["alarms"][0]


def test_an_acknowledged_alarm_stays_visible_and_fails_nothing(pressbench):
    pressbench.stored(SLOWER)
    alarm = one_alarm(pressbench)["id"]
    assert pressbench("triage", alarm, "acknowledged", "--note", "ticket 7")[0] == 0
    code, out, _ = pressbench("regress")
    assert code == 0
    assert "[acknowledged: ticket 7]" in out
    assert "1 of them acknowledged or expected" in out
    assert "ticket 7" in pressbench("triage")[1]


def test_the_decision_holds_where_the_located_night_moves(pressbench):
    pressbench.stored(SLOWER)
    alarm = one_alarm(pressbench)["id"]
    pressbench("triage", alarm, "expected")
    more = quiet(3, seed=5)
    nights = [(night(60 + n), [cell(night(60 + n), value * 1.03)]) for n, value in enumerate(more)]
    pressbench.stored(nights)
    again = one_alarm(pressbench)
    assert (again["id"], again["state"]) == (alarm, "expected")


def test_an_alarm_marked_fixed_that_is_still_there_fails_again(pressbench):
    pressbench.stored(SLOWER)
    pressbench("triage", one_alarm(pressbench)["id"], "fixed")
    code, out, _ = pressbench("regress")
    assert (code, "[fixed]" in out) == (1, True)


def test_a_second_decision_replaces_the_first(pressbench):
    pressbench.stored(SLOWER)
    alarm = one_alarm(pressbench)["id"]
    pressbench("triage", alarm, "expected")
    pressbench("triage", alarm, "new")
    assert pressbench("regress")[0] == 1


def test_acknowledging_needs_a_note_and_a_state_and_an_alarm_that_exists(pressbench):
    pressbench.stored(SLOWER)
    alarm = one_alarm(pressbench)["id"]
    for arguments, words in (
        ((alarm, "acknowledged"), "say why with --note"),
        ((alarm,), "name its state"),
        (("nonsense", "expected"), f"unknown alarm of the newest night 'nonsense' (known: {alarm})"),
    ):
        code, _, said = pressbench("triage", *arguments)
        assert code == 2
        assert words in said


def test_nothing_decided_says_so(pressbench):
    pressbench.stored(SLOWER)
    assert "nothing was decided yet" in pressbench("triage")[1]


@pytest.mark.parametrize("option", ["--false-alarms", "--smallest-effect"])
def test_a_share_that_is_none_is_refused(pressbench, option):
    pressbench.stored(SLOWER)
    code, _, said = pressbench("regress", option, "1.5")
    assert (code, option in said) == (2, True)


def test_a_store_without_runs_or_of_a_newer_version_is_named(pressbench, tmp_path):
    assert "no pressbench.db in this folder" in pressbench("regress")[2]
    pressbench.stored([])
    assert "no run is stored yet" in pressbench("regress")[2]
    with Store.open(tmp_path / "results" / "pressbench.db") as store, store.engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    code, _, said = pressbench("regress")
    assert code == 2
    assert "schema version 99" in said


def test_an_unknown_target_is_named(pressbench):
    pressbench.stored(SLOWER)
    code, _, said = pressbench("regress", "--target", "cpuu")
    assert code == 2
    assert "did you mean 'cpu'" in said


def test_a_night_that_still_runs_is_not_missing_anything(pressbench):
    nights = history(quiet(10))
    pressbench.stored(nights)
    with Store.open("results/pressbench.db") as store:
        store.begin_run(replace(night(10), status="running"))
    assert pressbench("regress")[0] == 0
