"""The errors a user can meet. Each has the exit code of the command that it ends."""

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
    """3: nothing was measured. Kinds of errors with another meaning have another code; 1 is only for regressions."""


class Regression(PressbenchError):  # noqa: N818 - the name is the verdict
    """The verdict that something got slower, larger or worse."""

    exit_code = 1


class InvalidInput(PressbenchError):  # noqa: N818
    """What the user gave cannot be used. The text names the file, the key and what is allowed."""

    exit_code = 2


class Damaged(InvalidInput):
    """A row of a store cannot be read. Its other rows can."""


class OtherNetwork(InvalidInput):
    """What a search is to be continued with is not what it was begun with: its trials do not compare with it on any backend."""


class Unsupported(InvalidInput):
    """A combination that cannot exist, such as a recipe that the backend cannot carry out. Stored as a skipped cell."""


class Unavailable(PressbenchError):  # noqa: N818
    """Something is missing on this machine: a runtime, a device, a meter, a place to write. The text says how to get it."""


class DatabaseAway(Unavailable):
    """A database that was there does not answer, or ended the connection: it may be back in a moment."""


class BoardBusy(Unavailable):
    """Another process uses the board: it is free when that ends."""


class DiskFull(Unavailable):
    """No space is left where something must be written. Ends the run: every later cell would fail too."""


class Untrusted(PressbenchError):  # noqa: N818
    """A number was measured and must not be believed: a fallback, throttling, wrong outputs."""

    exit_code = 4


class CellFailed(PressbenchError):  # noqa: N818
    """The worker of one cell died, hung or answered nonsense. Stored as a failed cell; the run continues."""


class BoardLost(CellFailed):
    """The board does not answer any more: off, restarting, or away from the network. `--resume` tries its cells again."""


class LeaseLost(PressbenchError):  # noqa: N818
    """A board of a fleet was given to another holder meanwhile: what was measured on it is not stored."""


FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = (*map(os.strerror, FULL), "No usable temporary directory")
"""How a worker, a converter or `tempfile` report a full disk in text."""


@contextmanager
def full_disk_ends(what: str) -> Iterator[None]:
    """Around work that writes files: turns any error that a full disk caused into `DiskFull`."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not any(_says_full(cause) for cause in _causes(error)):
            raise
        raise DiskFull(f"disk full: {what}: {error}; free space, then run it again (a run: with --resume)") from error


def _says_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in FULL or any(words in str(error) for words in FULL_WORDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all its causes."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_cause(error: BaseException) -> str:
    """As `first_line`, of the error that was there first: a library that wraps it may say only which step failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def unknown(what: str, name: str, known: Iterable[str]) -> InvalidInput:
    """An `InvalidInput` for a name that is not in `known`; says the nearest one and lists all."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidInput(f"unknown {what} {name!r}{hint} (known: {', '.join(names) or 'none'})")
