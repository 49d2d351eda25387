"""`pressbench doctor`: the size of the cache, one that it cannot use, and the smallest effect that a target sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cache import find_or_make
from bench.cli import main
from bench.commands.doctor import describe_seen, see_smallest
from bench.errors import InvalidInput
from bench.line.versus.until import Compared
from bench.records import PairLaunch
from bench.stats import ratio


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


def paired(ratio: float) -> PairLaunch:
    return PairLaunch(blocks_ns=((1e6, 1e6 * ratio, 1e6 * ratio, 1e6),) * 5)


def test_the_smallest_effect_is_what_the_interval_of_a_network_beside_itself_would_exclude(monkeypatch, tmp_path):
    pairs = tuple(paired(1 + shift) for shift in (-0.01, 0.0, 0.01))
    asked = {}

    def measure(**given) -> Compared:
        asked.update(given)
        return Compared(pairs=pairs, ratio=ratio(pairs), stopped="time limit", seconds=60.2)

    monkeypatch.setattr("bench.commands.doctor.measure_files", measure)
    found = see_smallest(tmp_path, "pi5", 60.0, lambda _what, _done: None)
    assert (asked["a"], asked["target"], asked["patience"].time_s) == (asked["b"], "pi5", 60.0)
    half = 4.3027 * 0.01 / 3**0.5
    assert found["seen"] == pytest.approx(half * (1 + 1.645 / 1.96), rel=0.05)
    assert describe_seen(found).startswith(
        "smallest effect seen in 60 s on pi5: 4.7 % (resnet8 beside itself, 3 launches"
    )
    assert "excludes 1" in describe_seen(found | {"low": 1.001, "high": 1.02})


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_refused(seconds, tmp_path):
    with pytest.raises(InvalidInput, match=r"--time .*: give seconds above 0"):
        see_smallest(tmp_path, "cpu", seconds, lambda _what, _done: None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("doctor", "--target", "rpi5"), "--target rpi5: it is what --time or --roofline measures on"),
        (("targets", "list", "rpi5"), "targets list rpi5: it shows all of them"),
    ],
)
def test_a_name_that_nothing_would_be_done_with_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
