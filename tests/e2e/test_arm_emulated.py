"""The emulated ARM board, where `make arm` has been run: same bytes as here, same counts every time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.device.events import End
from bench.device.job import Job, Limits, Subject
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.reach.arm.layout import CPUS, default_folder, open_board
from bench.reach.emulated import Emulated
from bench.reach.local import Local

LITERT = "backends.litert.session:LitertSession"


@pytest.fixture(scope="module")
def board() -> Path:
    folder = default_folder(os.environ)
    try:
        open_board(folder)
    except Unavailable as error:
        pytest.skip(str(error))
    return folder


def count(reach, model: Path, workdir: Path, **changes) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Counts of each inference and all outputs, on random pixels."""
    workdir.mkdir()
    feed = workdir / "feed.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    np.savez(feed, **{"0": pixels})
    job = Job(
        **{
            "task": "count",
            "session": LITERT,
            "subjects": (Subject(path=str(model), digest=""),),
            "feed": str(feed),
            "evaluate": str(feed),
            "outputs": str(workdir / "outputs.npz"),
            "limits": Limits(),
            **changes,
        }
    )
    ended = reach.run(job, workdir, 240.0)
    counts = [(count.instructions, count.memory_accesses) for count in ended.counts]
    with np.load(workdir / "outputs.npz") as stored:
        return counts, stored["0"]


def test_int8_outputs_on_arm_are_those_of_this_machine_bit_for_bit(
    board: Path, tflite_cases: Path, tmp_path: Path
) -> None:
    """Integer kernels of every emulated core and of this CPU give the same bytes; newer cores need fewer instructions."""
    model = tflite_cases / "pretrainedResnet_quant.tflite"
    _, expected = count(Local(), model, tmp_path / "here")
    assert len(np.unique(expected)) > 2
    needed = {}
    for device in CPUS:
        counts, outputs = count(Emulated(device, board), model, tmp_path / device)
        assert outputs.tobytes() == expected.tobytes(), device
        needed[device] = counts[-1][0]
    assert needed["cortex-a53"] > needed["cortex-a72"] > needed["cortex-a76"]


@pytest.mark.slow
def test_two_runs_count_the_same(board: Path, tflite_cases: Path, tmp_path: Path) -> None:
    """Instructions and memory accesses of two launches differ by less than 0.1 %."""
    model = tflite_cases / "pretrainedResnet.tflite"
    reach = Emulated("cortex-a72", board)
    first, outputs = count(reach, model, tmp_path / "first")
    second, again = count(reach, model, tmp_path / "second")
    assert np.array_equal(outputs, again)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert abs(a - b) < 0.001 * a


def test_the_count_is_the_inference_without_the_worker(board: Path, tmp_path: Path) -> None:
    """A session that does nothing counts as almost nothing: what the worker does is taken off."""
    model = tmp_path / "nothing"
    model.touch()
    workdir = tmp_path / "work"
    workdir.mkdir()
    job = Job(
        task="count",
        session="bench.reach.arm.empty:EmptySession",
        subjects=(Subject(path=str(model), digest=""),),
        outputs=str(workdir / "outputs.npz"),
    )
    ended = Emulated("cortex-a76", board).run(job, workdir, 120.0)
    assert len(ended.counts) == job.count_runs
    assert all(count.instructions < 1000 for count in ended.counts)
    assert ended.events[-1] == End()


def test_the_worker_says_what_is_wrong_as_on_any_target(board: Path, tmp_path: Path) -> None:
    """An error on the emulated board is the error it would be here."""
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"no flatbuffer at all")
    with pytest.raises(InvalidInput, match=r"bad\.tflite"):
        count(Emulated("cortex-a53", board), bad, tmp_path / "work")


@pytest.mark.parametrize("changes", [{"threads": 2}, {"task": "measure"}, {"task": "compare"}])
def test_what_an_emulator_cannot_tell_is_unsupported(
    board: Path, tflite_cases: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    """Time and threads are refused with the reason."""
    with pytest.raises(Unsupported, match=r"spin|time"):
        count(Emulated("cortex-a53", board), tflite_cases / "ad01_int8.tflite", tmp_path / "work", **changes)
