"""A .pte, ExecuTorch's compiled form, as a user's model: recognised, and refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from bench.errors import InvalidInput, Unsupported

SUFFIX = ".pte"
IDENTIFIER = b"ET"
"""Bytes 4 and 5; the version of the schema follows."""


def refuse_pte(file: Path) -> NoReturn:
    """Raises `InvalidInput` for a file that is missing or no .pte, else `Unsupported` with the way to its figures."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(8)
    except OSError as error:
        raise InvalidInput(f"model file {file} cannot be read: {error.strerror}") from error
    if begins[4:6] != IDENTIFIER:
        raise InvalidInput(f"{file} is damaged, or no .pte: bytes 4 and 5 are not ET; export it again")
    raise Unsupported(
        f"{file}: a .pte is compiled already. What XNNPACK took is a block of bytes, so neither its layers nor its "
        "multiply-accumulates can be counted, and there is nothing to compress. Give the .pt2 that it was lowered from "
        "(torch.export.save) with --backend executorch, which lowers and measures it"
    )
