"""The script behind `make gpu`: what it measures, and that a missed goal is no success."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.config.target import load_target
from bench.errors import InvalidInput
from bench.plugins import load
from bench.types import Compressed, Conditions
from tools.perf import gpu, gpu_cells
from tools.perf.gpu_agreement import Check
from tools.perf.gpu_table import as_markdown


def check(theirs: float, limit: float | None = 0.02) -> Check:
    return Check(name="do_bench: net", ours=1.0, theirs=theirs, unit="ms", limit=limit)


@pytest.fixture
def ran(tmp_path: Path, monkeypatch):
    """The agreement part with these checks, as on a machine with a GPU; what it left in `out`."""

    def run(*checks: Check, dry: bool = False) -> str:
        def found(_: object) -> Iterator[Check]:
            yield from checks

        monkeypatch.setattr(gpu, "checks", found)
        monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: not dry)
        monkeypatch.setattr(gpu, "machine", dict)
        flags = ["--part", "agreement", "--out", str(tmp_path / "out"), "--state", str(tmp_path / "state")]
        monkeypatch.setattr(sys, "argv", ["gpu", *flags, *(["--dry-run"] if dry else [])])
        gpu.main()
        return (tmp_path / "out" / "gpu.md").read_text()

    return run


def test_a_check_over_its_limit_ends_in_failure_after_the_report_is_written(ran, tmp_path) -> None:
    with pytest.raises(SystemExit) as ended:
        ran(check(1.0), check(0.9))
    assert ended.value.code == "over the limit: do_bench: net +11.11%"
    assert [row["holds"] for row in json.loads((tmp_path / "out" / "agreement.json").read_text())] == [True, False]


def test_checks_within_their_limits_and_those_only_shown_end_well(ran) -> None:
    page = ran(check(0.99), check(0.5, limit=None))
    assert "| yes |" in page
    assert "| shown | not judged |" in page


def test_a_dry_run_is_not_judged(ran) -> None:
    assert "| NO |" in ran(check(0.5), dry=True)


@pytest.mark.parametrize("built_for_cuda", [False, True])
def test_onnx_runtime_on_cuda_is_measured_where_its_gpu_build_is_installed(monkeypatch, built_for_cuda) -> None:
    monkeypatch.setattr(gpu_cells, "has_ort_for_cuda", lambda: built_for_cuda)
    cells = [cell for group in gpu_cells.groups("small", dry=False) for cell in group.plan.cells]
    ours = [cell.backend.options for cell in cells if cell.backend.title == "ort-cuda"]
    assert (len(ours) > 0) == built_for_cuda
    assert all(options == {"provider": "cuda"} for options in ours)


@pytest.mark.parametrize("name", ["cuda", "h200"])
def test_the_targets_measure_onnx_runtime_on_cuda_and_tensorrt_with_options_it_takes(name, tmp_path) -> None:
    entries = [choice for choice in load_target(name).backend if choice.name == "ort"]
    assert {choice.options["provider"] for choice in entries} == {"cuda", "tensorrt"}
    source = Compressed(model="m", recipe="r", files={"onnx": tmp_path / "none.onnx"}, inputs=(), digest="0")
    for choice in entries:
        with pytest.raises(InvalidInput, match=r"none\.onnx"):
            load("backend", "ort")().compile(source, Conditions(), choice.options, tmp_path)


def test_the_page_gives_device_memory_a_column_of_its_own() -> None:
    page = as_markdown({}, [], [{"model": "net", "device_used_mib": "512"}])
    assert "| model | device_used_mib |" in page
