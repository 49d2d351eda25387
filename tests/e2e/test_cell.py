"""One cell becomes one record, whatever its backend does: with a fake backend that does what the recipe's name says."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_records import roofline as record_roofline

from bench.cache import find_or_make
from bench.compress.pipeline import compress
from bench.config.target import Budget
from bench.cost.count import cost_of
from bench.cost.roofline.bound import FACT, as_facts, read_roofline
from bench.device.job import MeterChoice
from bench.device.outputs import Output
from bench.errors import CellFailed, DiskFull, Unavailable, Unsupported
from bench.line.cell import RunState, run_cell
from bench.line.judged.evaluation import Evaluation, make_evaluation
from bench.line.plan import Request, make_plan
from bench.line.prepare import Setting
from bench.line.probes.roofline import Place
from bench.line.stages import Stages
from bench.line.trust import find_doubts, find_pair_doubts
from bench.report.table import compute_rows
from bench.stats import ratio
from bench.types import Artifact, Backend, Probe, Simulation, Status

FAKES = Path(__file__).parent.parent / "fakes"
NETWORK = """
import torch
from torch import nn

class Fake(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))
    def forward(self, x):
        x = x * self.gain
        return torch.stack([x.sum(dim=1), x[:, 0], x[:, 1]], dim=1)

def build():
    return Fake()
"""


class FakeBackend(Backend):
    """Writes what FakeSession reads; `behaviour` maps a recipe's name to what its file shall do."""

    name = "fake"
    accepts = ("onnx",)
    session = "fake_session:FakeSession"
    options = {}
    behaviour: dict[str, dict] = {}

    def probe(self):
        return Probe(available=True, version=json.dumps(self.behaviour))

    def compile(self, source, conditions, options, out):
        told = {"gain": 2.0, "busy": 3000, **self.behaviour.get(source.recipe, {})}
        behave = told.get("behave", "")
        if behave == "compile unsupported":
            raise Unsupported("no such kernel")
        if behave == "compile bug":
            raise ZeroDivisionError("a bug in an adapter")
        path = out / "model.json"
        path.write_text(json.dumps({**told, "recipe": source.recipe}))
        return Artifact(path=path, format="json")


class DeviceBackend(FakeBackend):
    session = "fake_session:FakeDeviceSession"


class Estimator(FakeBackend):
    session = None

    def simulate(self, artifact, conditions, options):
        return Simulation(source="estimator", latency_ms=1.5, cycles=1000)


class InferringEstimator(Estimator):
    infers = True

    def compile(self, source, conditions, options, out):
        return replace(super().compile(source, conditions, options, out), facts={"notes": ["it saturates"]})

    def infer(self, artifact, inputs, options):
        x = inputs[0] * json.loads(artifact.path.read_text())["gain"]
        return {"output": np.stack([x.sum(axis=1), x[:, 0], x[:, 1]], axis=1)}


