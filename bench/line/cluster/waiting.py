"""How long a task of a cluster is waited for: as long as there are workers."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, final

LOOK_S = 2.0
"""How often the scheduler is asked whether it has workers, while something is waited for."""
WITHOUT_WORKERS_S = 20.0
"""After so long without any worker this host makes what is waited for. Workers that come back make the rest."""


@final
class Waiting:
    """Watches whether a cluster has workers, from now on."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._looked_at = self._had_workers_at = time.monotonic()

    def is_over(self, task: Any) -> bool:
        """Whether the task has ended, or no worker would do it."""
        return bool(task.done()) or self._lacks_workers()

    def wait(self, task: Any) -> str:
        """Waits until it is over. Why there is no result; "" if the task has ended well."""
        while not self.is_over(task):
            with suppress(Exception):  # also that of a task which has just failed
                task.result(timeout=LOOK_S)
        if not task.done():
            return f"no worker for {WITHOUT_WORKERS_S:g} s"
        try:
            task.result()
        except Exception as error:  # noqa: BLE001 - whatever became of a worker, this host does what is left
            return f"{type(error).__name__}: {error}"
        return ""

    def _lacks_workers(self) -> bool:
        """Asks the scheduler, now and then. One that does not answer has none."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_S:
            self._looked_at = now
            with suppress(Exception):  # a lost scheduler: of whatever kind its error is
                if self._client.scheduler_info()["workers"]:
                    self._had_workers_at = time.monotonic()
        return self._looked_at - self._had_workers_at > WITHOUT_WORKERS_S
