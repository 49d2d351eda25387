"""What the agent says: one line, MARK and JSON; and how it is put on a board.

Also the text of the program that installs the agent, `python3 -I -S -c TEXT FOLDER`, so it imports nothing of its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

Request = dict[str, Any]
MARK = b"\x1epressbench "


class Refused(Exception):  # noqa: N818
    """What the host must say to its user. `kind`: busy, full, readonly, corrupt or request."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def answer(values: Request) -> None:
    """Writes the line of the answer."""
    sys.stdout.buffer.write(MARK + json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()


def refusal(error: Exception) -> Request:
    """The answer that stands for an error."""
    if isinstance(error, Refused):
        return {"refused": error.kind, "text": str(error)}
    kinds = {errno.ENOSPC: "full", errno.EDQUOT: "full"}
    kinds.update(dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR), "readonly"))
    number = error.errno if isinstance(error, OSError) else None
    return {"refused": kinds.get(number or 0, "request"), "text": f"{type(error).__name__}: {error}"}


def install(folder: str, archive: bytes) -> None:
    """Keeps the agent in the folder, by the SHA-256 of its content."""
    target = Path(folder).expanduser() / "agent"
    part = target / f"{os.getpid()}.part"
    try:
        target.mkdir(parents=True, exist_ok=True)
        part.write_bytes(archive)
        part.replace(target / f"{hashlib.sha256(archive).hexdigest()}.zip")
    except (OSError, RuntimeError) as error:
        answer(refusal(error))
    else:
        answer({"installed": True})


if __name__ == "__main__":
    install(sys.argv[1], sys.stdin.buffer.read())
