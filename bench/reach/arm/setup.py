"""`python -m bench.reach.arm.setup [FOLDER]`: makes the emulated ARM board, whole or not at all.

Everything is built in a folder beside the asked one and renamed when it is done and has run.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench.errors import PressbenchError, Unavailable
from bench.reach.arm import fetch
from bench.reach.arm.layout import CPUS, Board, cpuinfo, default_folder, open_board, recipe_digest
from bench.reach.emulated import count_empty

NEED_BYTES = 700 * 2**20
EMULATOR = "usr/bin/qemu-aarch64"


def make_board(folder: Path, say: Callable[[str], None]) -> Board:
    """The board in `folder`; makes it unless it is there and whole.

    Raises `Unavailable` with the reason (no network, no disk, no compiler); then `folder` is as it was.
    """
    try:
        return open_board(folder)[0]
    except Unavailable:
        pass  # so it is made
    fetch.check_host(platform.machine(), folder, NEED_BYTES)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
            made = _build(Board(folder=Path(work) / "board"), Path(work), say)
            _put_in_place(made.folder, folder)
    except OSError as error:
        raise Unavailable(f"the emulated board cannot be written to {folder}: {error}") from error
    return Board(folder=folder)


def _build(board: Board, work: Path, say: Callable[[str], None]) -> Board:
    board.folder.mkdir()
    debs = work / "debs"
    say("fetching Debian packages (amd64 and arm64) and aarch64 wheels")
    with ThreadPoolExecutor(max_workers=2) as pool:
        packages, wheels = pool.submit(fetch.fetch_debian, debs), pool.submit(fetch.fetch_wheels, board.wheels)
        digests, versions = packages.result(), wheels.result()
    say("unpacking")
    fetch.unpack(sorted(debs.glob("*_amd64.deb")), board.folder / "host")
    _keep_one_emulator(board.folder / "host")
    first, *others = CPUS
    fetch.unpack(sorted(debs.glob("*_arm64.deb")), board.sysroot(first))
    for device in others:
        _share(board.sysroot(first), board.sysroot(device))
    for device in CPUS:
        (board.sysroot(device) / "proc").mkdir()
        (board.sysroot(device) / "proc" / "cpuinfo").write_text(cpuinfo(device), encoding="utf-8")
    say("compiling the counting plugin and running the worker once on each CPU")
    fetch.compile_plugin(board.plugin)
    overhead = {device: asdict(count_empty(board, device, work / f"trial-{device}")) for device in CPUS}
    manifest = {"recipe": recipe_digest(), "debian": digests, "wheels": versions, "overhead": overhead}
    board.manifest.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    return board


def _keep_one_emulator(root: Path) -> None:
    """Of forty emulators one is used."""
    for path in (root / EMULATOR).parent.iterdir():
        if path.name != Path(EMULATOR).name:
            path.unlink()
    shutil.rmtree(root / "usr" / "share")


def _share(root: Path, other: Path) -> None:
    """A second root with the same files."""
    other.mkdir()
    for path in root.iterdir():
        (other / path.name).symlink_to(Path("..") / root.name / path.name)


def _put_in_place(made: Path, folder: Path) -> None:
    """One rename; what was there before goes with the work folder."""
    if folder.exists():
        folder.rename(made.with_name("old"))
    made.rename(folder)


def main(arguments: Sequence[str]) -> int:
    """Exit code as of the error that ended it."""
    folder = Path(arguments[0]).expanduser().resolve() if arguments else default_folder(os.environ)

    def say(text: str) -> None:
        sys.stderr.write(f"make arm: {text}\n")

    try:
        board = make_board(folder, say)
    except PressbenchError as error:
        say(f"{error}; nothing was left behind")
        return error.exit_code
    say(f"ready in {board.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
