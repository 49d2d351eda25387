"""int8 kernels that give other sums than their file asks for are found, on whichever CPU the test runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from ort_nets import compiled, opened, save

from backends.onnx_tools.exact import FAR, FAR_IN_INTEGERS, explain_inexact, measure_inexact
from backends.ort import session as sessions
from bench.types import QuantSpec

STATIC = QuantSpec(kind="static", activation_symmetric=True)


def dense(tmp_path: Path, **options):
    """A MatMul of 64 x 8, quantized to int8 on uniform rows."""
    weights = np.random.default_rng(0).standard_normal((64, 8))
    nodes = [helper.make_node("MatMul", ["input", "fc.weight"], ["output"], "fc")]
    path = save(tmp_path / "net.onnx", nodes, {"fc.weight": weights}, ["N", 64], ["N", 8])
    data = tmp_path / "data.npz"
    np.savez(data, input=np.random.default_rng(1).random((32, 64), dtype=np.float32))
    return compiled(path, tmp_path / "out", STATIC, data=data, **options)


def dynamic(tmp_path: Path, **options):
    """A MatMul whose pairs of products are near 2^16 in int8: every weight, and nearly every input, is the largest."""
    weights = np.where(np.random.default_rng(0).random((64, 8)) < 0.8, 1.0, -1.0)
    path = save(
        tmp_path / "net.onnx",
        [helper.make_node("MatMul", ["input", "fc.weight"], ["output"], "fc")],
        {"fc.weight": weights},
        ["N", 64],
        ["N", 8],
    )
    return compiled(path, tmp_path / "out", QuantSpec(kind="dynamic"), **options), weights


def feeds(count=4):
    drawn = np.random.default_rng(2)
    return [{"input": drawn.random((1, 64), dtype=np.float32)} for _ in range(count)]


def test_seven_bit_weights_are_exact_on_every_cpu(tmp_path):
    assert opened(dense(tmp_path, reduce_range=True)).explain_inexact(feeds()) == ""


def test_kernels_that_saturate_are_named_with_the_error_and_the_remedy(tmp_path, monkeypatch):
    """The optimized session stands for saturating kernels: it runs a file whose products are cut off."""
    session = opened(dense(tmp_path, reduce_range=True))
    run = session.run
    monkeypatch.setattr(session, "run", lambda feed: tuple(np.minimum(one, 0.0) for one in run(feed)))
    said = session.explain_inexact(feeds())
    assert said.startswith("the int8 kernels that ran give outputs that are ")
    assert said.endswith("reduce_range = true (in a target file, or `compress --option reduce_range=true`)")


def test_dynamic_int8_is_compared_with_its_own_integer_sums(tmp_path):
    """On a CPU with VNNI both are right; on another the file's sums, which numpy gives, are not those that ran."""
    artifact, weights = dynamic(tmp_path)
    session = opened(artifact)
    given = [{"input": np.where(feed["input"] < 0.1, 0.5, 1.0).astype(np.float32)} for feed in feeds()]
    wanted = np.concatenate([feed["input"] @ weights for feed in given])
    ran = np.concatenate([session.run(feed)[0] for feed in given])
    far = float(np.sqrt(np.mean((ran - wanted) ** 2)) / wanted.std())
    assert bool(session.explain_inexact(given)) == (far > FAR_IN_INTEGERS)


def test_dynamic_int8_takes_the_remedy(tmp_path):
    artifact, weights = dynamic(tmp_path, reduce_range=True)
    session = opened(artifact)
    stored = [numpy_helper.to_array(item) for item in onnx.load(artifact.path).graph.initializer]
    assert max(np.abs(item).max() for item in stored if item.dtype == np.int8) == 64
    full = {"input": np.ones((1, 64), np.float32)}
    assert session.run(full)[0] == pytest.approx(full["input"] @ weights, rel=1e-2)
    assert session.explain_inexact([full, *feeds()]) == ""


@pytest.mark.parametrize("options", [{"graph_optimization": "off"}, {}])
def test_nothing_is_compared_without_optimization_or_in_float32(tmp_path, options, monkeypatch):
    artifact = dense(tmp_path)
    session = opened(artifact, **options)
    if not options:
        session._precision = sessions.FLOAT32
    monkeypatch.setattr(sessions, "load", None)
    assert session.explain_inexact(feeds()) == ""


def test_a_file_that_does_not_run_unoptimized_costs_only_the_comparison(tmp_path, monkeypatch):
    session = opened(dense(tmp_path))

    def fail(*_, **__):
        raise sessions.Unavailable("no memory")

    monkeypatch.setattr(sessions, "load", fail)
    assert session.explain_inexact(feeds()) == ""


def test_the_error_is_relative_to_the_spread_of_each_output_over_all_inferences():
    exact = [(np.array([0.0, 2.0], np.float32),), (np.array([4.0, 6.0], np.float32),)]
    spread = np.sqrt(5.0)
    near = [(one + np.float32(0.9 * FAR * spread),) for (one,) in exact]
    far = [(one + np.float32(1.1 * FAR * spread),) for (one,) in exact]
    assert explain_inexact(near, exact) == ""
    assert f"{1.1 * FAR:.2g} of their spread" in explain_inexact(far, exact)


def test_outputs_that_do_not_compare_are_left_out():
    """Labels and an output of another length say nothing of sums, nor does a step of int8 in one that is always the same."""
    exact = [(np.array([1, 2]), np.float32([3.0, 3.0]), np.float32([1.0, 2.0, 3.0]))]
    ran = [(np.array([7, 9]), np.float32([3.02, 3.02]), np.float32([1.0]))]
    assert explain_inexact(ran, exact) == ""


def test_the_rounding_of_outputs_that_hardly_vary_is_no_error():
    """A softmax of one class is always 1; an empty output has nothing to be far from."""
    ones = [(np.array([1.0, 1.0], np.float32), np.zeros(0, np.float32))]
    nearly = [(np.array([1.0, 1.0 + 1e-7], np.float32), np.zeros(0, np.float32))]
    assert measure_inexact(nearly, ones) < 1e-3
    assert measure_inexact([(np.zeros(2, np.float32), np.zeros(0, np.float32))], ones) > 1
