"""A user's pre- and post-processing around an inference, timed on the device: what their share of the end-to-end time is.

Standard library and numpy; whatever else their functions import must be installed on the device.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.device.session import Array, Feed, Session
from bench.device.timing import RunQueue, collect
from bench.errors import InvalidInput
from bench.records import EndToEnd

WARM_UP, LEAST_ROUNDS = 5, 20
CHECK_S = 60.0
Before = Callable[[Feed], Feed]
After = Callable[["tuple[Array, ...]"], object]


def check_functions(paths: Sequence[str]) -> None:
    """Imports functions in a process of its own, which changes neither memory nor start of this one.

    Raises `InvalidInput` with what an import says.
    """
    asked = [path for path in paths if path]
    if not asked:
        return
    command = [sys.executable, "-m", "bench.device.processing", *asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_S, check=False, errors="replace")
    except subprocess.TimeoutExpired:
        raise InvalidInput(f"{', '.join(asked)}: the import does not end within {CHECK_S:.0f} s") from None
    if done.returncode:
        raise InvalidInput(done.stdout.strip() or f"{', '.join(asked)}: {done.stderr.strip()[-300:]}")


def load_function(path: str) -> Callable[..., object]:
    """The function `package.module:name`. Raises `InvalidInput` where the device cannot import it."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise InvalidInput(
            f"{path} cannot be imported on the device: {error}. It brings only Python's standard library and numpy: "
            "install the package there, or do without it"
        ) from error
    except Exception as error:
        raise InvalidInput(f"{path} cannot be imported on the device: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InvalidInput(f"{path}: the module {module} has no function {name!r}")
    function: Callable[..., object] = found
    return function


def time_end_to_end(
    session: Session, feed: Feed, paths: tuple[str, str], seconds: float, most: int, queue: RunQueue
) -> EndToEnd:
    """Rounds of pre-processing, inference and post-processing for about `seconds`, `most` at most.

    `paths`: of both functions, "" for none. The first gets one batch by input name, which it must not change, and
    returns what the network takes; the second gets the outputs in the model's order. Raises `InvalidInput` for what
    they raise, and for a feed that the network does not take.
    """
    steps = _make_steps(session, _read_only(feed), *paths)
    warm = collect(steps, WARM_UP, queue)
    round_s = max(1e-7, float(warm.elapsed_ns[1:].sum()) / 1e9 / (WARM_UP - 1))
    rounds = max(LEAST_ROUNDS, min(most, int(seconds / round_s)))
    timed = collect(steps, rounds, queue)
    before, infer, after = (tuple(column.tolist()) for column in timed.elapsed_ns.T)
    return EndToEnd(
        before_ns=before, infer_ns=infer, after_ns=after, waits_ns=tuple(timed.waits_ns.sum(axis=1).tolist())
    )


def _make_steps(session: Session, feed: Feed, before: str, after: str) -> list[Callable[[], object]]:
    make: Before = load_function(before) if before else dict  # type: ignore[assignment]
    finish: After = load_function(after) if after else tuple
    made: dict[str, Feed] = {}
    outputs: list[tuple[Array, ...]] = [()]

    def first() -> None:
        with _naming(before):
            made["feed"] = make(feed)

    def infer() -> None:
        outputs[0] = session.run(made["feed"])

    def last() -> None:
        with _naming(after):
            finish(outputs[0])

    return [first, infer, last]


def _read_only(feed: Feed) -> Feed:
    """A change in place would be fed again: it is refused by numpy instead."""
    views = {name: np.asarray(array).view() for name, array in feed.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise InvalidInput(f"{path} raised {type(error).__name__}: {error} ({place})") from error


def main(paths: Sequence[str]) -> int:
    """Exit code 1, with the reason on standard output, for a function that cannot be imported."""
    try:
        for path in paths:
            load_function(path)
    except InvalidInput as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
