"""The command group, how a command prints and how it exits: the only place that does either."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from bench import __version__
from bench.cli.options import json_option
from bench.errors import PressbenchError, Unavailable

PIPED_WIDTH = 160
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What `kill`, `docker stop`, systemd, a batch queue, and a terminal that is closed send."""
TWICE_S = 5.0
"""So long after one that was heard, another one of them is the same request: `timeout` sends it to the process and to its group."""


class _Ended(KeyboardInterrupt):
    """One of `ENDING` came: it ends a command as Ctrl-C does. `number`: which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pressbench")
def pressbench() -> None:
    """Measure what compressing a neural network really gains on the hardware it ships on."""


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose function returns its answer for `--json`, the text for the terminal, and perhaps an exit code."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @pressbench.command(name)
        @json_option
        @wraps(function)
        def wrapped(*, as_json: bool, **arguments: Any) -> None:
            answer, text, *code = function(**arguments)
            with _printed():
                if as_json:
                    click.echo(json.dumps(answer, default=str))
                elif text is not None:
                    _show(text)
            sys.exit(code[0] if code else 0)

        return wrapped

    return decorate


def _show(text: Any) -> None:
    """A string, or anything rich can draw."""
    if isinstance(text, str):
        click.echo(text)
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, emoji=False).print(text)


def _drop(stream: str) -> None:
    """What `sys.stdout` or `sys.stderr` is printed from now on goes nowhere, and what is left in the old one stays there."""
    setattr(sys, stream, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process


@contextmanager
def _last_words(stream: str = "stderr") -> Iterator[None]:
    """Around the last words of a command. Where `stream` takes no more, as a closed terminal, only the exit code says how it ended."""
    try:
        yield
    except OSError:
        _drop(stream)


def _print_anything() -> None:
    """A sign that the terminal's encoding lacks is printed as `?`, and what is printed to a closed output goes nowhere."""
    if sys.stdout is None:
        _drop("stdout")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def _printed() -> Iterator[None]:
    """Around printing the answer. Raises `Unavailable` where standard output takes no more, as a file on a full disk."""
    try:
        yield
    except BrokenPipeError:  # `| head`: click ends quietly
        raise
    except OSError as error:
        _drop("stdout")
        raise Unavailable(f"standard output: {error.strerror or error}: the answer could not be printed") from error


@contextmanager
def _explained() -> Iterator[None]:
    """Around a command. Raises `Abort` where one that is interrupted could not print on its way out: its terminal was closed.

    Raises `Unavailable` where standard output did not take a text of click, as that of `--help`.
    """
    try:
        yield
    except OSError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise click.Abort from cause
            cause = cause.__context__
        with _printed():
            sys.stdout.flush()  # what could not be printed is left in there
        raise


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Has `ENDING` end the command as Ctrl-C does, but for those that are ignored, as SIGHUP by `nohup`."""
    before = {number: signal.getsignal(number) for number in ENDING}
    changed = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    asked_at: float | None = None
    owner = os.getpid()

    def end(number: int, _frame: object) -> None:
        nonlocal asked_at
        if os.getpid() != owner:  # a child that was forked ends at once, as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now_s = time.monotonic()
        if asked_at is None or now_s - asked_at > TWICE_S:
            asked_at = now_s
            raise _Ended(number)

    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed if asked_at is None else ():  # a process that is ending may be asked once more
            signal.signal(number, signal.SIG_DFL)


def _can_resume(given: list[str]) -> bool:
    """Whether the command that was given has `--resume`."""
    found = pressbench.commands.get(given[0]) if given else None
    return found is not None and any(option.name == "resume" for option in found.params)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0, the code of a `PressbenchError`, 130 on Ctrl-C, 143 on SIGTERM, 129 on SIGHUP."""
    given = sys.argv[1:] if arguments is None else arguments
    _print_anything()
    import_module("backends")  # ours, even where the user's project has a package of that name
    sys.path.insert(0, str(Path.cwd()))  # a user's own package.module:function lies where they stand
    try:
        with _explained(), _ended_by_signals():
            pressbench.main(args=given, standalone_mode=False)
    except PressbenchError as error:
        if "--json" in given:
            with _last_words("stdout"):
                click.echo(json.dumps({"error": str(error), "kind": type(error).__name__}))
        with _last_words():
            click.echo(f"pressbench: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort as aborted:
        number = signal.Signals(getattr(aborted.__cause__, "number", signal.SIGINT))
        by = "" if number == signal.SIGINT else f" by {number.name}"
        further = "; `--resume` goes on where it stopped" if _can_resume(given) else ""
        with _last_words():
            click.echo(f"pressbench: interrupted{by}{further}", err=True)
        sys.exit(128 + number)
    except click.ClickException as error:
        with _last_words():
            error.show()
        sys.exit(error.exit_code)
