"""The status of a cell is decided in one place, from everything that was found."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from bench.errors import CellFailed, InvalidInput, Unavailable, Unsupported, Untrusted
from bench.line.trust import (
    Evidence,
    decide,
    decide_error,
    find_busy_machine,
    find_coarse_meter,
    find_doubts,
    find_drift,
    find_pair_distrust,
    find_pair_doubts,
)
from bench.records import Climate, EnergyWindow, Launch, PairLaunch
from bench.types import Clock, Status

DISTRUST = (
    "made_wrong", "fallbacks", "baseline_error", "far_from_reference", "busy_machine", "baseline_distrust", "pair_distrust",
)  # fmt: skip
DOUBTS = ("doubts", "pair_doubts")
HARMLESS = ("notes",)


def evidence(*names: str) -> Evidence:
    texts = {field.name: isinstance(getattr(Evidence(), field.name), str) for field in fields(Evidence)}
    return replace(Evidence(), **{name: name if texts[name] else (name,) for name in names})


def test_every_kind_of_evidence_has_its_effect_here():
    assert sorted((*DISTRUST, *DOUBTS, *HARMLESS)) == sorted(field.name for field in fields(Evidence))


@pytest.mark.parametrize("name", [*DISTRUST, *DOUBTS, *HARMLESS])
def test_each_kind_of_evidence_alone_decides_the_status_and_is_its_reason(name):
    status = Status.UNTRUSTED if name in DISTRUST else Status.INCONCLUSIVE if name in DOUBTS else Status.OK
    verdict = decide(evidence(name))
    assert verdict.status is status
    assert verdict.reasons == (name,)


def test_distrust_outweighs_doubts_and_every_reason_is_said_once_in_order():
    verdict = decide(evidence(*DISTRUST, *DOUBTS, *HARMLESS))
    assert verdict.status is Status.UNTRUSTED
    assert verdict.reasons == (
        "notes",
        "made_wrong",
        "fallbacks",
        "doubts",
        "baseline_error",
        "far_from_reference",
        "busy_machine",
        "baseline_distrust",
        "pair_distrust",
        "pair_doubts",
    )
    again = decide(Evidence(fallbacks=("ran float32", "ran float32"), pair_distrust=("ran float32",)))
    assert again.reasons == ("ran float32",)


def test_nothing_found_is_ok():
    assert decide(Evidence()).status is Status.OK
    assert decide(Evidence()).reasons == ()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Unsupported("no kernel"), Status.SKIPPED, "no kernel"),
        (Unavailable("no driver"), Status.SKIPPED, "no driver"),
        (Untrusted("hot"), Status.UNTRUSTED, "hot"),
        (InvalidInput("damaged"), Status.FAILED, "damaged"),
        (CellFailed("died"), Status.FAILED, "died"),
        (ZeroDivisionError("a bug"), Status.FAILED, "ZeroDivisionError: a bug"),
    ],
)
def test_an_error_has_the_status_of_its_kind(error, status, reason):
    verdict = decide_error(error)
    assert (verdict.status, verdict.reasons) == (status, (reason,))


def launches(waits_ns: int) -> list[Launch]:
    """Three launches of 1 ms; every second sample waited for a CPU."""
    return [Launch(samples_ns=(1_000_000,) * 200, waits_ns=(0, waits_ns) * 100) for _ in range(3)]


def test_a_busy_machine_is_told_by_its_share_of_samples_that_did_not_wait():
    assert find_busy_machine(launches(50_000), Clock.HOST, 0.6).startswith("only 50% of the samples ran")
    assert find_busy_machine(launches(50_000), Clock.HOST, 0.5) == ""
    assert find_busy_machine(launches(0), Clock.HOST, 1.0) == ""
    assert find_busy_machine([], Clock.HOST, 1.0) == ""


def test_launches_whose_medians_lie_far_apart_know_no_median():
    steady = Launch(samples_ns=(1_000_000,) * 200, waits_ns=(0,) * 200)
    slow = replace(steady, samples_ns=(1_600_000,) * 200)
    preempted = replace(steady, samples_ns=(1_000_000, 9_000_000) * 100, waits_ns=(0, 50_000) * 100)
    assert find_doubts([steady, steady, slow], Clock.HOST) == ("the medians of 3 launches go from 1 to 1.6 ms",)
    assert find_doubts([steady, preempted, replace(steady, samples_ns=())], Clock.HOST) == ()


def test_what_a_comparison_adds_is_said_and_what_the_cells_said_is_not_said_again():
    pairs = [
        PairLaunch(blocks_ns=(), distrust=("A: on the CPU", "B: ran float32")),
        PairLaunch(blocks_ns=(), distrust=("B: ran float32", "B: fell back", "hot")),
    ]
    found = find_pair_distrust(pairs, ["on the CPU"], ["ran float32"])
    assert found == ("compared with its baseline (A): B: fell back", "compared with its baseline (A): hot")


def test_a_meter_too_coarse_for_its_window_is_said_with_its_share():
    window = EnergyWindow(
        meter="battery",
        source="measured:battery",
        joules=30.0,
        seconds=2.0,
        inferences=1,
        idle_joules=10.0,
        idle_seconds=1.0,
        resolution_j=1.0,
    )
    launches = [Launch(samples_ns=(1,), energy=(window, replace(window, meter="fine", resolution_j=0.1)))]
    assert find_coarse_meter(launches) == ("energy by battery: its resolution may change the figure by 10%",)


def heated(celsius: tuple[float, float], mhz: tuple[float, float], last_ns: int = 1100) -> list[Launch]:
    climate = tuple(
        Climate(moment="m", at_ns=0, celsius={"cpu": hot}, mhz={"cpu": clock})
        for hot, clock in zip(celsius, mhz, strict=True)
    )
    return [Launch(samples_ns=(1000,) * 60 + (last_ns,) * 60, climate=climate)]


@pytest.mark.parametrize(
    ("launches", "reasons"),
    [
        (heated((50, 60), (1500, 1500)), "launch 1 got 10% slower on the way: the hottest zone went from 50 to 60 °C"),
        (heated((50, 50), (1500, 1200)), "launch 1 got 10% slower on the way: the fastest clock from 1500 to 1200 MHz"),
        (heated((50, 51), (1500, 1490)), ""),
        (heated((50, 60), (1500, 1200), last_ns=1020), ""),
        ([Launch(samples_ns=(1000,) * 60 + (1100,) * 60)], ""),
        ([replace(heated((50, 60), (1500, 1200))[0], samples_ns=(1000, 2000))], ""),
    ],
)
def test_a_launch_that_got_slower_while_it_got_hotter_drifts(launches, reasons):
    assert find_drift(launches, Clock.HOST) == ((reasons,) if reasons else ())


def test_a_comparison_that_got_slower_while_it_got_hotter_is_in_doubt():
    climate = heated((50, 60), (1500, 1500))[0].climate
    slower = PairLaunch(blocks_ns=((10.0, 10.0, 10.0, 10.0),) * 20 + ((11.0, 11.0, 11.0, 11.0),) * 20, climate=climate)
    assert find_pair_doubts([replace(slower, climate=()), slower]) == (
        "comparison 2 got 10% slower on the way: the hottest zone went from 50 to 60 °C",
    )
    steady = replace(slower, blocks_ns=((10.0, 10.0, 10.0, 10.0),) * 40)
    assert find_pair_doubts([steady]) == ()
