"""The cost of a model file: one entry for every format that can be counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bench.errors import InvalidInput
from bench.models.compiled import SUFFIX, refuse_pte
from bench.types import Cost


def cost_of(path: Path, batch: int | None = None) -> Cost:
    """What a model file should cost at batch 1. `batch`: the one it is fixed to; None: what its first axes share.

    Raises `InvalidInput` naming the file when it is missing, not a file, of another format, cut off or malformed;
    `Unsupported` for a .pte, which is compiled already.
    """
    if path.suffix == SUFFIX:
        refuse_pte(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path} cannot be counted: allowed are files ending in {' or '.join(READERS)}")
    if not path.is_file():
        raise InvalidInput(f"{path} is not a file; give an existing {' or '.join(READERS)} file")
    try:
        return reader(path, batch)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} holds a name that is not text: {error}") from error
    except RecursionError as error:
        raise InvalidInput(f"{path} nests too deeply to be a network") from error
    except MemoryError as error:
        raise InvalidInput(f"{path} needs more memory to be counted than this process may use") from error


def _onnx(path: Path, batch: int | None) -> Cost:
    from bench.cost.onnx_graph import onnx_cost

    return onnx_cost(path, batch)


def _tflite(path: Path, batch: int | None) -> Cost:
    from bench.cost.tflite_graph import tflite_cost

    return tflite_cost(path, batch)


READERS: Mapping[str, Callable[[Path, int | None], Cost]] = {".onnx": _onnx, ".tflite": _tflite}
