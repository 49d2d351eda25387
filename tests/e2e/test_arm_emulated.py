"""The emulated ARM board, where `make arm` has been run: same bytes as here, same counts every time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sshd
from needs import lacking

from bench.config.suite import Measure
from bench.config.target import load_target
from bench.device.board import runner
from bench.device.board.agent.processes import began
from bench.device.events import End
from bench.device.job import Job, Limits, Subject
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.line.measure import Bench, measure_artifact
from bench.reach.arm.layout import CPUS, default_folder, open_board
from bench.reach.emulated import Emulated
from bench.reach.local import Local
from bench.reach.open import open_reach
from bench.types import Artifact, Conditions

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


def emulated_python(board: Path, path: Path) -> Path:
    """A program that is python3 of an emulated board: what it starts is emulated too."""
    emulated, root = open_board(board)[0], board / "sysroot" / "cortex-a76"
    path.write_text(
        f"#!/bin/sh\nexec env LD_LIBRARY_PATH={emulated.host_libraries} {emulated.qemu} -cpu cortex-a76 -L {root} "
        f'-U LD_LIBRARY_PATH -0 "$0" -E "PYTHONPATH=$PYTHONPATH:{emulated.wheels}" {root}/usr/bin/python3.11 "$@"\n'
    )
    path.chmod(0o755)
    return path


def test_an_emulated_process_says_when_it_began_as_others_see_it(board: Path, tmp_path: Path) -> None:
    """By it a runner is known to live: the emulator shows its process another beginning in /proc/PID/stat."""
    code = (
        Path(runner.__file__).read_text().partition("if __name__")[0] + "print(began(os.getpid()), flush=True); input()"
    )
    command = [emulated_python(board, tmp_path / "python3"), "-I", "-S", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == began(process.pid)


@pytest.mark.slow
def test_the_emulated_board_is_reached_over_ssh(board: Path, tflite_cases: Path, tmp_path: Path) -> None:
    """The agent, the runner and the worker run as aarch64 programs; int8 outputs are those of this machine bit for bit."""
    if reason := sshd.missing():
        lacking("sshd", reason)
    python, feed = emulated_python(board, tmp_path / "python3"), tmp_path / "feed.npz"
    np.savez(feed, **{"0": np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)})
    model = Artifact(path=tflite_cases / "pretrainedResnet_quant.tflite", format="tflite", digest="")
    measure = Measure(launches=1, time_s=0.1, warmup_s=0.1, profile_runs=0, limit_s=250)
    found = {}
    with sshd.running(tmp_path / "double") as double:
        (tmp_path / "t.toml").write_text(double.target(python=str(python)) + '[[backend]]\nname = "litert"\n')
        there = open_reach(load_target(str(tmp_path / "t.toml")), "")
        for reach in (Local(), there):
            rig = Bench(reach=reach, session=LITERT, conditions=Conditions(), measure=measure, feed=feed, evaluate=feed)
            found[reach] = measure_artifact(rig, model)
        assert there.describe().startswith("aarch64")
        there.close()
    assert found[there].facts["machine"]["architecture"] == "aarch64"
    (here,), (arm,) = [[output.rows for output in each.outputs] for each in found.values()]
    assert arm.tobytes() == here.tobytes()
    assert len(np.unique(arm)) > 2
