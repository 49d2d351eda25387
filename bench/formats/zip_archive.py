"""Bounds on a zip archive (.npz, .pt), checked in its directory before anything is inflated."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from bench.errors import InvalidInput

MAX_INFLATED = 2 * 2**30
"""Bytes that the compressed members of one archive may inflate to. Uncompressed ones are bounded by the file's size."""


def check_archive(file: Path, members: Iterable[zipfile.ZipInfo]) -> None:
    """Checks what the directory says of these members. Readers inflate no more than it says.

    Raises `InvalidInput` for encryption, a compression but deflate, a member that ends outside the file,
    or more than `MAX_INFLATED` compressed bytes in all.
    """
    size, inflated = file.stat().st_size, 0
    for member in members:
        culprit = f"{file}: member {member.filename!r}"
        if member.flag_bits & 1:
            raise InvalidInput(f"{culprit} is encrypted; save it without a password")
        if member.header_offset + member.compress_size > size:
            raise InvalidInput(f"{culprit} ends outside the file; it is truncated or damaged")
        if member.compress_type == zipfile.ZIP_STORED:
            if member.compress_size != member.file_size:
                raise InvalidInput(f"{culprit} has two sizes, {member.compress_size} and {member.file_size}")
        elif member.compress_type == zipfile.ZIP_DEFLATED:
            inflated += member.file_size
        else:
            raise InvalidInput(f"{culprit} is compressed by method {member.compress_type}; only deflate is read")
    if inflated > MAX_INFLATED:
        raise InvalidInput(
            f"{file} would inflate to {inflated:,} bytes; at most {MAX_INFLATED:,} may be compressed: "
            "save it uncompressed (numpy.savez, torch.save)"
        )
