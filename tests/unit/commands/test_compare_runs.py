"""`pressbench compare` of two stored runs: which cells are measured again, and what is said of the others."""

from __future__ import annotations

import json
import math

import pytest
from nights import cell, fill, night

from bench.cli import main
from bench.commands.versus import runs
from bench.records import Launch, LayerTime
from bench.stats.ratio import ratio_apart
from bench.store import Store
from bench.types import Status


def launches(milliseconds, count=3):
    return tuple(
        Launch(samples_ns=tuple(int(1e6 * milliseconds) + place + 10 * number for place in range(9)))
        for number in range(count)
    )


def timed(of, milliseconds, **changes):
    return cell(of, milliseconds, launches=launches(milliseconds), **changes)


@pytest.fixture
def compare(monkeypatch, tmp_path, capsys):
    """Stores two nights of these cells and compares them: exit code, answer or text, messages."""
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "cache"))

    def run(before, after, *options, sides=("night-000-cpu", "night-001-cpu"), text=False):
        results = tmp_path / "results"
        if not results.exists():
            results.mkdir()
            both = [night(0), night(1, revision="def")]
            with Store.open(results / "pressbench.db") as store:
                fill(store, list(zip(both, (before(both[0]), after(both[1])), strict=True)))
        with pytest.raises(SystemExit) as ended:
            main(["compare", *sides, "--results", str(results), *options, *(() if text else ("--json",))])
        shown = capsys.readouterr()
        found = shown.out if text else json.loads(shown.out or "{}")
        return ended.value.code, found, shown.err

    return run


def layer(operator, mean_us):
    return LayerTime(name=operator, operator=operator, mean_us=mean_us, runs=20)


def test_cells_whose_files_are_gone_come_from_the_records_and_say_so(compare):
    def before(of):
        return [timed(of, 1.0, digest="a", profile=(layer("Conv", 700.0),)), timed(of, 5.0, model="gone", digest="c")]

    def after(of):
        return [timed(of, 1.5, digest="b", profile=(layer("Conv", 1200.0),)), timed(of, 5.0, model="new", digest="d")]

    code, found, _ = compare(before, after)
    (row,) = found["cells"]
    assert (code, row["way"], row["verdict"]) == (0, "records", "slower")
    assert row["ratio"] == pytest.approx(1.5, rel=1e-3)
    assert row["note"].startswith("not interleaved: ")
    assert any("pressbench" in fact for fact in row["environment"])
    assert [name.split(" / ")[2] for name in (*found["only_in_a"], *found["only_in_b"])] == ["gone", "new"]
    code, out, _ = compare(before, after, "--fail-on", "slower", text=True)
    assert code == 1
    assert "slower; from the records, not interleaved: " in out
    assert "Conv: 700.0 us of 1 -> 1200.0 us of 1" in out
    assert "only in A: cpu / " in out


def test_another_device_is_named_whatever_the_verdict(compare):
    def on(device):
        return lambda of: [timed(of, 1.0, digest="a", device=device)]

    code, out, _ = compare(on("NVIDIA A10"), on("NVIDIA L4"), text=True)
    assert code == 0
    assert "B takes 1.0000 times as long as A" in out
    assert "  changed: device NVIDIA A10 -> NVIDIA L4" in out


def test_files_that_are_there_are_measured_side_by_side_and_equal_ones_are_not(compare, monkeypatch):
    measured = []

    def measure(files, key, _state, _wished):
        measured.append((files, key))
        return ratio_apart([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]), ["B: fell back"]

    monkeypatch.setattr(runs, "plan_again", lambda *_: "planned" and object())
    monkeypatch.setattr(runs, "find_file", lambda _results, digest, *_: digest)
    monkeypatch.setattr(runs, "measure_files", measure)

    def before(of):
        return [timed(of, 1.0, digest="a"), timed(of, 1.0, model="same", digest="s")]

    def after(of):
        return [timed(of, 1.0, digest="b"), timed(of, 1.0, model="same", digest="s")]

    code, found, _ = compare(before, after)
    assert [(row["way"], row["verdict"]) for row in found["cells"]] == [("side by side", "slower"), ("records", "same")]
    assert [files for files, _ in measured] == [["a", "b"]]
    assert found["cells"][1]["note"] == "not interleaved: both runs have the same file"
    assert (code, found["reasons"]) == (4, ["B: fell back"])
    code, found, _ = compare(before, after, "--records", "--cell", "same")
    assert [row["cell"].split(" / ")[2] for row in found["cells"]] == ["same"]
    assert len(measured) == 1


