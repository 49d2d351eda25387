"""`pressbench doctor` says how large the cache is, and does not fail on one it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cache import find_or_make
from bench.cli import main


@pytest.fixture
def doctor(monkeypatch, capsys):
    """Runs the command with a cache: its answer."""

    def run(cache: Path) -> dict:
        monkeypatch.setenv("PRESSBENCH_CACHE", str(cache))
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json"])
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_the_size_of_the_cache_is_that_of_its_files(doctor, tmp_path):
    empty = doctor(tmp_path)["cache"]
    assert empty == {"folder": str(tmp_path), "bytes": 0}
    made = find_or_make(tmp_path, "compiled", "it", lambda folder: {"written": (folder / "a").write_bytes(bytes(5000))})
    files = sum(path.stat().st_size for path in made.folder.iterdir())
    assert doctor(tmp_path)["cache"]["bytes"] == files > 5000


def test_a_cache_that_cannot_be_written_is_a_check_that_fails_and_says_why(doctor, tmp_path):
    (tmp_path / "file").write_text("in the way")
    answer = doctor(tmp_path / "file")
    (check,) = [check for check in answer["checks"] if check["name"] == "cache writable"]
    assert not check["ok"]
    assert "set PRESSBENCH_CACHE" in check["why"]
    assert answer["cache"]["bytes"] is None
