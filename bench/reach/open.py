"""The reach a target names, opened once for all cells of a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from typing_extensions import Self

from bench.config.target import Target
from bench.errors import unknown
from bench.reach.base import Reach
from bench.reach.local import Local


def _local(_target: Target, _device: str) -> Reach:
    return Local()


def _emulated(_target: Target, device: str) -> Reach:
    from bench.reach.emulated import Emulated

    return Emulated(device)


def _ssh(target: Target, _device: str) -> Reach:
    from bench.reach.ssh.reach import open_ssh

    return open_ssh(target, os.environ)


def _adb(target: Target, _device: str) -> Reach:
    from bench.reach.adb.reach import open_adb

    return open_adb(target, os.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A kind of reach. `elsewhere`: its device is another machine than this host.

    Then looking for runtimes and meters here says nothing, and the host may compress while the device measures.
    An emulated CPU is not elsewhere: it runs on this machine's cores, which compressing would take from it.
    """

    open: Callable[[Target, str], Reach]
    elsewhere: bool = False


REACHES: Mapping[str, Way] = {
    "local": Way(open=_local),
    "emulated": Way(open=_emulated),
    "ssh": Way(open=_ssh, elsewhere=True),
    "adb": Way(open=_adb, elsewhere=True),
}


def check_reach(target: Target) -> None:
    """Raises `InvalidInput` for a kind that does not exist, a board without an address and a phone without a program.

    Opens nothing.
    """
    if target.reach not in REACHES:
        raise unknown("reach", target.reach, REACHES)
    if target.reach == "ssh":
        from bench.reach.ssh.address import find_address

        find_address(target.name, target.host, os.environ)
    if target.reach == "adb":
        from bench.reach.adb.binary import find_abi, find_binary

        find_abi(find_binary(target.name, target.benchmark_model, os.environ))


def open_reach(target: Target, device: str) -> Reach:
    """`device`: the variant of the target a cell runs on. Raises `InvalidInput` for a kind that does not exist and a
    board without an address, and `Unavailable` when the way to the target is not set up."""
    if target.reach != "adb":  # a phone can be cleaned without the program that measures
        check_reach(target)
    return REACHES[target.reach].open(target, device)


class Reaches:
    """The reaches of a command: each is opened when it is first asked for, and all are closed together."""

    def __init__(self, open_one: Callable[[Target, str], Reach] = open_reach) -> None:
        self._open_one = open_one
        self._opened: dict[tuple[str, str], Reach] = {}

    def find(self, target: Target, device: str) -> Reach:
        """Raises as `open_reach`."""
        key = (target.name, device)
        if key not in self._opened:
            self._opened[key] = self._open_one(target, device)
        return self._opened[key]

    def __enter__(self) -> Self:
        """These."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Closes every one."""
        while self._opened:
            self._opened.popitem()[1].close()


def is_elsewhere(target: Target) -> bool:
    """Whether its device is another machine than this host (`Way`)."""
    return REACHES[target.reach].elsewhere
