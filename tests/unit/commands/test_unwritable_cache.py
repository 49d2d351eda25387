"""An unwritable cache or folder of results is one clear error of every command that writes it, before anything is measured or
stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main

COMMANDS = {
    "run": ("run", "--target", "cpu", "--suite", "smoke", "--results", "results"),
    "compress": ("compress", "--model", "lenet5", "--recipe", "float16", "--out", "out.onnx"),
    "compare": ("compare", "--target", "cpu", "a.onnx", "b.onnx"),
    "targets check": ("targets", "check", "cpu"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_the_caches_place_ends_the_command_with_code_3(command: str, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as ended:
        main([*COMMANDS[command]])
    assert ended.value.code == 3
    message = f"pressbench: cannot write the cache at {tmp_path}/cache: File exists; set PRESSBENCH_CACHE to a folder"
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("command", ["run", "search"])
def test_a_file_in_the_place_of_the_results_ends_the_command_before_anything_is_measured(
    command: str, tmp_path: Path, monkeypatch, capsys
):
    (tmp_path / "results").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as ended:
        main(
            [command, "--target", "cpu", "--suite", "smoke", "--results", "results/a", "--database", "sqlite:///own.db"]
        )
    assert ended.value.code == 3
    assert "pressbench: --results results/a: Not a directory; name a place you can write to" in capsys.readouterr().err
    assert not (tmp_path / "own.db").exists()
