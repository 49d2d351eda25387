"""What is done on a board, in the agent's requests: files sent, a job started, followed to its end and removed."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import BoardLost, CellFailed, PressbenchError, Unavailable
from bench.owner import this_process
from bench.reach.ssh.explain import check_numpy
from bench.reach.ssh.link import PIECE, Answer, Link, Lost, hear_error
from bench.types import Json

HEARTBEAT_S = 5.0
SPARE_BYTES = 64 << 20
"""Left free on the board beside what is sent."""
LATE_S = 3.0
"""How long after a job's limit its end must have come: the runner on the board kills a worker at the limit."""
START_S = 120.0
"""How long a job may take to start, beside its own limit."""
FORGET_S = 3.0
AT_LEAST_S = 2.0
"""How long an answer is read, however late it is."""
OUTPUT_LIMIT = 256 << 20
"""Bytes of events that a worker may print."""
Found = TypeVar("Found")
RUNNER = b'{"runner": '


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A file to be on the board: by its content."""

    digest: str
    size: int
    path: Path | None = None
    content: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a job ended. `lines`: the worker's. `code`: its exit code; None if it was killed, `why`: for what."""

    lines: tuple[bytes, ...]
    code: int | None
    why: str
    stderr: str
    outputs: Mapping[str, Json] | None


@dataclass(slots=True, kw_only=True)
class _Followed:
    """What has come of a job's events. `taken`: bytes of whole lines; after a lost link it goes on there."""

    deadline: float
    boot: str = ""
    taken: int = 0
    rest: bytes = b""
    lines: list[bytes] = field(default_factory=list)
    end: dict[str, Json] | None = None

    def feed(self, chunk: bytes) -> None:
        """Takes bytes in the order in which they lie in the file."""
        whole, newline, self.rest = (self.rest + chunk).rpartition(b"\n")
        if not newline:
            return
        self.taken += len(whole) + 1
        for line in whole.split(b"\n"):
            if line.startswith(RUNNER):
                self.end = _read_end(line)
            elif line.strip():
                self.lines.append(line)
        if self.taken > OUTPUT_LIMIT:
            raise CellFailed(f"the worker was killed: it printed more than {OUTPUT_LIMIT >> 20} MiB")


