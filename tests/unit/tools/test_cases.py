"""How the table of cases judges: by status, reason and distance, never by how busy this machine is."""

from __future__ import annotations

from pathlib import Path

from tools.cases.__main__ import differences, is_status
from tools.cases.laws import WAITED
from tools.cases.run import BRIEF, Outcome, load_case, run_case


def row(status: str, reason: str = "", distance: str = "0.1") -> dict[str, str]:
    return {"recipe": "int8", "status": status, "reason": reason, "output_relative_rms": distance}


def outcome(*rows: dict[str, str], output: str = "said") -> Outcome:
    return Outcome(command="pressbench run", exit_code=0, output=output, cells=rows)


def test_a_busy_machine_and_a_short_time_are_still_ok():
    busy = f"only 3% of the {WAITED}"
    assert is_status(row("inconclusive", "2 of 2 launches ended at a limit"), "ok")
    assert is_status(row("untrusted", busy), "ok")
    assert not is_status(row("untrusted", f"{busy}; int8 ranges come from random inputs"), "ok")
    assert is_status(row("untrusted", "asked for int8"), "untrusted")
    assert not is_status(row("skipped", "why"), "ok")


def test_every_text_of_a_reason_must_be_there():
    cell = row("untrusted", "int8 ranges come from random inputs; stayed float32: up")
    wanted = {"cells": {"int8": ["untrusted", "random inputs", "up"]}}
    assert not [*differences(outcome(cell), wanted)]
    assert [*differences(outcome(cell), {"cells": {"int8": ["untrusted", "down"]}})]


def test_outputs_must_be_near_and_a_missing_distance_is_not():
    assert not [*differences(outcome(row("ok")), {"near": {"int8": 0.2}})]
    assert [*differences(outcome(row("ok", distance="0.3")), {"near": {"int8": 0.2}})]
    assert [*differences(outcome(row("ok", distance="")), {"near": {"int8": 0.2}})]


def test_a_case_runs_its_commands_and_more_on_a_borrowed_file(tmp_path):
    cases = tmp_path / "cases"
    for name in ("other", "mine"):
        (cases / name).mkdir(parents=True)
    (cases / "quick.toml").write_text("name = 'quick'\n[measure]\nlaunches = 9\n")
    (cases / "torch_check.py").write_text("")
    (cases / "other" / "build.py").write_text("open('model.onnx', 'w').write('bytes')")
    told = '{"symptom": "s", "expect": "works", "commands": ["python -c \\"print(open(\'a b/x.onnx\').read())\\""]}'
    (cases / "mine" / "case.json").write_text(told)
    more = ["python -c \"print(open('../quick.toml').read())\""]
    borrow = ("other/model.onnx", "a b/x.onnx")
    work = tmp_path / "work"
    work.mkdir()
    first, second = run_case(load_case(Path(cases / "mine")), work, more, borrow=borrow, brief=True)
    assert (first.exit_code, first.output.strip()) == (0, "bytes")
    assert BRIEF in second.output