def test_cells_that_are_not_believed_and_estimates_have_no_ratio(compare):
    def before(of):
        return [timed(of, 1.0), timed(of, 1.0, model="late", status=Status.FAILED, reasons=("it died",))]

    def after(of):
        return [cell(of, None), timed(of, 1.0, model="late")]

    code, found, _ = compare(before, after)
    assert code == 0
    assert [row["verdict"] for row in found["cells"]] == [None, None]
    assert "no samples are stored" in found["cells"][0]["note"]
    assert found["cells"][1]["note"] == "A is failed: it died"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Status.OK, Status.UNTRUSTED, 4),
        (Status.UNTRUSTED, Status.OK, 4),
        (Status.OK, Status.FAILED, 4),
        (Status.OK, Status.SKIPPED, 4),
        (Status.FAILED, Status.FAILED, 0),
        (Status.SKIPPED, Status.SKIPPED, 0),
    ],
)
def test_a_cell_that_b_lost_or_that_is_not_believed_ends_with_4(compare, first, second, expected):
    def cells(status):
        return lambda of: [
            timed(of, 1.0, status=status, reasons=("it was throttled",) if status is not Status.OK else ())
        ]

    code, found, _ = compare(cells(first), cells(second), "--fail-on", "slower")
    assert code == expected
    assert bool(found["reasons"]) == (expected == 4)
    assert all("it was throttled" in reason for reason in found["reasons"])


@pytest.mark.parametrize(
    ("sides", "options", "words"),
    [
        (("night-000-cpu", "night-009-cpu"), (), "has no run night-009-cpu; the latest is night-001-cpu"),
        (("night-000-cpu", "night-000-cpu"), (), "both sides are run night-000-cpu"),
        (("night-000-cpu", "a.onnx"), (), "name two model files or two runs"),
        (("night-000-cpu",), (), "name two model files or two runs"),
        (("night-000-cpu", "night-001-cpu"), ("--backend", "ort"), "--backend: two runs have theirs already"),
        (("night-000-cpu", "night-001-cpu"), ("--threads", "2"), "--threads: two runs have theirs already"),
        (("night-000-cpu", "night-001-cpu"), ("--dataset", "digits"), "--dataset: two runs have theirs already"),
        (("night-000-cpu", "night-001-cpu"), ("--cell", "nothing"), "have no cell in common of that name"),
        (("night-000-cpu", "/"), (), "no pressbench.db in this folder"),
    ],
)
def test_what_does_not_name_two_runs_is_refused(compare, sides, options, words):
    def cells(of):
        return [timed(of, 1.0)]

    code, found, errors = compare(cells, cells, *options, sides=sides)
    assert (code, found["kind"]) == (2, "InvalidInput")
    assert words in errors


def test_a_run_is_named_by_its_folder_too(compare, tmp_path):
    def cells(of):
        return [timed(of, 1.0)]

    results = str(tmp_path / "results")
    _, found, errors = compare(cells, cells, sides=(f"{results}/night-000-cpu", results))
    assert found["a"].startswith("run night-000-cpu"), errors
    assert found["b"].startswith("run night-001-cpu")


def test_welchs_interval_of_times_that_were_taken_apart():
    found = ratio_apart([1.0, 1.02, 0.98, 1.01], [1.2, 1.22, 1.19])
    assert found.basis == "records"
    assert found.low < 1.2 / 1.0025 < found.high
    from scipy.stats import ttest_ind

    logs = [[math.log(value) for value in values] for values in ([1.0, 1.02, 0.98, 1.01], [1.2, 1.22, 1.19])]
    expected = ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(0.95)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((expected.low, expected.high))
    assert ratio_apart([1.0, 1.0], [2.0, 2.0, 2.0]).low is None
    assert ratio_apart([1.0] * 3, [2.0] * 3).verdict == "slower"
    with pytest.raises(ValueError, match="no launches"):
        ratio_apart([], [1.0])
