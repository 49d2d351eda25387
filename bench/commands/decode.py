"""`pressbench decode`: turns a coded weights file back into a checkpoint."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import save

from bench.compress.coding.entropy_read import decode_weights
from bench.errors import InvalidInput
from bench.paths import written
from bench.types import Json

MIB = 1 << 20


def decode_file(*, file: Path, out: Path, limit_mib: int) -> dict[str, Json]:
    """Writes the tensors of a `.pbw` file to `out`, a `.safetensors` file, bit for bit as they were coded.

    `limit_mib`: the most that the file, and the decoded tensors, may take. Raises `InvalidInput` for a file that is
    missing, damaged, of another format or over the limit, `Unavailable` if `out` cannot be written.
    """
    if out.suffix != ".safetensors":
        raise InvalidInput(f"--out {out}: decode writes .safetensors files")
    if not file.is_file():
        raise InvalidInput(f"weights file {file} does not exist")
    coded_bytes = file.stat().st_size
    if coded_bytes > limit_mib * MIB:
        raise InvalidInput(f"{file}: {coded_bytes} bytes are over {limit_mib} MiB; --limit-mib allows more")
    tensors = decode_weights(file.read_bytes(), name=str(file), limit_bytes=limit_mib * MIB)
    with written(out, "--out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(save(tensors))
    sizes = [tensor.nbytes for tensor in tensors.values()]
    return {"file": str(out), "tensors": len(tensors), "bytes": sum(sizes), "coded_bytes": coded_bytes}
