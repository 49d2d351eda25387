"""The connection to a board: opened when it is needed, opened again when it is lost; all of asyncssh is here."""

from __future__ import annotations

import asyncio
import json
import shlex
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.device.board.agent import answers
from bench.device.board.agent.answers import MARK
from bench.errors import CellFailed, Unavailable
from bench.reach.ssh.address import Address
from bench.reach.ssh.explain import (
    LOST,
    REFUSED,
    explain_connect,
    explain_refusal,
    explain_silence,
    lost_board,
)
from bench.reach.travel import digest, pack_program
from bench.types import Json

try:
    import asyncssh
except ImportError as error:
    raise Unavailable(f"asyncssh cannot be imported: {error}; pip install 'pressbench[ssh]'") from error

CONNECT_S = 10.0
SILENCE_S = 30.0
"""Longest wait for an answer of the agent, and for one piece of a file to be taken."""
KEEPALIVE_S, KEEPALIVES = 2, 3
"""A frozen connection is given up after about their product."""
PATIENCE_S = 60.0
GONE_S = 5.0
"""How long a board is tried that was given up before."""
PROGRESS_S = 20.0
"""A try that lasted so long was of use, as one that connected: patience begins again."""
MOST_TRIES = 100
WAKE_S = 0.5
KNOWN_HOSTS = Path("~/.ssh/known_hosts")
PIECE = 1 << 18
SIGNALLED = 128
AGENT_MODULE = "bench.device.board.agent.main"
AGENT = pack_program(AGENT_MODULE)
LAUNCHER = (
    "import os,sys;f=os.path.join(os.path.expanduser(sys.argv[1]),'agent',sys.argv[2]+'.zip');"
    "v=sys.version_info>=(3,10);h=v and os.path.isfile(f);"
    "sys.stdout.write('' if h else chr(30)+'pressbench '+('{\"need\":\"agent\"}' if v else "
    '\'{"old":"%d.%d"}\'%sys.version_info[:2])+chr(10));'
    f"h and (sys.path.insert(0,f),__import__('{AGENT_MODULE}',fromlist=['main']).main(sys.argv[1:]))"
)
INSTALLER = Path(answers.__file__).read_text(encoding="utf-8")
Found = TypeVar("Found")
Body = Callable[[], AsyncIterator[bytes]]
"""Gives the bytes that follow a request, from the beginning each time it is called."""

NO_PIECES: tuple[bytes, ...] = ()


async def nothing() -> AsyncIterator[bytes]:
    """No bytes."""
    for piece in NO_PIECES:
        yield piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A board and how to work on it. `python`, `folder`: on the board. `config`: an ssh configuration file instead of
    the user's."""

    address: Address
    python: str
    folder: str
    config: Path | None = None


class Lost(Exception):  # noqa: N818 - it is not an error: the link is opened again
    """The connection ended or froze before the answer was there."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """The agent's answer, and the channel it came by, for the bytes that follow."""

    values: dict[str, Json]
    process: Any
    rest: bytes = b""
    closed: bool = field(default=False)

    async def chunks(self, silence_s: float | None = SILENCE_S) -> AsyncIterator[bytes]:
        """What follows the answer, until the program ends. Raises `Lost`."""
        if self.rest:
            yield self.rest
        while chunk := await _within(self.process.stdout.read(1 << 16), silence_s):
            yield chunk

    async def was_killed(self) -> bool:
        """Whether a signal ended the program there, which then may not have said all. Raises `Lost`."""
        await _within(self.process.wait_closed(), SILENCE_S)
        return has_been_killed(self.process.exit_status)


