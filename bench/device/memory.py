"""Host memory by phases: the kernel's own peak, reset before each phase.

Writing 5 to /proc/self/clear_refs resets VmHWM (proc(5)); `ru_maxrss` is inherited through
exec and so includes the parent's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.records import MemoryPhase


class Memory:
    """Collects phases in order; `reason` says why there are none."""

    def __init__(self, root: Path) -> None:
        self._process = root / "proc/self"
        self.phases: list[MemoryPhase] = []
        self.reason = ""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside counts to the phase `name`."""
        start = self._begin()
        yield
        if start is None:
            return
        now = self._status()
        self.phases.append(MemoryPhase(name=name, start_bytes=start, peak_bytes=now["VmHWM"], end_bytes=now["VmRSS"]))

    def _begin(self) -> int | None:
        if self.reason:
            return None
        try:
            (self._process / "clear_refs").write_text("5", encoding="ascii")
            return self._status()["VmRSS"]
        except (OSError, KeyError, ValueError) as error:
            self.reason = f"the kernel gives no resettable peak: {error}"
            return None

    def _status(self) -> dict[str, int]:
        lines = (self._process / "status").read_text(encoding="ascii", errors="replace").splitlines()
        kilobytes = (line.split() for line in lines if line.startswith(("VmHWM:", "VmRSS:")))
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in kilobytes}
