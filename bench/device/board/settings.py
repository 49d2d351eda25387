"""Sets what a target file asks for (governor, nvpmodel, jetson_clocks) while a worker runs, and restores it afterwards.

The worker starts `python -m bench.device.board.settings`, a guard in a session of its own, and waits until it has set
everything. The guard restores when the worker's end of its input closes: at the worker's end, or when it was killed.
What to restore is written down before it is changed, so that the next guard restores it if this one is killed too.
Commands are lists; no shell reads them. Standard library only, Python 3.10.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from bench.device.board.parent import end_with_parent
from bench.device.job import Settings
from bench.errors import InvalidInput, PressbenchError, Unavailable
from bench.types import Json

COMMAND_S = 60.0
POLICIES = "sys/devices/system/cpu/cpufreq"
FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin")
PID_FILE = "guard"
"""In the worker's folder: the guard's process, which a runner must not kill."""
Undo = dict[str, Json]
"""One change to take back: its `kind`, and what was `before`."""


class Guard:
    """The worker's side: settings that hold until `close`."""

    def __init__(self, process: subprocess.Popen[str] | None, applied: Mapping[str, Json]) -> None:
        self._process, self.applied = process, applied

    def close(self) -> tuple[str, ...]:
        """Has everything restored; returns what could not be."""
        if self._process is None:
            return ()
        try:
            said, _ = self._process.communicate(timeout=COMMAND_S * 3)
        except subprocess.TimeoutExpired:
            return ("settings: the guard does not come to an end; it may not have restored them",)
        return tuple(json.loads(said or '["settings: the guard ended without a word"]'))


def start_guard(root: Path, settings: Settings) -> Guard:
    """Sets what is asked for, in a process that restores it. Raises what `apply` raises; nothing is set then."""
    if settings == Settings():
        return Guard(None, {})
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, json.dumps({"root": str(root), **asdict(settings)})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    Path(PID_FILE).write_text(str(process.pid), encoding="ascii")
    answer = json.loads(process.stdout.readline() or '{"kind": "Unavailable", "message": "the guard did not start"}')
    if "applied" in answer:
        return Guard(process, answer["applied"])
    process.communicate()
    raise (InvalidInput if answer["kind"] == "InvalidInput" else Unavailable)(answer["message"])


def keep(root: Path, settings: Settings) -> None:
    """The guard: restores what an earlier one left, sets, says so, waits for the end of its input and restores."""
    with _open_notes() as notes:
        left = _restore_noted(root, notes)
        reasons: tuple[str, ...] = ()
        try:
            _end_with_owner()
            if left:
                raise Unavailable(f"an earlier run's settings cannot be restored: {'; '.join(left)}")
            _say({"applied": apply(root, settings, lambda undos: _note(notes, undos))})
            sys.stdin.read()
        except PressbenchError as error:
            _say({"kind": type(error).__name__, "message": str(error)})
        except _Asked:
            pass
        finally:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)
            reasons = _restore_noted(root, notes)
    with suppress(OSError):  # the worker is gone
        _say(list(reasons))


def apply(root: Path, settings: Settings, note: Callable[[list[Undo]], None]) -> dict[str, Json]:
    """What was set, from what. `note` gets all that is to be taken back, before each change.

    Raises `InvalidInput` for a value that the device does not know, `Unavailable` with the remedy for what it refuses.
    """
    undos: list[Undo] = []
    found: dict[str, Json] = {}
    for name, value in asdict(settings).items():
        if value is None or value is False or value == "":
            continue
        read, change = STEPS[name]
        undos.append({"kind": name, "before": read(root)})
        note(undos)
        change(root, value)
        found[name] = {"set": value, "before": undos[-1]["before"]}
    return found


def restore(root: Path, undos: list[Undo]) -> tuple[list[Undo], tuple[str, ...]]:
    """Takes changes back, the last first. Returns those that could not be, and why."""
    found = [(undo, _take_back(root, undo)) for undo in reversed(undos)]
    return [undo for undo, reason in reversed(found) if reason], tuple(reason for _, reason in found if reason)


def _take_back(root: Path, undo: Undo) -> str:
    """Why it could not be; "" if it was."""
    try:
        BACK[undo["kind"]](root, undo["before"])
    except (PressbenchError, OSError) as error:
        return f"{undo['kind']} was not restored to {undo['before']}: {error}"
    return ""


def read_governors(root: Path) -> dict[str, str]:
    """Policy -> its governor."""
    files = sorted((root / POLICIES).glob("policy*/scaling_governor"))
    if not files:
        raise Unavailable(f"governor: this device shows none (no /{POLICIES}/policy*): leave the key out")
    return {path.parent.name: path.read_text(encoding="ascii").strip() for path in files}


def set_governor(root: Path, name: str) -> None:
    """The same for all policies."""
    for policy in read_governors(root):
        known = (root / POLICIES / policy / "scaling_available_governors").read_text(encoding="ascii").split()
        if name not in known:
            raise InvalidInput(f"governor: {policy} has no {name!r}; it has {', '.join(known)}")
    set_governors(root, dict.fromkeys(read_governors(root), name))


