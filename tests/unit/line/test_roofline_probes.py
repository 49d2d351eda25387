"""A roofline is what a backend reached: known times give known figures, and what has none says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.config.target import load_target
from bench.cost.roofline.bound import NODE
from bench.errors import BoardBusy, CellFailed, DiskFull, InvalidInput, Unavailable, Unsupported, Untrusted
from bench.line.probes.ask import check_askable
from bench.line.probes.board import Board
from bench.line.probes.roofline import CPU, Place, Rig, Sizes, choose_sizes, find_kept, find_or_measure
from bench.records import PairLaunch
from bench.types import Artifact

CALL_S, NODE_S, FLOATS, INTEGERS = 4e-6, 1e-6, 2e10, 5e10
RATES = {2**16: 3e10, 2**20: 2e10, 2**24: 5e9}
SIZES = Sizes(window=8, around=32, pointwise=64, weights=tuple(RATES))
TARGET = load_target("cpu")
PLACE = Place(target=TARGET, choice=TARGET.backend[0], threads=1, device="d", version="1")


def seconds(file: Path, macs_per_s: float) -> float:
    """By the formula: the call, a node for each layer of a chain, bytes of a matrix, arithmetic of a convolution."""
    graph = onnx.load(file).graph
    weight = next(one for one in graph.initializer if len(one.dims) > 1)
    if len(weight.dims) == 4:
        return float(np.prod(weight.dims)) * SIZES.window**2 / macs_per_s
    size = 4 * int(np.prod(weight.dims))
    nodes = sum(node.op_type == "Gemm" for node in graph.node)
    return CALL_S + NODE_S * nodes + (size / RATES[size] if size in RATES else 0.0)


class Fake:
    """A board whose times are a formula. `drift`: the factor of each launch's times."""

    def __init__(self, drift=(1.0,), falls=()):
        self.drift, self.falls, self.compared = drift, falls, 0

    def rig(self, folder: Path, launches: int = 1) -> Rig:
        board = Board(identity=None, build=self.build, compare=self.compare)
        return Rig(board=board, sizes=SIZES, folder=folder, launches=launches, progress=lambda *_: None)

    def build(self, file: Path, recipe: str) -> Artifact:
        if recipe.startswith("bfloat16"):
            raise Unsupported("no such kernels")
        rate = INTEGERS if recipe.startswith("int8") else FLOATS
        return Artifact(path=file, format="onnx", facts={"s": seconds(file, rate), "recipe": recipe})

    def compare(self, first: Artifact, others) -> list[PairLaunch]:
        factor = self.drift[self.compared % len(self.drift)]
        self.compared += 1
        a = 1e9 * factor * first.facts["s"]
        found = []
        for other in others:
            b = 1e9 * factor * other.facts["s"]
            fell = any(other.facts["recipe"].startswith(name) for name in self.falls)
            found.append(PairLaunch(blocks_ns=((a, b, b, a),) * 5, distrust=("B: ran float32",) if fell else ()))
        return found


def test_known_times_give_the_figures_they_were_made_of(tmp_path):
    found = find_or_measure(PLACE, Fake(falls=("float16",)).rig(tmp_path), tmp_path / "cache")
    assert found.node_s == pytest.approx(NODE_S)
    assert found.call_s == pytest.approx(CALL_S)
    assert dict(found.macs_per_s) == {"float32": pytest.approx(FLOATS), "int8": pytest.approx(INTEGERS)}
    small, middle, large = (rate for _, rate in found.bandwidth)
    assert (small, middle) == (pytest.approx(RATES[2**16]), pytest.approx(RATES[2**20]))
    assert large == pytest.approx(RATES[2**24], rel=0.01)
    assert dict(found.absent) == {"float16": "ran float32", "bfloat16": "no such kernels"}
    assert not found.unsettled


@pytest.mark.parametrize(
    "error", [DiskFull("disk full"), BoardBusy("in use"), Unavailable("away"), CellFailed("the worker was killed")]
)
@pytest.mark.parametrize("step", ["build", "compare"])
def test_an_error_that_may_pass_is_raised_and_not_kept_as_a_missing_figure(tmp_path, step, error):
    class Disturbed(Fake):
        def build(self, file, recipe):
            self.stop("build", recipe)
            return super().build(file, recipe)

        def compare(self, first, others):
            self.stop("compare", others[0].facts["recipe"])
            return super().compare(first, others)

        def stop(self, now, recipe):
            if now == step and recipe.startswith("int8"):
                raise error

    cache = tmp_path / "cache"
    with pytest.raises(type(error), match=str(error)):
        find_or_measure(PLACE, Disturbed().rig(tmp_path), cache)
    assert find_kept(cache, PLACE) is None
    assert "int8" in find_or_measure(PLACE, Fake().rig(tmp_path), cache).macs_per_s