class Link:
    """Requests to the agent of one board, from a thread of its own. Law: a request is asked again after a lost
    connection, until `PATIENCE_S` have passed without one; every request may be asked twice."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.connections = 0
        """How often it connected."""
        self._connection: asyncssh.SSHClientConnection | None = None
        self._gone = False
        self._lock: asyncio.Lock | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pressbench-ssh", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, Found]) -> Found:
        """Runs a coroutine on the link's thread and waits for it; Ctrl-C here cancels it there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], WAKE_S).done:  # a thread is interrupted only between two waits
                continue
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Ends the connection and the thread."""
        if self._loop.is_running():
            with suppress(Exception):
                self.wait(asyncio.wait_for(self._drop(), 3))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=3)

    async def persist(self, attempt: Callable[[], Awaitable[Found]], patience_s: float | None = None) -> Found:
        """The attempt's result, tried again while the link is lost. Raises `BoardLost` when patience ends.

        The first connection gets one try: a wrong address is said at once. A board that was given up gets a few seconds.
        """
        clock = asyncio.get_running_loop().time
        patience = patience_s or (GONE_S if self._gone else PATIENCE_S)
        end, pause = clock() + patience, 0.1
        for left in range(MOST_TRIES, -1, -1):
            connected, began = self.connections, clock()
            try:
                found = await attempt()
            except (Lost, *LOST) as error:
                await self._drop()
                if not self.connections:
                    raise explain_connect(error, self.where.address, self.where.config) from error
                if self.connections > connected or clock() - began > PROGRESS_S:
                    end, pause = clock() + patience, 0.1
                if clock() > end or not left:
                    self._gone = True
                    raise lost_board(self.where.address, error, patience) from error
            else:
                self._gone = False
                return found
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)
        raise AssertionError("the last try returns or raises")

    async def ask(self, request: dict[str, Json], body: Body | None = nothing) -> Answer:
        """The agent's answer. `body`: what follows the request; None: its input stays open. Raises `Lost`, and what the
        board refuses."""
        answer = await self._start(LAUNCHER, digest(AGENT), json.dumps(request).encode() + b"\n", body)
        if answer.values.get("need") == "agent":
            installed = await self._start(INSTALLER, "", AGENT, nothing)
            self._check(installed)
            answer = await self._start(LAUNCHER, digest(AGENT), json.dumps(request).encode() + b"\n", body)
        self._check(answer)
        return answer

    async def tell(self, request: dict[str, Json], body: Body | None = nothing) -> dict[str, Json]:
        """`ask` for an answer without bytes."""
        answer = await self.ask(request, body)
        answer.process.close()
        return answer.values

    def _check(self, answer: Answer) -> None:
        if "refused" in answer.values or "old" in answer.values or "need" in answer.values:
            answer.process.close()
            raise explain_refusal(answer.values, self.where.address, self.where.python, self.where.folder)

    async def _start(self, program: str, argument: str, head: bytes, body: Body | None) -> Answer:
        """Starts python on the board with the program, sends the request, and waits for the line of the answer."""
        where = self.where
        command = shlex.join([where.python, "-I", "-S", "-c", program, where.folder, *([argument] if argument else [])])
        connection = await self._connected()
        try:
            process = await asyncio.wait_for(connection.create_process(command, encoding=None), SILENCE_S)
            process.stdin.write(head)
            sending = asyncio.ensure_future(_send(process, body) if body else asyncio.sleep(0))
            sending.add_done_callback(hear_error)
            try:
                values, rest = await self._answer(process)
                await sending
            finally:
                sending.cancel()
        except (asyncio.TimeoutError, BrokenPipeError, ConnectionError, asyncssh.Error) as error:
            raise Lost(str(error) or "no answer in time") from error
        return Answer(values=values, process=process, rest=rest)

    async def _answer(self, process: Any) -> tuple[dict[str, Json], bytes]:
        """What follows MARK; what came before it is login scripts' talk."""
        seen = b""
        while True:
            chunk = await _within(process.stdout.read(1 << 16), SILENCE_S)
            seen += chunk
            at = seen.find(MARK)
            line, newline, rest = seen[at + len(MARK) :].partition(b"\n") if at >= 0 else (b"", b"", b"")
            if newline:
                return _parse(line), rest
            if not chunk:
                errors = await _within(process.stderr.read(4096), SILENCE_S)
                await asyncio.wait_for(process.wait_closed(), SILENCE_S)
                if has_been_killed(process.exit_status):
                    raise Lost("the program there was killed before it answered")
                raise explain_silence(seen, errors, process.exit_status, self.where.address, self.where.python)
            if len(seen) > 1 << 20 and at < 0:
                raise CellFailed(f"{self.where.address} printed a megabyte that is not ours before it answered")

    async def _connected(self) -> asyncssh.SSHClientConnection:
        """The open connection, or a new one."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect()
                self.connections += 1
            return self._connection

    async def _connect(self) -> asyncssh.SSHClientConnection:
        where, address = self.where, self.where.address
        given: dict[str, Any] = {"username": address.user} if address.user else {}
        given |= {"port": address.port} if address.port else {}
        given |= {"config": [str(where.config)]} if where.config else {}
        given |= {"keepalive_interval": KEEPALIVE_S, "keepalive_count_max": KEEPALIVES}
        given |= {"connect_timeout": CONNECT_S, "login_timeout": CONNECT_S}
        given |= {"compression_algs": ("zlib@openssh.com", "none")}  # requests are alike: they shrink to a third
        options = None
        try:
            options = await asyncssh.SSHClientConnectionOptions.construct(host=address.host, **given)
            if options.known_hosts is None:  # `UserKnownHostsFile none` would switch the check off
                given["known_hosts"] = b""  # asyncssh then takes ~/.ssh/known_hosts
            return await asyncio.wait_for(asyncssh.connect(address.host, **given), 2 * CONNECT_S)
        except REFUSED as error:
            raise explain_connect(error, address, where.config, known=_has_key(options)) from error
        except LOST:
            raise
        except (asyncssh.Error, ValueError) as error:
            raise explain_connect(error, address, where.config) from error

    async def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


def _has_key(options: Any) -> bool:
    """Whether some host key of this address is known."""
    known = options.known_hosts or str(KNOWN_HOSTS.expanduser())
    try:
        keys, *_ = asyncssh.match_known_hosts(known, options.host, "", options.port)
    except (OSError, ValueError):
        return False
    return bool(keys)


def hear_error(ended: asyncio.Future[None]) -> None:
    """Takes the error of a task that nothing awaits when the link is lost: asyncio would print it."""
    if not ended.cancelled():
        ended.exception()


async def _send(process: Any, body: Body) -> None:
    """The body, no faster than the board takes it."""
    async for piece in body():
        process.stdin.write(piece)
        await asyncio.wait_for(process.stdin.drain(), SILENCE_S)
    process.stdin.write_eof()


def has_been_killed(code: int | None) -> bool:
    """Whether an exit code means a signal: asyncssh says -1 or nothing, a shell between says 128 and the signal."""
    return code is None or code < 0 or code > SIGNALLED


async def _within(read: Awaitable[Found], seconds: float | None) -> Found:
    try:
        return await asyncio.wait_for(read, seconds)
    except (asyncio.TimeoutError, ConnectionError, asyncssh.Error) as error:
        raise Lost(str(error) or "no answer in time") from error


def _parse(line: bytes) -> dict[str, Json]:
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CellFailed(f"the board's agent printed garbage: {line[:120]!r}")
    return values
