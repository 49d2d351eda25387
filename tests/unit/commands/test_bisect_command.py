"""`pressbench bisect` over steps whose times are handed to it: what it judges, says and ends with."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import bench.commands.compare
import bench.commands.versus.bisect
from bench.cli import main
from bench.commands.versus.bisect import Search, Steps, search
from bench.commands.versus.sides import Asked
from bench.errors import CellFailed, InvalidInput
from bench.line.versus.sides import Side
from bench.line.versus.until import Patience
from bench.records import PairLaunch
from bench.types import Artifact, Conditions


@pytest.fixture
def bisect(monkeypatch, tmp_path):
    """Searches steps of these times (None: it does not build) and files; the answer, text, code, and lines said."""

    def run(times, files=None, *, threshold=None, merges=(), scatter=0.001, distrust=()):
        files, said = files or [f"file{place}" for place in range(len(times))], list[str]()
        titles = tuple(f"step{place}" for place in range(len(times)))

        def make(place):
            if times[place] is None:
                raise CellFailed("no module named 'gone'")
            bench_of = SimpleNamespace(conditions=Conditions(), reach=None, session="s", inputs=())
            artifact = Artifact(path=tmp_path / "x", format="onnx", digest=files[place])
            return Side(bench=bench_of, artifact=artifact, title=titles[place])

        def launch(a, b, number):
            one, two = (times[titles.index(side.title)] for side in (a, b))
            two *= 1 + scatter * (-1) ** number
            return PairLaunch(blocks_ns=((one, two, two, one),), distrust=distrust)

        monkeypatch.setattr(bench.commands.versus.bisect, "launch_sides", launch)
        monkeypatch.setattr(bench.commands.compare, "launch_sides", launch)
        patience = Patience(width=0.005, launches=4)
        asked = Asked(target="cpu", patience=patience, cache=tmp_path, progress=lambda *_: None)
        setting = SimpleNamespace(cache=tmp_path, progress=lambda *_: None)
        steps = Steps(titles=titles, make=make, merges=merges)
        return *search(Search(steps=steps, asked=asked, setting=setting, say=said.append, threshold=threshold)), said

    return run


def test_the_step_that_made_it_slower_is_found_with_its_figures(bisect):
    answer, text, code, said = bisect([100, 100, 101, 100, 120, 121, 120])
    assert (answer["first_bad"], answer["last_good"], code) == ("step4", "step3", 0)
    assert answer["ratio"] == pytest.approx(1.2, rel=1e-3)
    assert answer["threshold"] == pytest.approx(1.2**0.5 - 1, rel=1e-3)
    assert answer["step"]["ratio"] == pytest.approx(1.2, rel=1e-3)
    assert "first bad: step4" in text
    assert "as the step before it (step3)" in text
    assert said[2].startswith("a step counts as bad from 1.0954 times good on")
    assert any(line.startswith("good    step3: 1.0000 times as long") for line in said)


def test_two_neighbours_are_answered_without_another_measurement(bisect):
    answer, _, code, said = bisect([100, 150])
    assert (answer["first_bad"], answer["steps"], code) == ("step1", [], 0)
    assert len(said) == 3


def test_a_file_that_was_judged_already_is_not_measured_again(bisect):
    answer, _, _, said = bisect([100, 999, 120, 120], ["a", "a", "b", "b"])
    assert (answer["first_bad"], answer["step"]["ratio"]) == ("step2", answer["ratio"])
    assert [row["reason"] for row in answer["steps"]] == ["the same file as step0", "the same file as step3"]
    assert any("good    step1: the same file as step0" in line for line in said)


def test_a_step_that_does_not_build_is_skipped_and_named(bisect):
    answer, _, code, said = bisect([100, 100, None, 120, 120])
    assert any("skipped step2: it does not build: no module named 'gone'" in line for line in said)
    assert (answer["first_bad"], answer["suspects"], code) == (None, ["step2", "step3"], 3)
    answer, text, code, _ = bisect([100, None, 100, 120])
    assert (answer["first_bad"], code) == ("step3", 0)
    assert "step2" in text


def test_good_or_bad_that_does_not_build_ends_it(bisect):
    with pytest.raises(CellFailed, match="gone"):
        bisect([100, 100, None])


@pytest.mark.parametrize(
    ("times", "files", "words"),
    [
        ([120, 110, 100], None, "so it is faster: are good and bad swapped"),
        ([100, 110, 100], None, "the same within 1 %: there is nothing to find"),
        ([100, 110, 120], ["a", "b", "a"], "step0 and step2 deploy the same file, byte by byte"),
    ],
)
def test_good_and_bad_that_leave_nothing_to_find_are_said(bisect, times, files, words):
    with pytest.raises(InvalidInput, match=words):
        bisect(times, files)


def test_good_and_bad_that_cannot_be_told_apart_end_with_3(bisect):
    answer, text, code, _ = bisect([100, 100, 101], scatter=0.1)
    assert (answer["first_bad"], answer["verdict"], code) == (None, "inconclusive", 3)
    assert "give more --time" in text


def test_a_threshold_that_was_asked_for_is_kept(bisect):
    assert bisect([100, 104, 104, 120], threshold=0.02)[0]["first_bad"] == "step1"
    answer, text, _, _ = bisect([100, 104, 104, 120])
    assert answer["first_bad"] == "step3"
    assert "so other steps made it slower too" in text


def test_a_merge_is_said_and_what_is_untrusted_ends_with_4(bisect):
    _, text, code, _ = bisect([100, 120, 120], merges=(False, True, False))
    assert "it is a merge: search its branch with --bad step1^2" in text
    assert code == 0
    _, text, code, _ = bisect([100, 120], distrust=("B: fell back",))
    assert "untrusted: B: fell back" in text
    assert code == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --good and --bad for revisions, or --python several times"),
        (("--good", "x", "--python", "y"), "give --good and --bad for revisions, or --python several times"),
        (("--python", "x"), "name at least two environments"),
        (("--python", "x", "--python", "x"), "an environment is given twice"),
        (("--good", "x"), "is not in a git repository; name one with --repository"),
        (("--good", "x", "--smallest-effect", "0"), "--smallest-effect"),
    ],
)
def test_what_names_no_search_is_refused(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["bisect", "--target", "cpu", "--model", "m.onnx", "--json", *arguments])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert not shown.out or "error" in json.loads(shown.out)