@pytest.mark.parametrize("error", [InvalidInput("the runtime cannot load it"), Untrusted("placed on the CPU")])
def test_what_a_runtime_says_of_a_precision_is_why_it_has_no_figure(tmp_path, error):
    class Refusing(Fake):
        def compare(self, first, others):
            if others[0].facts["recipe"].startswith("float16"):
                raise error
            return super().compare(first, others)

    found = find_or_measure(PLACE, Refusing().rig(tmp_path), tmp_path / "cache")
    assert found.absent["float16"] == str(error)
    assert set(found.macs_per_s) == {"float32", "int8"}


def test_it_is_measured_once_for_a_device_backend_version_and_number_of_threads(tmp_path):
    cache, fake = tmp_path / "cache", Fake()
    assert find_kept(cache, PLACE) is None
    first = find_or_measure(PLACE, fake.rig(tmp_path), cache)
    count = fake.compared
    assert find_or_measure(PLACE, fake.rig(tmp_path), cache) == first == find_kept(cache, PLACE)
    assert fake.compared == count > 0
    options = replace(PLACE.choice, options={"graph_optimization": "off"})
    for change in ({"device": "e"}, {"version": "2"}, {"threads": 2}, {"choice": options}):
        assert find_kept(cache, replace(PLACE, **change)) is None


def test_the_fastest_process_counts_and_more_run_until_a_second_one_agrees(tmp_path):
    slowed = Fake(drift=(1.5, 1.0, 2.0, 1.05, 9.0))
    found = find_or_measure(PLACE, slowed.rig(tmp_path, launches=3), tmp_path / "cache")
    assert found.node_s == pytest.approx(NODE_S)
    assert found.macs_per_s["int8"] == pytest.approx(INTEGERS, rel=0.06)
    assert found.unsettled == {}
    assert slowed.compared > 3 * 4


def test_a_figure_on_which_no_two_processes_agree_is_said(tmp_path):
    slowing = Fake(drift=tuple(1.25**number for number in range(99)))
    found = find_or_measure(PLACE, slowing.rig(tmp_path, launches=2), tmp_path / "cache")
    assert slowing.compared == 2 * 2 * 4
    assert found.unsettled["float32"] == "the second fastest process was 25 % slower"
    assert NODE in found.unsettled


def test_a_preempted_duration_does_not_count(tmp_path):
    class Preempted(Fake):
        def compare(self, first, others):
            blocks = [one.blocks_ns for one in super().compare(first, others)]
            slow = [tuple(9 * value for value in each[0]) for each in blocks]
            waits = ((0,) * 4,) * 5 + ((10**6,) * 4,) * 6
            return [
                PairLaunch(blocks_ns=(*each, *[late] * 6), waits_ns=waits)
                for each, late in zip(blocks, slow, strict=True)
            ]

    found = find_or_measure(PLACE, Preempted().rig(tmp_path), tmp_path / "cache")
    assert found.macs_per_s["float32"] == pytest.approx(FLOATS)


def test_the_last_matrix_is_larger_than_the_cache_that_is_known():
    assert choose_sizes(accelerator=False).weights == CPU.weights
    assert choose_sizes(accelerator=False, cache_bytes=96 * 2**20).weights[-1] == 192 * 2**20
    assert choose_sizes(accelerator=True).weights[-1] > CPU.weights[-1]


@pytest.mark.parametrize(
    ("target", "backend", "threads", "said"),
    [
        ("arm-emulated", 0, 1, "counts instructions and times nothing"),
        ("fpga", 0, 1, "estimates instead of measuring"),
        ("cpu", 2, 1, "reads no ONNX file"),
        ("cpu", 0, 0, "--threads: numbers from 1 to 1024, found 0"),
    ],
)
def test_what_has_no_roofline_is_refused_before_anything_is_built(target, backend, threads, said):
    goal = load_target(target)
    with pytest.raises((InvalidInput, Unsupported), match=said):
        check_askable(goal, goal.backend[backend], threads)