@pytest.fixture
def state(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fakenet.py").write_text(NETWORK)
    x = np.random.default_rng(0).random((60, 4), dtype=np.float32)
    y = np.arange(60) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    (tmp_path / "suite.toml").write_text(
        'name = "s"\nmodels = ["fakenet:build"]\n'
        '[recipes]\nother = "float16()"\n'
        "[measure]\nlaunches = 2\npairs = 2\nblocks = 5\ntime_s = 0.3\nwarmup_s = 0.1\nlimit_s = 30\n"
    )
    plan = make_plan(Request(target="cpu", suite=str(tmp_path / "suite.toml"), data=str(tmp_path / "data.npz")))
    plan = replace(plan, target=replace(plan.target, min_clean_share=0.0))  # a neighbour's load decides no test
    setting = Setting(
        target=plan.target,
        cache=cache,
        folder=tmp_path,
        progress=lambda _what, _done: None,
        measure=plan.suite.measure,
        data=plan.data,
        data_asked=True,
        stages=Stages(load_backend=lambda _name: FakeBackend(), predict_reference=lambda *_, **__: None),
    )
    return RunState(plan=plan, run_id="r", setting=setting)


def with_stages(state, **stages):
    """Puts other functions in place of some stages."""
    state.setting = replace(state.setting, stages=replace(state.setting.stages, **stages))


def on_target(state, **changes):
    """Changes the target."""
    target = replace(state.setting.target, **changes)
    state.setting, state.plan = replace(state.setting, target=target), replace(state.plan, target=target)


def measured(state, backend=FakeBackend, **behaviour):
    fake = type("Told", (backend,), {"behaviour": behaviour, "__module__": __name__})
    with_stages(state, load_backend=lambda _name: fake())
    return [run_cell(cell, state) for cell in state.plan.cells]


def test_a_good_pair_of_cells_has_samples_outputs_and_a_ratio(state):
    baseline, other = measured(state)
    assert baseline.status in {Status.OK, Status.INCONCLUSIVE}
    assert len(baseline.launches) == 2
    assert len(other.pairs) == 2
    assert {pair.first for pair in other.pairs} == {"a", "b"}
    assert other.quality.top1_agreement == 1.0
    first, second = compute_rows([baseline, other])
    assert first["speedup"] == 1.0
    assert second["speedup"] == ratio(other.pairs).speedup.value


def test_a_record_has_the_roofline_that_the_cache_has_of_its_device_version_and_threads(state):
    first, _ = measured(state)
    assert FACT not in first.facts
    keep_roofline(state, first.device, "another version")
    assert FACT not in measured(state)[0].facts
    kept = keep_roofline(state, first.device, first.backend_version)
    assert [read_roofline(cell.facts) for cell in measured(state)] == [kept, kept]


def keep_roofline(state, device, version):
    """Puts a roofline into the cache, as one that was measured on this device with this version."""
    line = record_roofline(device=device, version=version)
    choice = state.plan.cells[0].backend
    place = Place(target=state.plan.target, choice=choice, threads=1, device=device, version=version)
    find_or_make(state.setting.cache, "tables", place.name, lambda _: {FACT: as_facts(line)})
    return line


def test_a_cell_with_half_the_work_of_its_baseline_is_twice_as_fast(state):
    """By the device's clock, which no neighbour disturbs: the figures are exact."""
    first, second = compute_rows(measured(state, DeviceBackend, baseline={"busy": 4000}, other={"busy": 2000}))
    assert second["speedup"] == pytest.approx(2.0, rel=1e-9)
    assert (first["latency_p50_ms"], second["latency_p50_ms"]) == (0.12, 0.06)
    assert (first["clock"], second["clock"]) == ("device", "device")


def test_weights_a_recipe_leaves_are_told_with_a_cell_that_is_ok(state):
    def noting(*given, **named):
        return replace(compress(*given, **named), notes={"outside_layers": "all of it stays"})

    with_stages(state, compress=noting)
    _, other = measured(state)
    assert other.reasons[0] == "all of it stays"
    assert other.status in {Status.OK, Status.INCONCLUSIVE}


def test_a_fallback_is_untrusted_with_its_reason(state):
    _, other = measured(state, other={"fallbacks": ["asked for int8, ran float32"]})
    assert other.status is Status.UNTRUSTED
    of_a_busy_machine = {*find_doubts(other.launches, other.clock), *find_pair_doubts(other.pairs)}
    assert [reason for reason in other.reasons if reason not in of_a_busy_machine] == ["asked for int8, ran float32"]


def test_a_speedup_over_an_untrusted_baseline_is_untrusted_with_the_baselines_reason(state):
    baseline, other = measured(state, baseline={"fallbacks": ["asked for CUDA, ran on the CPU"]})
    assert baseline.status is Status.UNTRUSTED
    assert len(other.pairs) == 2
    assert other.status is Status.UNTRUSTED
    said = "; ".join(other.reasons)
    assert "its baseline is untrusted: asked for CUDA, ran on the CPU" in said
    assert said.count("asked for CUDA") == 1


def test_a_comparison_that_fails_leaves_the_cell_measured_and_says_why_there_is_no_speedup(state):
    _, other = measured(state, other={"behave": "alone"})
    assert other.status in {Status.OK, Status.INCONCLUSIVE}
    assert len(other.launches) == 2
    assert other.pairs == ()
    assert "no room for two" in other.missing["speedup"]
    assert compute_rows([other])[0]["speedup"] is None


def test_outputs_that_are_no_numbers_fail_the_cell(state):
    _, other = measured(state, other={"behave": "nan"})
    assert other.status is Status.FAILED
    assert other.reasons == ("output 'scores' holds NaN or infinity",)


def without_data(state):
    """Measures on drawn inputs: nothing but the baseline says what is right."""
    with_stages(
        state, make_evaluation=lambda *_, **__: Evaluation(inputs=(), targets=None, parts=(), unfit="none named")
    )


def test_a_compressed_file_far_from_its_network_is_untrusted_with_the_figure(state):
    without_data(state)
    baseline, other = measured(state, baseline={"gain": 2.0}, other={"gain": -2.0})
    assert baseline.status in {Status.OK, Status.INCONCLUSIVE}
    assert other.status is Status.UNTRUSTED
    (found,) = other.quality.outputs
    assert found.relative_rms > 2
    assert f"output 'scores' is {found.relative_rms:.2g} of its own spread away" in other.reasons[-1]


def test_a_compressed_file_near_its_network_is_not(state):
    without_data(state)
    _, other = measured(state, baseline={"gain": 2.0}, other={"gain": 2.1})
    assert other.status in {Status.OK, Status.INCONCLUSIVE}
    assert 0 < other.quality.outputs[0].relative_rms < 0.5


def test_without_labels_and_baseline_a_cell_says_that_nothing_judges_its_outputs(state):
    without_data(state)
    _, other = measured(state, baseline={"behave": "crash"})
    assert other.reasons[0].startswith("nothing says whether its outputs are right: its baseline failed: ")


def test_labels_redeem_a_file_that_is_far(state):
    _, other = measured(state, baseline={"gain": 2.0}, other={"gain": 9.0})
    assert other.quality.outputs[0].relative_rms > 1
    assert other.quality.accuracy is not None
    assert other.status in {Status.OK, Status.INCONCLUSIVE}


def test_the_randomness_of_a_network_is_said_and_is_no_compression_error(state):
    without_data(state)
    noisy = {"gain": 2.0, "noise": 0.5}
    cells = measured(state, baseline=noisy, other=noisy)
    for cell in cells:
        assert "the network draws random numbers: two runs of the baseline differ by" in "; ".join(cell.reasons)
        assert cell.status in {Status.OK, Status.INCONCLUSIVE}
    row = compute_rows(cells)[1]
    assert (row["output_max_abs_err"], row["output_relative_rms"], row["top1_agreement"]) == (None, None, None)
    assert "draws random numbers" in cells[1].missing["output_max_abs_err"]


def test_an_error_beyond_the_networks_randomness_is_still_seen(state):
    without_data(state)
    _, other = measured(state, baseline={"gain": 2.0, "noise": 0.1}, other={"gain": 20.0, "noise": 0.1})
    assert other.status is Status.UNTRUSTED


def test_outputs_of_varying_length_are_measured_and_compared_where_they_have_one_length(state):
    without_data(state)
    _, other = measured(state, baseline={"boxes": 2}, other={"boxes": 2, "gain": 2.01})
    scores, boxes = other.quality.outputs
    assert (scores.name, boxes.name) == ("scores", "boxes")
    assert (boxes.varying, boxes.compared, boxes.rows) == (True, 16, 16)
    assert "'boxes' has another length for each input: compared on 16 of 16" in "; ".join(other.reasons)
    assert other.status in {Status.OK, Status.INCONCLUSIVE}


def test_outputs_of_other_lengths_are_said_not_to_be_compared(state):
    without_data(state)
    _, other = measured(state, baseline={"boxes": 2}, other={"boxes": 3})
    assert other.quality.outputs[1].compared == 0
    assert "output 'boxes' has another length for each input: not compared" in other.reasons
    assert other.status in {Status.OK, Status.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("behave", "status", "words"),
    [
        ("compile unsupported", Status.SKIPPED, "no such kernel"),
        ("unavailable", Status.SKIPPED, "this file is unavailable"),
        ("compile bug", Status.FAILED, "ZeroDivisionError: a bug in an adapter"),
        ("crash", Status.FAILED, "the runtime broke"),
        ("die", Status.FAILED, "signal 9"),
    ],
)
def test_what_goes_wrong_in_one_cell_is_its_record_and_the_next_goes_on(state, behave, status, words):
    baseline, other = measured(state, baseline={"behave": behave})
    assert baseline.status is status
    assert words in baseline.reasons[0]
    assert other.status in {Status.OK, Status.INCONCLUSIVE}
    assert words in other.missing["speedup"]
    assert other.pairs == ()


def test_an_estimate_has_the_simulated_clock_and_no_accuracy(state):
    baseline, _ = measured(state, backend=Estimator)
    assert baseline.clock.value == "simulated"
    assert baseline.simulation.cycles == 1000
    row = compute_rows([baseline])[0]
    assert row["latency_p50_ms"] == 1.5
    assert row["accuracy"] is None
    assert "no inference" in baseline.missing["accuracy"]


def test_an_uncompressed_file_with_wrong_outputs_is_untrusted(state):
    with_stages(
        state, predict_reference=lambda _model, x, **_: (Output(name="", rows=np.full((len(x), 3), 100.0, np.float32)),)
    )
    baseline, _ = measured(state)
    assert baseline.status is Status.UNTRUSTED
    assert "differs from the reference" in baseline.reasons[-1]


@pytest.mark.parametrize(("gain", "apart"), [(2.0, False), (-2.0, True)])
def test_an_uncompressed_file_that_two_backends_compute_differently_is_untrusted_on_the_second(state, gain, apart):
    first = state.plan.cells[0]
    second = replace(first, backend=replace(first.backend, name="other"), key="other", baseline_key="other")
    state.plan = replace(state.plan, cells=(first, second))
    kinds = {
        name: type("Told", (FakeBackend,), {"behaviour": {"baseline": {"gain": one}}, "__module__": __name__})
        for name, one in ((first.backend.name, 2.0), ("other", gain))
    }
    with_stages(state, load_backend=lambda name: kinds[name]())
    known, found = (run_cell(cell, state) for cell in state.plan.cells)
    assert known.status is not Status.UNTRUSTED
    said = f"away from that of backend {first.backend.title}, for the same file and inputs"
    assert any(said in reason for reason in found.reasons) == apart
    assert (found.status is Status.UNTRUSTED) == apart


def test_a_cell_over_a_budget_says_by_how_much_and_stays_ok(state):
    on_target(state, budget=Budget(latency_p50_ms=1e-6, memory_mb=1e-6, energy_mj=1.0))
    baseline, _ = measured(state)
    assert baseline.status in {Status.OK, Status.INCONCLUSIVE}
    said = str(compute_rows([baseline])[0]["budget"])
    assert said.startswith("fail: latency_p50_ms ")
    assert "memory_mb" in said
    assert "energy_mj" not in said


def test_a_cell_that_never_became_steady_is_inconclusive_alone_and_beside_its_baseline(state):
    _, other = measured(state, other={"behave": "never steady"})
    assert other.status is Status.INCONCLUSIVE
    said = "; ".join(other.reasons)
    assert "2 of 2 launches were still getting faster" in said
    assert "2 of 2 comparisons began while runs were still getting faster" in said


def test_macs_that_leave_out_an_operator_are_no_macs_and_promise_nothing(state):
    with_stages(state, count=lambda file: replace(cost_of(file), unknown=("com.me.Fancy",)))
    baseline, _ = measured(state)
    with_stages(state, count=cost_of)
    other = run_cell(state.plan.cells[1], state)
    row, beside = compute_rows([baseline, other])
    for column in ("macs", "flops", "promised_speedup"):
        assert row[column] is None
        assert "com.me.Fancy" in baseline.missing[column]
    assert beside["macs"] is not None
    assert beside["promised_speedup"] is None
    assert "its baseline's com.me.Fancy" in other.missing["promised_speedup"]


def test_outputs_that_are_no_scores_of_the_classes_have_no_accuracy_though_the_data_fits(state):
    with_stages(state, make_evaluation=lambda *data, **how: replace(make_evaluation(*data, **how), classes=7))
    baseline, _ = measured(state)
    assert baseline.quality.accuracy is None
    assert "7 classes" in baseline.missing["accuracy"]


def test_two_meters_that_open_leave_both_their_windows_and_no_failure(state):
    state.setting = replace(
        state.setting, meters=(MeterChoice(path="fake_meter:Steady"), MeterChoice(path="fake_meter:Other"))
    )
    on_target(state, budget=Budget(energy_mj=1e-9))
    baseline, _ = measured(state)
    assert baseline.status in {Status.OK, Status.INCONCLUSIVE}
    assert [window.meter for window in baseline.launches[0].energy] == ["steady", "other"]
    (row,) = compute_rows([baseline])
    assert str(row["budget"]).startswith("fail: energy_mj")
    assert row["energy_source"] == "measured:steady"


def test_a_memory_budget_limits_what_the_column_shows(state):
    peak = 0
    for limit in (1.0, 1e6):
        state.baselines.clear()
        on_target(state, budget=Budget(memory_mb=limit))
        baseline = measured(state, baseline={"ballast_bytes": 32 * 2**20})[0]
        (row,) = compute_rows([baseline])
        peak = row["memory_peak_bytes"]
        assert row["budget"] == (f"fail: memory_mb {peak / 1e6:.6g} of 1" if limit == 1.0 else "pass")
    assert 30 * 2**20 < peak < 50 * 2**20


def test_a_machine_too_busy_is_not_believed(state):
    on_target(state, min_clean_share=1.1)
    baseline, _ = measured(state)
    waits_known = bool(baseline.launches[0].waits_ns)  # not every kernel counts them
    assert (baseline.status is Status.UNTRUSTED) == waits_known
    assert ("without waiting for a CPU" in "; ".join(baseline.reasons)) == waits_known


def test_a_missing_runtime_says_how_to_get_it(state):
    def missing(_name):
        raise Unavailable("backend 'ort' cannot be imported; install pressbench[ort]")

    with_stages(state, load_backend=missing)
    record = run_cell(state.plan.cells[0], state)
    assert record.status is Status.SKIPPED
    assert "install pressbench[ort]" in record.reasons[0]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        caused(Unavailable("cannot write the cache"), OSError(errno.ENOSPC, "No space left on device")),
        CellFailed("the converter ended with 1: OSError: [Errno 28] No space left on device: '/tmp/x'"),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"),
    ],
)
def test_a_full_disk_is_no_record_of_the_cell(state, error):
    def full(*_arguments):
        raise error

    with_stages(state, compile=full)
    with pytest.raises(DiskFull, match=r"disk full: fakenet:build, baseline, ort: .* --resume") as caught:
        run_cell(state.plan.cells[0], state)
    assert caught.value.exit_code == 3


def test_a_full_disk_during_the_comparison_is_no_record_of_the_cell_either(state):
    def full(*_arguments):
        raise CellFailed("the worker ended with 1: OSError: [Errno 28] No space left on device: '/tmp/x'")

    run_cell(state.plan.cells[0], state)
    with_stages(state, compare=full)
    with pytest.raises(DiskFull, match="disk full: the comparison"):
        run_cell(state.plan.cells[1], state)


def test_a_simulator_that_infers_is_judged_as_a_session_is(state):
    """Accuracy and agreement are there, its notes are said, and nothing is timed."""
    baseline, other = measured(state, InferringEstimator, other={"gain": -2.0})
    assert (baseline.status, other.status) == (Status.OK, Status.OK)
    assert "it saturates" in baseline.reasons
    assert baseline.quality.accuracy is not None
    assert other.quality.samples == 12
    assert other.quality.top1_agreement < 1.0
    assert other.simulation.cycles == 1000
    assert (other.launches, other.pairs) == ((), ())
    assert "accuracy" not in other.missing
    assert [row["speedup"] for row in compute_rows([baseline, other])] == [1.0, 1.0]
