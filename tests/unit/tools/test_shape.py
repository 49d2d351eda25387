"""The check of this repository's shape, and of the Python that code on a device needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import device_code, shape


def package(folder: Path, modules: int, text: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    for number in range(modules):
        (folder / f"m{number}.py").write_text(text)


def function(lines: int) -> str:
    return "def f():\n" + "    pass\n" * (lines - 1)


def test_a_shape_within_its_limits_passes(tmp_path, capsys):
    package(tmp_path / "bench", 12, function(19))
    package(tmp_path / "bench" / "cost", 16, function(19))
    assert shape.main([str(tmp_path)]) == 0
    assert "28 functions: lines median 19, p90 19, longest 19" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "modules", "lines", "fault"),
    [
        ("bench", 13, 5, "bench: 13 modules, at most 12"),
        ("bench/cost", 17, 5, "bench/cost: 17 modules, at most 16"),
        ("bench", 1, 20, "functions: p90 is 20 lines, must be under 20"),
        ("bench", 1, 51, "bench/m0.py:1 f: 51 lines, at most 50"),
    ],
)
def test_each_limit_passed_is_named_and_fails(tmp_path, capsys, place, modules, lines, fault):
    package(tmp_path / place, modules, function(lines))
    assert shape.main([str(tmp_path)]) == 1
    assert fault in capsys.readouterr().out.splitlines()


def test_the_p90_is_the_least_length_that_nine_of_ten_functions_keep():
    assert shape.p90(list(range(1, 11))) == 9
    assert shape.p90([*[1] * 9, 100]) == 1
    assert shape.p90([1, 1, 1, 100]) == 100


def test_what_travels_is_what_a_worker_may_import():
    names = {str(path.relative_to(device_code.ROOT)) for path in device_code.travelling()}
    assert {"bench/__init__.py", "bench/device/worker.py", "bench/types.py", "backends/ort/session.py"} <= names
    assert "backends/onnx_tools/native.py" in names, "what a session imports"
    assert not {name for name in names if name.startswith(("bench/line", "bench/compress", "bench/store"))}


def test_a_later_pythons_feature_in_travelling_code_is_found(tmp_path, monkeypatch, capsys):
    package(tmp_path / "bench" / "device", 1, "from bench.deep import x\n")
    (tmp_path / "bench" / "deep.py").write_text("import tomllib\nx = 1\n")
    files = device_code.travelling(tmp_path)
    assert tmp_path / "bench" / "deep.py" in files
    monkeypatch.setattr(device_code, "travelling", lambda: files)
    assert device_code.main() == 1
    assert "'tomllib' module requires !2, 3.11" in capsys.readouterr().out


def test_what_only_a_type_checker_imports_does_not_travel(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.host import y\n"
    package(tmp_path / "bench" / "device", 1, text)
    (tmp_path / "bench" / "host.py").write_text("y = 1\n")
    assert tmp_path / "bench" / "host.py" not in device_code.travelling(tmp_path)
