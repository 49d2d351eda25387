"""What the CUDA session asks of the device, in which order: a double of torch.cuda notes it, on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from backends.pytorch import gpu
from backends.pytorch.network import load_network
from backends.pytorch.session import CudaSession
from bench.errors import CellFailed, Unavailable, Unsupported
from bench.types import Clock, Precision


class Device:
    """Notes calls in order. A captured graph replays by calling what was captured."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        device = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                device.calls.append("record")

            def synchronize(self) -> None:
                device.calls.append("wait")

            def elapsed_time(self, other: Event) -> float:
                return 1.5

        class Stream:
            def wait_stream(self, other: Stream) -> None:
                device.calls.append("wait_stream")

        class Graph:
            def replay(self) -> None:
                device.calls.append("replay")

        @contextmanager
        def within(_: object):
            device.calls.append("enter")
            yield

        for name, value in {
            "Event": Event, "Stream": Stream, "CUDAGraph": Graph, "graph": within, "stream": within,
            "current_stream": Stream, "synchronize": lambda: device.calls.append("synchronize"),
        }.items():  # fmt: skip
            patch.setattr(torch.cuda, name, value)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


@pytest.fixture
def device(monkeypatch) -> Device:
    device = Device()
    device.install(monkeypatch)
    return device


FEED = {"input": np.ones((2, 4), dtype=np.float32)}


@pytest.mark.parametrize("mode", ["eager", "cudagraph"])
def test_one_bound_inference_is_work_between_two_events_and_then_a_wait(archive, device, mode) -> None:
    session = CudaSession(load_network(archive, 2, {"mode": mode}))
    once = session.bind(FEED)
    device.calls.clear()
    once()
    between = ["replay"] if mode == "cudagraph" else []
    assert device.calls == ["record", *between, "record", "wait"]
    assert session.clock is Clock.DEVICE
    assert session.device_ns() == 1_500_000


def test_a_graph_is_captured_after_a_warm_up_on_a_side_stream_and_replayed_on_the_feed(archive, device) -> None:
    network = load_network(archive, 2, {"mode": "cudagraph"})
    calls: list[torch.Tensor] = []
    kept = network.module.forward
    network.module.forward = lambda *tensors: (calls.append(tensors[0]), kept(*tensors))[1]
    session = CudaSession(network)
    assert len(calls) == gpu.WARM_UP + 1
    session.bind(FEED)
    assert torch.equal(calls[0], torch.ones(2, 4)), "the captured inputs hold the feed"


def test_outputs_are_read_after_the_device_has_finished(archive, device) -> None:
    session = CudaSession(load_network(archive, 2, {"mode": "eager"}))
    device.calls.clear()
    (output,) = session.run(FEED)
    assert device.calls == ["synchronize"]
    assert output.shape == (2, 3)


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_layers_are_timed_in_the_arithmetic_of_the_inference(archive, device, monkeypatch, precision, tf32) -> None:
    session = CudaSession(load_network(archive, 2, {"mode": "eager"}, Precision(asked=precision)))
    seen: list[tuple[bool, bool]] = []

    def watched(*_: object) -> tuple[()]:
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return ()

    monkeypatch.setattr("backends.pytorch.session.profile_nodes", watched)
    session.profile(FEED, 1)
    assert seen == [(tf32, tf32)]


def test_a_profile_that_does_not_fit_is_unavailable_and_leaves_the_cell(archive, device, monkeypatch) -> None:
    session = CudaSession(load_network(archive, 2, {"mode": "eager"}))

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("backends.pytorch.session.profile_nodes", full)
    with pytest.raises(Unavailable, match="memory"):
        session.profile(FEED, 1)


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_tf32_is_on_only_while_asked_for_and_put_back(archive, device, precision, tf32) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    network = load_network(archive, 2, {"mode": "eager"}, Precision(asked=precision))
    seen: list[tuple[bool, bool]] = []
    kept = network.module.forward

    def watched(*tensors: torch.Tensor) -> torch.Tensor:
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return kept(*tensors)

    network.module.forward = watched
    session = CudaSession(network)
    session.bind(FEED)()
    session.run(FEED)
    assert set(seen) == {(tf32, tf32)}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_running_out_of_device_memory_fails_the_cell_and_says_where(archive, device) -> None:
    session = CudaSession(load_network(archive, 2, {"mode": "eager"}))

    def full(_: object):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    session.work = full
    with pytest.raises(CellFailed, match="out of device memory"):
        session.run(FEED)


def test_a_graph_that_cannot_be_captured_is_unsupported(archive, device, monkeypatch) -> None:
    @contextmanager
    def refuse(_: object):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    with pytest.raises(Unsupported, match="stream is capturing"):
        CudaSession(load_network(archive, 2, {"mode": "cudagraph"}))
