"""ONNX Runtime artifacts measured by the real worker in a real process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from ort_nets import SHAPE, compiled, convnet, samples, save

from bench.config.suite import Measure
from bench.errors import InvalidInput, Unavailable
from bench.line.measure import Bench, measure_artifact
from bench.reach.local import Local
from bench.types import Artifact, Conditions, QuantSpec


def measured(artifact: Artifact, feed: Path, **options):
    return measure_artifact(
        Bench(
            reach=Local(),
            session="backends.ort.session:OrtSession",
            conditions=Conditions(),
            measure=Measure(launches=1, pairs=1, blocks=5, time_s=0.3, warmup_s=0.1, limit_s=60),
            options=options,
            feed=feed,
            evaluate=feed,
        ),
        artifact,
    )


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return convnet(tmp_path / "net.onnx")


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    np.savez(tmp_path / "feed.npz", **{"0": samples(8)})
    return tmp_path / "feed.npz"


def test_an_int8_cell_is_measured_trusted_and_close_to_the_float_one(net, feed, tmp_path):
    plain = measured(compiled(net, tmp_path / "float"), feed)
    quantized = measured(compiled(net, tmp_path / "int8", QuantSpec(kind="static")), feed)
    assert not any("float32 kernels" in reason for reason in quantized.distrust)
    assert plain.outputs is not None
    assert quantized.outputs is not None
    wanted, found = plain.outputs[0].rows, quantized.outputs[0].rows
    assert wanted.shape == found.shape == (8, 10)
    assert 0 < np.abs(wanted - found).max() < 0.1 * np.abs(wanted).max()
    assert len(quantized.launches[0].samples_ns) >= 50
    assert {layer.operator for layer in quantized.profile} >= {"QLinearConv", "QGemm"}


def test_a_fallback_reaches_the_findings_as_distrust(net, feed, tmp_path):
    found = measured(compiled(net, tmp_path / "out", QuantSpec(kind="static", activation_bits=16)), feed)
    assert any("asked for int16, 3 of 3 multiplying nodes ran float32 kernels" in reason for reason in found.distrust)


def test_a_provider_that_is_missing_and_an_unknown_operator_reach_the_host_as_such(net, feed, tmp_path):
    with pytest.raises(Unavailable, match="CUDAExecutionProvider"):
        measured(compiled(net, tmp_path / "out", provider="cuda"), feed, provider="cuda")
    nodes = [helper.make_node("Polish", ["input"], ["output"], domain="com.acme", name="polish")]
    own = save(tmp_path / "own.onnx", nodes, {}, ["batch", *SHAPE], ["batch", *SHAPE], domains=("com.acme",))
    with pytest.raises(InvalidInput, match=r"operator Polish of domain com\.acme"):
        measured(compiled(own, tmp_path / "own"), feed)
