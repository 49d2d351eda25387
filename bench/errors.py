"""The exceptions a user can meet; each knows the exit code of the command it ends."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class PressbenchError(Exception):
    """Base of every expected error: its text is for the user, without a traceback."""

    exit_code: ClassVar[int] = 3
    """Nothing was measured, unless a kind of error says more. 1 is for regressions alone."""


class Regression(PressbenchError):  # noqa: N818 - the name is the verdict
    """A verdict of `regress`: something got slower, larger or worse."""

    exit_code = 1


class InvalidInput(PressbenchError):  # noqa: N818
    """What the user gave cannot be used: names the file, the key and what is allowed."""

    exit_code = 2


class Unsupported(InvalidInput):
    """A combination that cannot exist (a recipe on a backend that has no such thing): stored as a skip."""


class Unavailable(PressbenchError):  # noqa: N818
    """A runtime, device or meter is missing here; the text says how to get it."""


class DiskFull(Unavailable):
    """No space where something had to be written: ends the run, because every cell to come would meet it too."""


class Untrusted(PressbenchError):  # noqa: N818
    """A number was measured but must not be believed: a fallback, throttling, wrong outputs."""

    exit_code = 4


class CellFailed(PressbenchError):  # noqa: N818
    """The worker of one cell died, hung or answered nonsense: stored as failed, the line goes on."""


FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = (*map(os.strerror, FULL), "No usable temporary directory")
"""What a worker, a converter or `tempfile` say of it, whose errors arrive as text."""


@contextmanager
def full_disk_ends(what: str) -> Iterator[None]:
    """Around work that writes files: `DiskFull` instead of whatever a full disk made of it."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not any(_says_full(cause) for cause in _causes(error)):
            raise
        raise DiskFull(f"disk full: {what}: {error}; free space and go on with --resume") from error


def _says_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in FULL or any(words in str(error) for words in FULL_WORDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all it followed from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def unknown(what: str, name: str, known: Iterable[str]) -> InvalidInput:
    """An `InvalidInput` for a name nobody knows, with the nearest right one and the whole list."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidInput(f"unknown {what} {name!r}{hint} (known: {', '.join(names) or 'none'})")
