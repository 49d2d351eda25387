"""`pressbench compare` says what ran: its answer and exit code for launches that are handed to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import bench.commands.compare
from bench.cli import main
from bench.line.versus.layers import Beside, put_beside
from bench.line.versus.sides import Side
from bench.records import LayerTime, PairLaunch
from bench.types import Artifact, Conditions

BLOCKS = ((1000.0, 2000.0, 2000.0, 1000.0),) * 5
NO_LAYERS = Beside(reason="no profiler here")


def side(variant):
    """A side that is never run."""
    bench = SimpleNamespace(conditions=Conditions(), reach=None, session="s", inputs=())
    return Side(bench=bench, artifact=Artifact(path=Path(variant.model), format="onnx"), title=variant.title)


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """Runs the command on launches that are all `pair`; its exit code, output and messages."""

    def run(pair, *options, sides=("a.onnx", "b.onnx"), layers=NO_LAYERS):
        monkeypatch.setattr(bench.commands.compare, "make_side", lambda variant, *_: side(variant))
        monkeypatch.setattr(bench.commands.compare, "launch_sides", lambda *_: pair)
        monkeypatch.setattr(bench.commands.compare, "profile_sides", lambda *_: layers)
        with pytest.raises(SystemExit) as ended:
            main(["compare", "--target", "cpu", *sides, *(options or ("--launches", "3"))])
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


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (("a.onnx",), "1 sides: name two model files"),
        (("a.onnx", "b.onnx", "--records"), "--records: it chooses of two stored runs"),
        (("a.onnx", "b.onnx", "--cell", "x"), "--cell: it chooses of two stored runs"),
        (("a.onnx", "b.onnx", "--python", "x"), "two files differ already"),
        (("a.onnx", "--model", "m.onnx", "--recipe", "a"), "is both sides: leave a.onnx out"),
        (("--model", "m.onnx"), "give exactly one of --recipe, --backend, --python, --revision twice"),
        (("--model", "m.onnx", "--recipe", "a"), "give exactly one of"),
        (("--model", "m.onnx", *["--recipe", "a"] * 3), "give exactly one of"),
        (("--model", "m.onnx", *["--recipe", "a", "--backend", "ort"] * 2), "give exactly one of"),
        (("--model", "m.onnx", *["--backend", "ort"] * 2), "--backend ort is given twice: A and B are the same"),
        (("--model", "m.onnx", *["--revision", "-h"] * 2), "--revision -h is given twice"),
        (("--model", "m.onnx", "--revision", "-h", "--revision", "x"), "'-h' is not a revision"),
    ],
)
def test_what_does_not_name_two_sides_is_refused(compare, capsys, sides, words):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--target", "cpu", *sides])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_two_recipes_of_one_model_are_named_and_a_verdict_can_fail(compare):
    sides = ("--model", "m.onnx", "--recipe", "", "--recipe", "magnitude(0.5)")
    pair = PairLaunch(blocks_ns=BLOCKS)
    code, out = compare(pair, "--launches", "3", "--fail-on", "slower", sides=sides)
    assert code == 1
    assert out.startswith("A: the model as it is\nB: magnitude(0.5)\nB takes 2.0000 times")
    assert compare(pair, "--launches", "3", "--fail-on", "faster", sides=sides)[0] == 0
    unbelieved = PairLaunch(blocks_ns=BLOCKS, distrust=("B: fell back",))
    assert compare(unbelieved, "--launches", "3", "--fail-on", "slower", sides=sides)[0] == 4


def layer(name, operator, mean_us):
    return LayerTime(name=name, operator=operator, mean_us=mean_us, runs=20)


def test_layers_stand_beside_each_other_by_operator_the_largest_difference_first(compare):
    a = [layer("one", "Conv", 10.0), layer("two", "Conv", 20.0), layer("end", "Gemm", 5.0)]
    b = [layer("one", "Conv", 60.0), layer("end", "Gemm", 4.0), layer("q", "Quantize", 2.0)]
    beside = put_beside(a, b)
    code, out = compare(PairLaunch(blocks_ns=BLOCKS), layers=beside)
    table = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert table == [
        ["A", "B", "B", "-", "A"],
        ["Conv", "30.0", "(2)", "60.0", "(1)", "+30.0"],
        ["Quantize", "none", "2.00", "(1)", "+2.0"],
        ["Gemm", "5.00", "(1)", "4.00", "(1)", "-1.0"],
    ]
    assert [(row.name, row.a_us, row.b_us) for row in beside.layers] == [
        ("one", 10, 60),
        ("two", 20, 0),
        ("q", 0, 2),
        ("end", 5, 4),
    ]
    assert code == 0
    found = json.loads(compare(PairLaunch(blocks_ns=BLOCKS), "--json", "--launches", "3", layers=beside)[1])
    assert len(found["layers"]["layers"]) == 4


def test_layers_are_left_out_where_asked_or_where_nothing_differs_and_a_missing_profile_is_said(compare):
    assert "no times of single layers: no profiler here" in compare(PairLaunch(blocks_ns=BLOCKS))[1]
    assert "layers" not in compare(PairLaunch(blocks_ns=BLOCKS), "--no-layers", "--launches", "3")[1]
    same = PairLaunch(blocks_ns=((1000.0,) * 4,) * 5)
    assert "layers" not in compare(same)[1]