def set_governors(root: Path, names: Mapping[str, str]) -> None:
    """One for each policy."""
    for policy, name in names.items():
        path = root / POLICIES / policy / "scaling_governor"
        try:
            path.write_text(name, encoding="ascii")
        except OSError as error:
            raise Unavailable(
                f"governor: {error.strerror or error}: run `sudo chmod a+w /{POLICIES}/policy*/scaling_governor` on the "
                "device (it holds until the next boot), or leave the key out"
            ) from error
        if (now := path.read_text(encoding="ascii").strip()) != name:
            raise Unavailable(f"governor: {policy} stayed at {now!r} when {name!r} was written")


def read_nvpmodel(root: Path) -> int:
    """The power mode's number, the last line of `nvpmodel -q`."""
    lines = run(root, "nvpmodel", "-q").split()
    if not lines or not lines[-1].isdigit():
        raise Unavailable(f"nvpmodel: `nvpmodel -q` names no mode: {' '.join(lines)[-200:]!r}")
    return int(lines[-1])


def set_nvpmodel(root: Path, mode: int) -> None:
    """Raises `Unavailable` for a mode that the board takes only when it boots."""
    if read_nvpmodel(root) == mode:
        return
    run(root, "nvpmodel", "-m", str(mode))
    if (now := read_nvpmodel(root)) != mode:
        raise Unavailable(
            f"nvpmodel: the mode stayed {now}: run `sudo nvpmodel -m {mode}` on the device, let it restart, and leave "
            "the key out"
        )


def store_clocks(root: Path) -> str:
    """Where `jetson_clocks` stored how the clocks are now."""
    path = folder() / "jetson_clocks.stored"
    path.unlink(missing_ok=True)  # it does not overwrite
    run(root, "jetson_clocks", "--store", str(path))
    return str(path)


def set_clocks(root: Path, _asked: bool) -> None:
    """All clocks to their highest."""
    run(root, "jetson_clocks")


def restore_clocks(root: Path, path: str) -> None:
    """As they were stored."""
    run(root, "jetson_clocks", "--restore", path)


STEPS: Mapping[str, tuple[Callable[[Path], Json], Callable[[Path, Json], None]]] = {
    "nvpmodel": (read_nvpmodel, set_nvpmodel),
    "governor": (read_governors, set_governor),
    "jetson_clocks": (store_clocks, set_clocks),
}
"""Key of a target -> how its state is read, and how it is set; a power mode first, for it changes the others."""
BACK: Mapping[str, Callable[[Path, Json], None]] = {
    "nvpmodel": set_nvpmodel,
    "governor": set_governors,
    "jetson_clocks": restore_clocks,
}


def run(root: Path, name: str, *arguments: str) -> str:
    """What a command of the device prints; through sudo without a password where this process is not root's.

    Raises `Unavailable` with the remedy where it is missing or refuses.
    """
    command = find_command(root, name)
    if command is None:
        raise Unavailable(f"{name}: this device has no such command: leave the key out")
    before = [] if os.geteuid() == 0 else [str(find_command(root, "sudo") or "sudo"), "-n"]
    try:
        ended = subprocess.run(
            [*before, str(command), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{name}: {error}") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip()[-200:]
        raise Unavailable(
            f"{name}: {said or f'exit code {ended.returncode}'}: allow it on the device with `echo '{getpass.getuser()} "
            f"ALL=(root) NOPASSWD: {command}' | sudo tee /etc/sudoers.d/pressbench-{name.replace('_', '-')}`"
        )
    return ended.stdout


def find_command(root: Path, name: str) -> Path | None:
    """Where a command is."""
    return next((path for part in FOLDERS if os.access(path := root / part / name, os.X_OK)), None)


def folder() -> Path:
    """Where notes of changes are kept, on the device."""
    return Path(os.environ.get("PRESSBENCH_CACHE") or "~/.cache/pressbench").expanduser()


class _Asked(Exception):  # noqa: N818
    """A signal asked the guard to end."""


ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _end_with_owner() -> None:
    """The end of the worker ends the guard's wait, even where a child of the worker still holds the pipe."""

    def ask(_number: int, _frame: object) -> None:
        raise _Asked

    for number in ENDING:
        signal.signal(number, ask)
    end_with_parent(signal.SIGTERM)


@contextmanager
def _open_notes() -> Iterator[IO[str]]:
    """The file of what is to be taken back, locked: one guard at a time on a device."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "settings").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _note(file: IO[str], undos: list[Undo]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(undos) if undos else "")
    file.flush()
    os.fsync(file.fileno())


def _restore_noted(root: Path, notes: IO[str]) -> tuple[str, ...]:
    notes.seek(0)
    text = notes.read()
    left, reasons = restore(root, json.loads(text) if text else [])
    _note(notes, left)
    return reasons


def _say(what: Json) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    keep(Path(asked.pop("root")), Settings(**asked))
