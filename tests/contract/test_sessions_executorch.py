"""The ExecuTorch backend keeps the laws of backends and sessions, and says what XNNPACK really ran."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("executorch", reason="pip install 'pressbench[executorch]'")

from backends.executorch.compile import ExecutorchBackend
from backends.executorch.kernels import Step, find_fallbacks
from backends.executorch.quantize import quantize
from backends.executorch.session import ExecutorchSession, hear
from backends.programs.archive import load_archive
from bench.errors import InvalidInput, Unsupported
from bench.types import FLOAT32, Artifact, Clock, Compressed, Conditions, Precision, QuantSpec, TensorSpec

SHAPE = (3, 16, 16)
INT8 = QuantSpec(kind="static")


class Net(nn.Module):
    """BatchNorm, a depthwise convolution and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.depthwise(self.stem(x))).mean((2, 3)))


def samples(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, *SHAPE), dtype=np.float32)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def archive(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.pt2"
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(torch.export.export(net, (torch.zeros(2, *SHAPE),), dynamic_shapes=shapes), path)
    np.savez(path.with_name("calibration.npz"), x=samples(33, seed=1))
    return path


def compiled(archive: Path, out: Path, quant: QuantSpec | None = None, batch: int = 1) -> Artifact:
    source = Compressed(
        model="net",
        recipe="r",
        files={"pt2": archive},
        inputs=(TensorSpec(name="x", shape=(-1, *SHAPE)),),
        digest="d",
        quant=quant,
        calibration=archive.with_name("calibration.npz"),
    )
    return ExecutorchBackend().compile(source, Conditions(batch=batch), {}, out)


def opened(artifact: Artifact, threads: int = 1) -> ExecutorchSession:
    options = artifact.facts["session_options"]
    return ExecutorchSession.open(
        artifact.path, threads=threads, batch=1, options=options, precision=artifact.precision
    )


@pytest.fixture(scope="module")
def floats(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compiled(archive, tmp_path_factory.mktemp("float"))


def test_float32_is_within_1e_4_of_pytorch_and_all_on_xnnpack(net, floats):
    session, x = opened(floats), samples(1)
    (found,) = session.run({"x": x})
    wanted = net(torch.from_numpy(x)).detach().numpy()
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    facts = session.facts()
    assert facts.fallbacks == ()
    assert facts.execution.multiplying == {"float32": 3}
    assert facts.execution.not_delegated == {"mean": 1}, "light, and without keepdim not XNNPACK's"
    assert facts.execution.partitions == 2
    assert facts.version == ExecutorchBackend().probe().version
    rows = session.profile({"x": x}, 3)
    assert {row.placed_on for row in rows} == {"xnnpack", "portable"}
    assert [row.operator for row in rows].count("Convolution") == 2
    assert all(row.runs == 3 and row.mean_us >= 0 for row in rows)


MIXED = QuantSpec(
    kind="static",
    activation_symmetric=False,
    per_channel=False,
    keep_float=("head",),
    ranges=(("input:0", -9.0, 9.0), ("stem.0", 0.0, 5.0), ("head:input", 0.0, 1.0), ("gone", 0.0, 1.0)),
)
"""A kept layer, and trained ranges: behind a BatchNorm and its ReLU6, of what enters a float layer, and of none."""


@pytest.mark.parametrize(
    ("spec", "batch", "multiplying"),
    [
        (INT8, 2, {"int8": 3}),
        (MIXED, 1, {"float32": 1, "int8": 2}),
        (QuantSpec(kind="dynamic", keep_float=("stem.0", "depthwise")), 1, {"float32": 2, "int8": 1}),
    ],
    ids=["symmetric", "asymmetric per tensor, mixed, trained", "dynamic"],
)
def test_int8_is_close_and_multiplies_in_int8_where_it_was_asked_for(spec, batch, multiplying, net, archive, tmp_path):
    artifact = compiled(archive, tmp_path, spec, batch)
    session, x = opened(artifact), samples(batch)
    (found,) = session.run({"x": x})
    wanted = net(torch.from_numpy(x)).detach().numpy()
    assert np.abs(found - wanted).max() <= 0.1 * np.abs(wanted).max()
    facts = session.facts()
    assert facts.execution.multiplying == multiplying
    assert facts.fallbacks == ()
    assert artifact.precision.keep_float == spec.keep_float
    assert artifact.facts.get("calibration_samples") == (33 if spec.kind == "static" else None)
    if spec.ranges:
        assert artifact.facts["ranges_not_placed"] == ["gone"]
        lost = ExecutorchSession.open(
            artifact.path,
            threads=1,
            batch=1,
            options=artifact.facts["session_options"],
            precision=Precision(asked="int8"),
        )
        (reason,) = lost.facts().fallbacks
        assert reason.startswith("asked for int8, 1 of 3 multiplying nodes ran float32 kernels: Fully Connected")


def test_trained_ranges_become_the_scales_of_their_tensors(archive):
    """The input, what leaves a layer behind its BatchNorm and ReLU6; what enters one does not narrow a shared scale."""
    program = torch.export.export(load_archive(archive).module(check_guards=False), (torch.zeros(1, *SHAPE),))
    trained = (("head:input", 0.0, 0.1), ("input:0", -9.0, 9.0), ("stem.0", 0.0, 5.1), ("depthwise", 0.0, 2.55))
    spec = QuantSpec(kind="static", ranges=trained, activation_symmetric=False)
    specs = (TensorSpec(name="x", shape=(1, *SHAPE)),)
    source = Compressed(
        model="net",
        recipe="r",
        files={},
        inputs=specs,
        digest="d",
        calibration=archive.with_name("calibration.npz"),
    )
    done, _, facts = quantize(program, specs, source, spec)
    scales = [node.args[1] for node in done.graph.nodes if "quantize_per_tensor" in str(node.target)]
    assert facts["ranges_not_placed"] == []
    for scale in (18 / 255, 0.02, 0.01):
        assert any(found == pytest.approx(scale) for found in scales)


def test_a_session_keeps_the_laws_of_sessions(floats):
    """Host clock; equal runs; a bound call has its own copy; arrays are the caller's; the pool has the asked threads."""
    session = opened(floats, threads=2)
    assert ExecutorchSession.clock is Clock.HOST
    first, second = {"x": samples(1, seed=1)}, {"x": samples(1, seed=2)}
    (kept,) = session.run(first)
    copy = kept.copy()
    call = session.bind(first)
    first["x"][:] = 0
    session.bind(second)()
    assert np.allclose(call()[0].numpy(), copy, atol=1e-6)
    session.run(second)
    assert np.array_equal(kept, copy)
    assert np.array_equal(session.run({"x": samples(1, seed=1)})[0], copy)
    assert session.facts().fallbacks == ()
    with pytest.raises(InvalidInput, match="input 'x' wants float32"):
        session.run({"x": samples(2)})
    with pytest.raises(InvalidInput, match="the feed has 'image'"):
        session.bind({"image": samples(1)})
    session.close()
    opened(floats)


@pytest.mark.parametrize(
    ("steps", "precision", "said"),
    [
        ([("native_call_convolution.out", False)], FLOAT32, "1 convolution fell off XNNPACK"),
        ([("Convolution (NHWC, F16) IGEMM #1", True)], FLOAT32, "asked for float32, 1 multiplying nodes ran float16"),
        (
            [("Convolution (NHWC, QS8, QC8W) IGEMM #1", True), ("Fully Connected (NC, F32) GEMM #1", True)],
            Precision(asked="int8"),
            "asked for int8, 1 of 2 multiplying nodes ran float32 kernels: Fully Connected",
        ),
        ([("Fully Connected (NC, QS8) GEMM #1", True), ("native_call_sin.out", False)], Precision(asked="int8"), ""),
        ([("Fully Connected (NC, QD8, F32, QC8W) GEMM #1", True)], Precision(asked="int8"), ""),
        ([("Fully Connected (NC, QDU8, F32, QC8W) GEMM #1", True)], Precision(asked="int8"), ""),
    ],
)
def test_what_xnnpack_did_not_take_or_took_in_another_type_is_a_fallback(steps, precision, said):
    made = [Step(name=name, delegated=delegated, times_us=(1.0,)) for name, delegated in steps]
    found = find_fallbacks(made, precision)
    assert len(found) == bool(said)
    assert said in "".join(found)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (QuantSpec(kind="float16"), "not float16 of 8 bits"),
        (QuantSpec(kind="dynamic", weight_bits=4), "dynamic int8 of ExecuTorch: weight_bits=4"),
        (QuantSpec(kind="static", calibration="mse"), "calibration='mse'"),
    ],
)
def test_what_is_not_lowered_is_unsupported_with_the_reason(spec, said, archive, tmp_path):
    with pytest.raises(Unsupported, match=said):
        compiled(archive, tmp_path, spec)