class Board:
    """One board and the link to it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._hello: dict[str, Any] | None = None
        self._holder: Any = None
        self._owner = _owner_text()
        self._ended: list[str] = []

    @property
    def address(self) -> str:
        """As the user gave it."""
        return str(self.link.where.address)

    def hello(self) -> dict[str, Any]:
        """What the board says of itself, asked once. `offset_s`: its clock less this one,
        less the time that the answer took. Raises `Unavailable`."""
        if self._hello is None:
            found = self._tell("hello")
            found["offset_s"] = found["clock"] - time.time()
            self._hello = found
        return self._hello

    def check(self) -> dict[str, Any]:
        """`hello`, of a board that can run a worker. Raises `Unavailable` with the remedy."""
        found = self.hello()
        check_numpy(found, self.link.where.address, self.link.where.python)
        return found

    def hold(self) -> None:
        """Takes the board for this process until `close`. Raises `Unavailable` while another process uses it."""
        self._persist(self._hold)

    def run(self, job: str, files: Mapping[str, Sent], code: Sent, what: Mapping[str, str], limit_s: float) -> Finished:
        """Runs a job to its end. `files`: by their path in the job's folder. `what`: text of job.json and start.json.

        Raises `Unavailable` while another user has the board or it has no space, `CellFailed` if the job's end is not
        there in time, `BoardLost` if the board went away or restarted.
        """
        wanted = {sent.digest: sent for sent in (code, *files.values())}
        followed = _Followed(deadline=time.monotonic() + limit_s + START_S)
        request = {
            "do": "start",
            "job": job,
            "code": code.digest,
            "files": {key: sent.size for key, sent in wanted.items()},
            "links": {path: sent.digest for path, sent in files.items()},
            "forget": list(self._ended),
            "offset": 0,
            **what,
        }
        while missing := self._persist(lambda: self._start(request, followed, limit_s)):
            self._send(missing, wanted)
        self._ended.clear()
        while followed.end is None:
            late = time.monotonic() > followed.deadline
            self._persist(lambda: self._follow(job, followed))  # late too: it may have ended while the link was lost
            if late and followed.end is None:
                raise CellFailed(f"the worker was killed: no end after {limit_s:.0f} s")
        end = followed.end
        return Finished(
            lines=tuple(followed.lines), code=end["code"], why=end["why"], stderr=end["stderr"], outputs=end["outputs"]
        )

    def _send(self, missing: dict[str, Any], wanted: Mapping[str, Sent]) -> None:
        """Sends what the board lacks. Raises `Unavailable` without space for it."""
        need = sum(wanted[key].size - have for key, have in missing["missing"].items()) + SPARE_BYTES
        if missing["free"] < need:
            raise Unavailable(
                f"{self.address}: {self.link.where.folder} has {missing['free'] >> 20} MiB free, {need >> 20} MiB are "
                "needed: free space there (`pressbench targets clean NAME` removes what earlier runs sent)"
            )
        for key in missing["missing"]:
            self._persist(partial(self._put, wanted[key]))

    def fetch(self, job: str, size: int, into: Path) -> None:
        """The job's outputs, on from where a lost link broke off."""
        into.unlink(missing_ok=True)
        into.touch()
        while (have := into.stat().st_size) < size:
            self._persist(lambda: self._get(job, into))
            if into.stat().st_size == have:
                raise CellFailed(f"{self.address}: the outputs there are shorter than the runner said")

    def forget(self, job: str, *, now: bool = False) -> None:
        """Ends a job and removes what it left: now, or with the next request, so that nothing disturbs the next job."""
        self._ended.append(job)
        if now:
            self._forget_all()

    def _forget_all(self) -> None:
        """A board that is gone is not waited for: the next job there begins with what is left to be ended."""
        if self._ended:
            request = {"do": "forget", "jobs": list(self._ended)}
            with suppress(PressbenchError, Lost):
                self.link.wait(self.link.persist(lambda: self.link.tell(request), patience_s=FORGET_S))
                self._ended.clear()

    def clean(self) -> dict[str, Any]:
        """Removes everything of ours from the board."""
        self._drop_holder()
        return self._tell("clean", owner=self._owner)

    def close(self) -> None:
        """Lets go of the board and of the link."""
        self._forget_all()
        self._drop_holder()
        self.link.close()

    def _tell(self, what: str, **values: Json) -> dict[str, Any]:
        return self._persist(lambda: self.link.tell({"do": what, **values}))

    def _persist(self, attempt: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
        return self.link.wait(self.link.persist(attempt))

    async def _put(self, sent: Sent) -> None:
        """Sends a file on from what is there; with another content it begins again once."""
        for _ in range(2):
            found = await self.link.tell({"do": "missing", "files": {sent.digest: sent.size}})
            if sent.digest not in found["missing"]:
                return
            offset = int(found["missing"][sent.digest])
            request = {"do": "put", "hash": sent.digest, "size": sent.size, "offset": offset}
            try:
                await self.link.tell(request, partial(_pieces, sent, offset))
            except CellFailed:
                if not offset:
                    raise
            else:
                return

    async def _start(self, request: dict[str, Json], followed: _Followed, limit_s: float) -> dict[str, Any] | None:
        """Starts the job and takes its events; or what is missing before it can start."""
        await self._hold()
        answer = await self.link.ask(request)
        if "missing" in answer.values:
            answer.process.close()
            return answer.values
        followed.boot = str(answer.values["boot"])
        followed.deadline = time.monotonic() + limit_s + LATE_S
        await self._take(answer, followed)
        return None

    async def _follow(self, job: str, followed: _Followed) -> None:
        """Takes up the events where a lost link left off."""
        await self._hold()
        answer = await self.link.ask({"do": "follow", "job": job, "offset": followed.taken})
        await self._take(answer, followed)

    async def _take(self, answer: Answer, followed: _Followed) -> None:
        """Takes what comes until the job ends, the deadline passes or the link is lost."""
        followed.rest = b""
        if answer.values["boot"] != followed.boot:
            self._hello = None
            raise BoardLost(f"{self.address} restarted while it measured: run with --resume")
        try:
            async with asyncio.timeout(max(AT_LEAST_S, followed.deadline - time.monotonic())):
                async for chunk in answer.chunks(silence_s=None):
                    followed.feed(chunk)
                    if followed.end is not None:
                        return
            if await answer.was_killed():
                return
        except (TimeoutError, Lost):
            return
        finally:
            answer.process.close()
        if not answer.values["running"]:
            raise CellFailed(
                f"{self.address}: the runner ended without a word: it was killed, or the disk there is full"
            )
        await asyncio.sleep(0.1)

    async def _get(self, job: str, into: Path) -> None:
        have = into.stat().st_size  # noqa: ASYNC240 - of a file of this process, on this link's own loop
        answer = await self.link.ask({"do": "get", "job": job, "offset": have})
        with into.open("ab") as file:
            async for chunk in answer.chunks():
                file.write(chunk)
        answer.process.close()

    async def _hold(self) -> None:
        if self._holder is not None and not self._holder.done():
            return
        answer = await self.link.ask({"do": "hold", "owner": self._owner}, None)
        self._holder = asyncio.ensure_future(_beat(answer.process))
        self._holder.add_done_callback(hear_error)

    def _drop_holder(self) -> None:
        if self._holder is not None:
            self._holder.get_loop().call_soon_threadsafe(self._holder.cancel)
            self._holder = None


def _read_end(line: bytes) -> dict[str, Json]:
    """The runner's own line. A device is not trusted."""
    try:
        match json.loads(line)["runner"]:
            case {"code": int() | None, "why": str(), "stderr": str(), "outputs": outputs} as end if (
                outputs is None or (isinstance(outputs.get("size"), int) and isinstance(outputs.get("sha256"), str))
            ):
                return dict(end)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise CellFailed(f"the runner printed garbage: {line[:120]!r}")


async def _beat(process: Any) -> None:
    """Says now and then that this process is there, until the link ends."""
    try:
        while not process.stdout.at_eof():
            process.stdin.write(b".")
            await process.stdin.drain()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait_closed(), HEARTBEAT_S)
                return
    finally:
        process.close()


async def _pieces(sent: Sent, offset: int) -> AsyncIterator[bytes]:
    if sent.path is None:
        yield sent.content[offset:]
        return
    with sent.path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(PIECE):
            yield piece


def _owner_text() -> str:
    owner = this_process()
    return f"process {owner.pid} of {owner.host} (since {owner.started:.0f})"


def new_job() -> str:
    """A name that no other job has."""
    return uuid.uuid4().hex
