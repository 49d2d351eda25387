"""A cache that machines share by an fsspec URL. Each keeps a folder of its own, and finds at the URL what others made.

Layout at the URL:

    KIND/NAME.tar     one entry of `bench.cache`, its sidecar among the files
    .parts/           what is being put there; moved to its place when it is whole

What comes from there is not trusted: only plain files below the entry's folder are unpacked, none with native code.
`bench.cache` then checks seal and digests as of any entry.
"""

from __future__ import annotations

import logging
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, final
from urllib.parse import quote, unquote, urlsplit

from bench.errors import InvalidInput, PressbenchError, Unavailable, first_line, full_disk_ends

VARIABLE = "PRESSBENCH_CACHE_URL"
COPIES = "shared"
"""The folder of local copies. Each is named by its URL."""
PARTS = ".parts"
PROBE = b"pressbench"
REST_S = 300.0
"""How long nothing is asked of a URL after trouble: each try may wait for a connection."""
EXAMPLES = "file:///mnt/cache, s3://bucket/cache, gs://bucket/cache or sftp://host/cache"
PIP_NAMES = {"smbclient": "smbprotocol"}
"""Module -> the package that brings it, where their names differ."""
NATIVE = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How programs and libraries of Linux and macOS begin."""
UNREADABLE = (tarfile.TarError, ValueError, EOFError, LookupError, OverflowError)
"""What damaged archives raise."""
LOG = logging.getLogger("pressbench")


def copy_folder(base: Path, url: str) -> Path:
    """The folder that this machine keeps for a URL. Raises `InvalidInput` for what is not a URL, or holds a password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInput(f"{VARIABLE}: {url!r} is not a URL ({error}); as {EXAMPLES}") from None
    if not parts.scheme or "://" not in url:
        raise InvalidInput(f"{VARIABLE}: {url!r} is not a URL; as {EXAMPLES}. PRESSBENCH_CACHE names a folder")
    if parts.password:
        raise InvalidInput(
            f"{VARIABLE}: leave the password out of the URL, which is shown: fsspec reads it from a file of "
            "~/.config/fsspec, or from what the storage's own programs use"
        )
    name = quote(url.rstrip("/"), safe="").replace("_", "%5F").replace("%", "_")
    if len(name) > 255:
        raise InvalidInput(f"{VARIABLE}: the URL is too long to name a folder: {url}")
    return base / COPIES / name


def find_url(cache: Path) -> str:
    """The URL that this folder is a copy of; "" for any other folder."""
    url = unquote(cache.name.replace("_", "%")) if cache.parent.name == COPIES else ""
    return url if "://" in url else ""


def find_shared(cache: Path) -> Shared | None:
    """What the folder is a copy of; None for any other folder."""
    url = find_url(cache)
    return open_shared(url) if url else None


@lru_cache
def open_shared(url: str) -> Shared:
    """One for each URL in a process: it knows when there was trouble."""
    return Shared(url)


