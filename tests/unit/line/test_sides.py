"""Sides that cannot share a process take turns in fresh ones, each in the order A B B A."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import bench.line.versus.sides
from bench.errors import CellFailed, Unsupported
from bench.line.measure import Bench, Findings
from bench.line.versus.layers import profile_sides
from bench.line.versus.sides import Side, fed_alike, launch_sides, shares_process
from bench.records import Launch
from bench.stats import ratio
from bench.types import Artifact, Clock, Conditions, TensorSpec


def make_side(title, *, session="backends.ort.session:OrtSession", reach="here", shape=(1, 3)):
    bench = Bench(
        reach=reach,
        session=session,
        conditions=Conditions(),
        measure=SimpleNamespace(),
        inputs=(TensorSpec(name="x", shape=shape, dtype="float32"),),
    )
    return Side(bench=bench, artifact=Artifact(path=f"/{title}.onnx", format="onnx", digest=title), title=title)


A, B = make_side("a"), make_side("b", session="backends.litert.session:LiteRtSession")


@pytest.fixture
def turns(monkeypatch):
    """Makes what each process finds by `found`, called with the file's name; the files in the order they ran."""
    ran = []

    def prepare(found):
        def time(_bench, artifact):
            ran.append(artifact.digest)
            return found(artifact.digest)

        monkeypatch.setattr(bench.line.versus.sides, "time_artifact", time)
        return ran

    return prepare


def findings(samples, waits=(), clock=Clock.HOST, **changes):
    times = {"device_ns" if clock is Clock.DEVICE else "samples_ns": tuple(samples)}
    launch = Launch(**{"samples_ns": (), **times}, waits_ns=tuple(waits), steady=changes.pop("steady", True))
    return Findings(launches=(launch,), clock=clock, **changes)


def test_only_one_runtime_of_one_environment_shares_a_process():
    assert shares_process(A, make_side("c"))
    assert not shares_process(A, B)
    assert not shares_process(A, make_side("c", reach="another environment"))
    assert not fed_alike(A, make_side("c", shape=(1, 4)))


def test_processes_take_turns_and_the_first_alternates(turns):
    ran = turns(lambda name: findings([100 if name == "a" else 150] * 9))
    launches = [launch_sides(A, B, number) for number in range(3)]
    assert "".join(ran) == "abba" + "baab" + "abba"
    assert [launch.first for launch in launches] == ["a", "b", "a"]
    assert all(launch.blocks_ns == ((100.0, 150.0, 150.0, 100.0),) for launch in launches)
    found = ratio(launches)
    assert (found.ratio, found.basis, found.verdict) == (pytest.approx(1.5), "clean", "slower")


def test_a_drift_over_the_processes_falls_out(turns):
    at = iter(range(100))
    turns(lambda _name: findings([1000 + 10 * next(at)] * 9))
    assert ratio([launch_sides(A, B, number) for number in range(4)]).ratio == pytest.approx(1)


def test_samples_that_waited_are_left_out_and_too_few_clean_ones_are_said(turns):
    turns(lambda _name: findings([100] * 6 + [900] * 3, [0] * 6 + [50_000] * 3))
    assert launch_sides(A, B, 0).blocks_ns == ((100.0,) * 4,)
    turns(lambda _name: findings([100] * 3 + [900] * 6, [0] * 3 + [50_000] * 6))
    busy = [launch_sides(A, B, number) for number in range(3)]
    assert busy[0].blocks_ns == ((900.0,) * 4,)
    assert ratio(busy).basis == "raw"


def test_what_a_process_fell_back_to_is_named_with_its_side_once(turns):
    turns(lambda name: findings([100] * 9, distrust=("ran float32",) if name == "b" else (), steady=name == "a"))
    launch = launch_sides(A, B, 0)
    assert (launch.distrust, launch.steady) == (("B: ran float32",), False)


def test_other_clocks_and_launches_without_samples_are_not_compared(turns):
    turns(lambda name: findings([100] * 9, clock=Clock.HOST if name == "a" else Clock.DEVICE))
    with pytest.raises(Unsupported, match="timed by other clocks"):
        launch_sides(A, B, 0)
    turns(lambda _name: findings([], device="a phone"))
    with pytest.raises(Unsupported, match="a phone gives no samples"):
        launch_sides(A, B, 0)


def test_a_profile_that_fails_is_said_and_costs_nothing_else(monkeypatch):
    def fail(*_, **__):
        raise CellFailed("the worker was killed")

    monkeypatch.setattr("bench.line.versus.layers.time_artifact", fail)
    assert profile_sides(A, B).reason == "a: the worker was killed"
    monkeypatch.setattr("bench.line.versus.layers.time_artifact", lambda *_, **__: Findings())
    assert profile_sides(A, B).reason == "a: its runtime times no single layers"
