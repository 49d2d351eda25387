"""Temporary files of a command that measures: all in one folder, which the next command removes if this one is killed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.errors import full_disk_ends
from bench.owner import remove_abandoned, temporary_folder

PREFIX = "pressbench-"


@contextmanager
def owned_temporary_files() -> Iterator[Path]:
    """A folder for everything that this process, its backends and their libraries make with `tempfile`.

    First removes the folders of processes that were killed. Raises `DiskFull` if there is no usable temporary
    directory. Sets `tempfile.tempdir` for as long as it lasts.
    """
    with ExitStack() as stack:
        with full_disk_ends("temporary files"):
            remove_abandoned(PREFIX)
            folder = stack.enter_context(temporary_folder(f"{PREFIX}run-"))
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before