@final
class Shared:
    """The entries at a URL. Law: trouble with the URL ends nothing. It is logged, and kept in `trouble` while it rests.

    Raises `Unavailable` where the package for the URL's protocol is missing, and `InvalidInput` for an unknown protocol.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url, self._clock = url, clock
        self._trouble, self._rests_until = "", clock()
        self._there: set[str] = set()
        self._damaged: set[str] = set()

    @property
    def trouble(self) -> str:
        """Why nothing is asked of it now; "" where it is asked."""
        return self._trouble if self._clock() < self._rests_until else ""

    def fetch(self, name: str, into: Path) -> bool:
        """Unpacks the entry KIND/NAME into a folder; False where none is available.

        Raises `DiskFull` where this machine's disk is full.
        """
        self._there.discard(name)
        if not self.trouble:
            with self._asking(f"give {name}"):
                self._fetch(name, into)
        return name in self._there

    def _fetch(self, name: str, into: Path) -> None:
        files, root = open_url(self.url)
        try:
            with full_disk_ends(f"the local copy of {self.url}"), files.open(f"{root}/{name}.tar", "rb") as stream:
                unpack(stream, into)
        except FileNotFoundError:
            return
        except UNREADABLE as error:
            self.say_damaged(name, first_line(error))
        else:
            self._there.add(name)

    def say_damaged(self, name: str, why: str) -> None:
        """What was fetched is not the entry: `put` takes its place."""
        self._there.discard(name)
        self._damaged.add(name)
        LOG.warning("%s at the shared cache %s is damaged (%s): it is made again", name, self.url, why)

    def put(self, name: str, folder: Path) -> str:
        """Puts the entry there, unless one that is not known to be damaged is there. Why it is not there then; "" if it is."""
        if name in self._there:
            return ""
        if self.trouble:
            return self.trouble
        if found := find_native(folder):
            return f"{name} holds native code ({found}), which a shared cache neither takes nor gives"
        with self._asking(f"take {name}"):
            files, root = open_url(self.url)
            files.invalidate_cache()
            if name in self._damaged or not files.exists(f"{root}/{name}.tar"):
                _upload(files, root, name, folder)
            self._there.add(name)
            self._damaged.discard(name)
        return self.trouble

    def check(self) -> None:
        """Writes and reads a small file."""
        with self._asking("be written and read"), self.probe() as name:
            if not self.sees(name):
                raise OSError("what was written is not there")

    @contextmanager
    def probe(self) -> Iterator[str]:
        """A small file that is there meanwhile, by its name. Raises whatever the storage raises."""
        files, root = open_url(self.url)
        name = f"{PARTS}/{uuid.uuid4().hex}"
        in_folder(files, f"{root}/{name}", lambda: files.pipe_file(f"{root}/{name}", PROBE))
        try:
            yield name
        finally:
            files.rm(f"{root}/{name}")

    def sees(self, name: str) -> bool:
        """Whether this machine reads the probe of another. Raises whatever the storage raises."""
        files, root = open_url(self.url)
        return bool(files.cat_file(f"{root}/{name}") == PROBE)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except PressbenchError:
            raise
        except Exception as error:  # noqa: BLE001 - storages have errors of all kinds
            self._trouble = f"the shared cache {self.url} cannot {what}: {type(error).__name__}: {first_line(error)}"
            self._rests_until = self._clock() + REST_S
            LOG.warning("%s; for %d minutes only the local cache is used", self._trouble, REST_S // 60)


def open_url(url: str) -> tuple[Any, str]:
    """Fsspec's file system, which it keeps open, and the path in it. Raises as `Shared`, and whatever connecting raises."""
    try:
        core: Any = import_module("fsspec.core")  # only for those who name a URL
    except ImportError as error:
        raise Unavailable(f"{VARIABLE}: fsspec cannot be imported ({error}): pip install fsspec") from error
    protocol = url.partition("://")[0]
    try:
        core.get_filesystem_class(protocol)
    except ImportError as error:
        lacks = getattr(error.__cause__, "name", None) or protocol
        remedy = f"pip install {PIP_NAMES.get(lacks, lacks)}"
        raise Unavailable(f"{VARIABLE} {url}: {first_line(error)}: {remedy}") from error
    except ValueError as error:
        raise InvalidInput(f"{VARIABLE} {url}: {first_line(error)}; as {EXAMPLES}") from None
    files, root = core.url_to_fs(url)
    return files, str(root).rstrip("/")


def in_folder(files: Any, path: str, write: Callable[[], object]) -> None:
    """Writes a file, whose folder is made if it is missing. The folder above is not: it may be a share that is not mounted."""
    try:
        write()
    except FileNotFoundError:
        with suppress(FileExistsError):
            files.mkdir(path.rpartition("/")[0], create_parents=False)
        write()


def _upload(files: Any, root: str, name: str, folder: Path) -> None:
    part, place = f"{root}/{PARTS}/{uuid.uuid4().hex}", f"{root}/{name}.tar"
    try:
        in_folder(files, part, lambda: pack(folder, files.open(part, "wb")))
        in_folder(files, place, lambda: files.mv(part, place))
    except BaseException:
        with suppress(Exception):  # what ended the upload is raised
            files.rm(part)
        raise


def pack(folder: Path, stream: Any) -> None:
    """Writes the files of a folder to the stream, and closes it."""
    with stream, tarfile.open(fileobj=stream, mode="w|", dereference=True) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed.add(path, path.relative_to(folder).as_posix(), filter=_forget_owner)


def _forget_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(uid=0, gid=0, uname="", gname="", mtime=0, deep=False)


def unpack(stream: Any, into: Path) -> None:
    """Writes what `pack` packed. Raises one of `UNREADABLE` for anything else."""
    with tarfile.open(fileobj=stream, mode="r|") as packed:
        for member in packed:
            if member.type != tarfile.REGTYPE or member.sparse:
                raise tarfile.ExtractError(f"{member.name} is not a plain file")
            packed.extract(member, into, filter="data")
    if found := find_native(into):
        raise tarfile.ExtractError(f"{found} is native code")


def find_native(folder: Path) -> str:
    """A file that is a program or a library; "" if there is none."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            if stream.read(4) in NATIVE:
                return path.relative_to(folder).as_posix()
    return ""