@pytest.mark.parametrize("keep", [0, 4, 8, 1000])
def test_a_damaged_pte_is_refused_by_name(keep, floats, tmp_path):
    path = tmp_path / "cut.pte"
    path.write_bytes(floats.path.read_bytes()[:keep])
    with pytest.raises(InvalidInput, match=r"cut\.pte"):
        ExecutorchSession.open(path, threads=1, batch=1, options={})


def test_an_archive_that_is_none_or_whose_batch_is_fixed_is_refused(net, tmp_path):
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"no zip")
    with pytest.raises(InvalidInput, match=r"broken\.pt2"):
        compiled(path, tmp_path)
    torch.export.save(torch.export.export(net, (torch.zeros(2, *SHAPE),)), path)
    with pytest.raises(Unsupported, match="batch is fixed at 2, batch 1 was asked"):
        compiled(path, tmp_path)


def test_of_a_kernel_that_refuses_its_inputs_the_operator_and_the_reason_are_heard(capfd) -> None:
    """ExecuTorch raises only a number, and writes the rest to standard error."""

    def fail() -> None:
        os.write(2, b"[util.cpp:620] Check failed (pad[i] >= 0): Padding values must be non-negative, but got -1\n")
        os.write(2, b"[op.cpp:249] Check failed (check(in, out)): \n")
        os.write(
            2, b"[method.cpp:1483] KernelCall failed at instruction 0:2 in operator aten::constant_pad_nd.out: 0x12\n"
        )
        raise RuntimeError("method->execute() failed with error 0x12")

    assert hear(fail) == "aten::constant_pad_nd.out: Padding values must be non-negative, but got -1"
    assert hear(lambda: None) == ""
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"
