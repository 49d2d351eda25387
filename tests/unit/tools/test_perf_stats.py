"""Nights drawn from samples: the nightly's own judgement finds the slower file, and stays quiet about an equal one."""

from __future__ import annotations

import numpy as np
import pytest
from nights import cell, night

from bench.records import Launch, PairLaunch
from bench.regress.alarms import Kind
from tools.perf_stats.nights import draw_changed, draw_series, judge_tonight, make_sources
from tools.perf_stats.rules import apply_rules
from tools.perf_stats.samples import Beside
from tools.perf_stats.year import take_part


def beside(factor: float) -> Beside:
    """40 launches of two files, B `factor` times as long."""
    random = np.random.default_rng(4)
    rows = 1e6 * np.exp(random.normal(0, 0.004, (40, 1, 1))) * np.exp(random.normal(0, 0.002, (40, 9, 4)))
    rows *= [1, factor, factor, 1]
    return Beside(pairs=tuple(PairLaunch(blocks_ns=tuple(map(tuple, one.tolist()))) for one in rows), launch_s=1.0)


@pytest.mark.parametrize(("factor", "kinds"), [(1.03, [Kind.REGRESSION]), (1.0, [])])
def test_the_slower_file_is_a_regression_tonight_and_an_equal_one_nothing(factor, kinds):
    random, files = np.random.default_rng(5), beside(factor)
    launches = tuple(Launch(samples_ns=(10**6 + n, 10**6 + 3 * n)) for n in range(9))
    sources = make_sources([cell(night(0), 1.0, launches=launches)])
    assert {source.key.metric for source in sources} == {"latency", "size", "macs"}
    series = [*draw_series(sources, random), draw_changed(files, random)]
    alarms, compared = judge_tonight(series, files, random)
    assert [alarm.kind for alarm in alarms] == kinds
    assert [alarm.night for alarm in alarms] == [59] * len(kinds)
    assert [one.stopped for one in compared] == ["width"]


def test_the_simpler_rules_see_a_step_of_10_percent_on_its_first_night(monkeypatch):
    monkeypatch.delenv("PRESSBENCH_OTAVA", raising=False)
    calm = np.exp(np.random.default_rng(6).normal(0, 0.002, 60))
    stepped = np.append(calm[:-1], 1.1)
    assert apply_rules([calm, stepped]) == {
        key: [None, 59] for key in ("fixed 5 % threshold", "rustc-perf: Q3 + 3 IQR")
    }


def test_a_drawn_night_has_other_samples_than_the_run_it_is_drawn_from():
    launch = Launch(samples_ns=tuple(range(100)), waits_ns=tuple(range(100)))
    part = take_part(launch, np.random.default_rng(1))
    assert len(part.samples_ns) == 80
    assert part.samples_ns == part.waits_ns == tuple(range(part.samples_ns[0], part.samples_ns[0] + 80))
