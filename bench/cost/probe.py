"""Counts a user's model file in a child process first, where a hostile file can do no harm.

Bounds are checked before onnx's native code sees a file (`bench.formats`). Not everything that this
code may do has a known bound: on some graphs that look harmless it crashes or takes all memory.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

from bench.errors import InvalidInput, PressbenchError, Unsupported
from bench.own_code import command_of, environment_of_ours

MEMORY_BYTES = 2 * 2**30
"""Address space of the child, besides what the file itself needs."""
COPIES = 6
"""How often the child may hold the bytes of the file and of the weights beside it."""
CPU_S = 30
"""CPU time of the child, besides that for the file's size. Not wall time: a file is not refused because the machine is busy."""
CPU_S_PER_GB = 200
ADVICE = "it is damaged, or made to do harm; export the model again"


def probe(file: Path, *, memory_bytes: int = MEMORY_BYTES, cpu_s: int = CPU_S) -> None:
    """Returns when `bench.cost.count.cost_of` reads this file without harm.

    Raises `InvalidInput` naming the file when it cannot be counted, or when the child crashes or needs
    more than its limits: `memory_bytes` and `COPIES` times the bytes on disk, `cpu_s` and 0.2 s per MB.
    """
    done = subprocess.run(
        command_of("bench.cost.probe", str(file), str(memory_bytes), str(cpu_s)),
        env={**environment_of_ours(), "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == InvalidInput.exit_code:
        answer = json.loads(done.stdout)
        raise (Unsupported if answer["unsupported"] else InvalidInput)(answer["message"])
    if done.returncode == -signal.SIGXCPU:
        raise InvalidInput(f"{file} cannot be counted in {cpu_s} s and 0.2 s per MB: {ADVICE}")
    if done.returncode:
        raise InvalidInput(f"{file} cannot be counted: reading it {_end(done)}; {ADVICE}")


def _end(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"ended a child process by {signal.Signals(-done.returncode).name}"
    last = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    return f"failed in a child process: {last[-1][:200]}"


def main(file: Path, memory_bytes: int, cpu_s: int) -> int:
    """The child: limits itself, counts, prints a refusal as JSON. Returns the exit code of the process."""
    from bench.cost.count import cost_of

    try:
        _limit(memory_bytes, cpu_s, file.stat().st_size if file.is_file() else 0)
        if file.suffix.lower() == ".onnx":
            _limit(memory_bytes, cpu_s, _bytes_with_weights(file))
        cost_of(file)
    except PressbenchError as error:
        sys.stdout.write(json.dumps({"message": str(error), "unsupported": isinstance(error, Unsupported)}))
        return InvalidInput.exit_code
    return 0


def _bytes_with_weights(file: Path) -> int:
    from bench.formats.onnx_file import bytes_on_disk, load_onnx

    return bytes_on_disk(load_onnx(file), file)


def _limit(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Soft limits of this process, for a file of that many bytes."""
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes + COPIES * file_bytes),
        (resource.RLIMIT_CPU, cpu_s + CPU_S_PER_GB * file_bytes // 2**30),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
