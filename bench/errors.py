"""The exceptions a user can meet; each knows the exit code of the command it ends."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class PressbenchError(Exception):
    """Base of every expected error: its text is for the user, without a traceback."""

    exit_code: ClassVar[int] = 1


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

    exit_code = 3


class Untrusted(PressbenchError):  # noqa: N818
    """A number was measured but must not be believed: a fallback, throttling, wrong outputs."""

    exit_code = 4


class CellFailed(PressbenchError):  # noqa: N818
    """The worker of one cell died, hung or answered nonsense: stored as failed, the line goes on."""


def unknown(what: str, name: str, known: Iterable[str]) -> InvalidInput:
    """An `InvalidInput` for a name nobody knows, with the nearest right one and the whole list."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidInput(f"unknown {what} {name!r}{hint} (known: {', '.join(names) or 'none'})")
