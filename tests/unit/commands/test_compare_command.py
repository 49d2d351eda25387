"""`pressbench compare` says what ran: its answer and exit code for launches that are handed to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import bench.commands.compare
from bench.cli import main
from bench.records import PairLaunch
from bench.types import Artifact, Conditions

BLOCKS = ((1000.0, 2000.0, 2000.0, 1000.0),) * 5


def prepared(path):
    artifact = Artifact(path=path, format="onnx")
    bench = SimpleNamespace(conditions=Conditions())
    return SimpleNamespace(artifact=artifact, bench=bench, source=SimpleNamespace(inputs=()))


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """Runs the command on launches that are all `pair`; its exit code, output and messages."""

    def run(pair, *options):
        monkeypatch.setattr(bench.commands.compare, "_prepare_file", lambda path, *_: prepared(path))
        monkeypatch.setattr(bench.commands.compare, "pair_launch", lambda *_: pair)
        with pytest.raises(SystemExit) as ended:
            main(["compare", "--target", "cpu", "a.onnx", "b.onnx", *(options or ("--launches", "3"))])
        return ended.value.code, capsys.readouterr().out

    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path))
    monkeypatch.chdir(Path(__file__).parent)
    return run


def test_what_ran_as_asked_exits_0_without_a_reason(compare):
    code, out = compare(PairLaunch(blocks_ns=BLOCKS, waits_ns=((0,) * 4,) * 5), "--json", "--launches", "3")
    found = json.loads(out)
    assert code == 0
    assert (found["ratio"], found["reasons"], found["basis"], found["unsteady"]) == (pytest.approx(2), [], "clean", 0)


def test_a_fallback_is_untrusted_and_the_ratio_is_told_with_the_reason(compare):
    pair = PairLaunch(blocks_ns=BLOCKS, distrust=("B: asked for int8, ran float32",))
    code, out = compare(pair, "--json", "--launches", "3")
    assert code == 4
    assert json.loads(out)["reasons"] == ["B: asked for int8, ran float32"]
    assert json.loads(out)["ratio"] == pytest.approx(2)
    code, out = compare(pair)
    assert code == 4
    assert "B takes 2.0000 times" in out
    assert "untrusted: B: asked for int8, ran float32" in out


def test_blocks_that_waited_and_launches_that_never_settled_are_told(compare):
    busy = PairLaunch(blocks_ns=BLOCKS, waits_ns=((0, 0, 0, 50_000),) * 5, steady=False)
    code, out = compare(busy)
    assert code == 0
    assert "too few clean blocks" in out
    assert "those that waited count as they are" in out
    assert "3 of 3 launches began while runs were still getting faster" in out
    assert json.loads(compare(busy, "--json", "--launches", "3")[1])["clean_share"] == 0


def test_the_verdict_names_the_smallest_effect_it_was_judged_by(compare):
    same = PairLaunch(blocks_ns=((1000.0, 1020.0, 1020.0, 1000.0),) * 5)
    assert "B is slower" in compare(same)[1]
    assert "same within 5 %" in compare(same, "--smallest-effect", "0.05")[1]
    assert json.loads(compare(same, "--json", "--smallest-effect", "0.05")[1])["smallest_effect"] == 0.05


def test_launches_end_at_the_width_and_the_answer_says_why(compare):
    found = json.loads(compare(PairLaunch(blocks_ns=BLOCKS), "--json")[1])
    assert (found["launches"], found["stopped"], found["launches_to_decide"]) == (8, "width", None)


def test_time_that_is_over_is_said(compare):
    code, out = compare(PairLaunch(blocks_ns=BLOCKS), "--time", "1e-9")
    assert (code, "the time was over after 3 launches" in out) == (0, False)  # equal launches: the width is reached
    assert "B is slower" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--smallest-effect", "5"), "--smallest-effect"),
        (("--width", "0"), "--width"),
        (("--width", "nan"), "--width"),
        (("--time", "-1"), "--time -1: give seconds above 0"),
        (("--time", "inf"), "--time inf: give seconds above 0"),
        (("--launches", "5", "--width", "0.01"), "leave it out, or leave --width and --time out"),
        (("--launches", "5", "--time", "9"), "leave it out, or leave --width and --time out"),
    ],
)
def test_when_to_stop_that_cannot_be_is_refused(compare, capsys, options, words):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--target", "cpu", "a.onnx", "b.onnx", *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
