"""Fleet TOML -> Fleet: which boards there are, of which kind (SKU), and how each is reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from bench.config.strict_toml import STRICT, read_toml
from bench.config.target import OWN_KEYS, PLAIN, Target, load_target
from bench.errors import InvalidInput, unknown

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}")
"""What a board and a SKU may be called: the name is in the key of a cell and in every table."""
PLACE = re.compile(r"[A-Za-z0-9_][^\s\x00-\x1f\x7f]{0,127}")
"""What a place of labgrid may be called here: a leading "+" would be a reservation, a leading "-" an option."""
COORDINATOR = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.\-]*):([0-9]{1,5})")
MAX_PORT = 65535
SSH_PORT = ":22"
OF_A_BOARD = {"ssh": "host", "adb": "serial"}
"""Reach -> the key in which boards differ."""
KEYS = ("host", "python", "folder", "root", "ssh_config", "serial", "benchmark_model")
"""Keys of a board that stand in place of those of its target; "" leaves the target's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBoard:
    """One board. `sku`: its kind; boards of one SKU measure alike and have one target. `target`: a shipped target or a
    .toml file beside the fleet file. `tags`: words by which a command chooses among boards of a SKU. `place`: what labgrid
    calls it, "" for a board that labgrid does not know. The other keys stand in place of the target's own, where they are
    given."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sku: str
    target: str
    tags: tuple[str, ...] = ()
    place: str = ""
    host: str = ""
    python: str = ""
    folder: str = ""
    root: str = ""
    ssh_config: str = ""
    serial: str = ""
    benchmark_model: str = ""

    def address(self, reach: str) -> str:
        """By what it is this board, whoever names it: its host without a user, or a phone's serial."""
        where = str(getattr(self, OF_A_BOARD[reach])).rpartition("@")[2].lower().removesuffix(SSH_PORT)
        return f"{reach}:{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labgrid:
    """`coordinator`: HOST:PORT of the coordinator that gives out the boards' places."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    coordinator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFile:
    """The file as it is written."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    boards: Mapping[str, FleetBoard]
    labgrid: Labgrid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPlace:
    """A place of labgrid: its coordinator, HOST:PORT, and its whole name there."""

    coordinator: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board with all that a lease and a run need. `place`: as `FleetBoard.address`. `target`: with this board's address.
    `lab`: where labgrid gives it out too; None where it does not."""

    name: str
    sku: str
    tags: tuple[str, ...]
    place: str
    target: Target
    lab: LabPlace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The boards of one file, in its order. `targets`: SKU -> the name of its target."""

    path: Path
    boards: tuple[Board, ...]
    targets: Mapping[str, str]

    def of(self, sku: str, tags: tuple[str, ...] = ()) -> tuple[Board, ...]:
        """The boards of a SKU that have all the tags. Raises `InvalidInput` naming those that there are."""
        if sku not in self.targets:
            raise unknown(f"SKU of {self.path}", sku, self.targets)
        alike = [board for board in self.boards if board.sku == sku]
        found = tuple(board for board in alike if set(tags) <= set(board.tags))
        if not found:
            known = ", ".join(f"{board.name}: {', '.join(board.tags) or 'none'}" for board in alike)
            raise InvalidInput(f"{self.path}: no board of SKU {sku!r} has the tags {', '.join(tags)} (tags of {known})")
        return found


def load_fleet(path: Path) -> Fleet:
    """The fleet of a .toml file. Raises `InvalidInput` naming the file and the key."""
    if not path.is_file():
        raise InvalidInput(f"fleet file {path}: no such file")
    written = read_toml(path, FleetFile)
    if not written.boards:
        raise InvalidInput(f"{path}: key 'boards' is empty: add [boards.NAME] with sku, target and host")
    read: dict[str, Target] = {}
    places = _find_places(written, path)
    found = [_make_board(name, board, path, read, places.get(name)) for name, board in written.boards.items()]
    _check_addresses(found, path)
    targets: dict[str, tuple[str, str]] = {}
    for name, board in written.boards.items():
        first, target = targets.setdefault(board.sku, (name, board.target))
        if target != board.target:
            raise InvalidInput(
                f"{path}: key 'boards.{name}.target': boards of one SKU have one target, and {first!r} of SKU "
                f"{board.sku!r} has {target!r}, not {board.target!r}: give one of them another SKU"
            )
    named = {sku: _locate(target, path) for sku, (_, target) in targets.items()}
    return Fleet(path=path, boards=tuple(found), targets=named)


def _find_places(written: FleetFile, path: Path) -> dict[str, LabPlace]:
    """Board -> its place of labgrid. Raises `InvalidInput` for places without a coordinator, and for one without places."""
    named = {name: board.place for name, board in written.boards.items() if board.place}
    if written.labgrid is None:
        for name in named:
            raise InvalidInput(
                f"{path}: key 'boards.{name}.place' is a place of labgrid: name its coordinator too, "
                '[labgrid] with coordinator = "HOST:PORT"'
            )
        return {}
    coordinator, key = written.labgrid.coordinator, f"{path}: key 'labgrid.coordinator'"
    found = COORDINATOR.fullmatch(coordinator)
    if not found or not 0 < int(found[2]) <= MAX_PORT:
        raise InvalidInput(f'{key}: "HOST:PORT" as of labgrid-client -x, found {coordinator!r}')
    if not named:
        raise InvalidInput(
            f"{key}: no board has the key 'place': give it to the boards of labgrid, or remove [labgrid]"
        )
    seen: dict[str, str] = {}
    for name, place in named.items():
        if not PLACE.fullmatch(place):
            raise InvalidInput(
                f"{path}: key 'boards.{name}.place': a name without spaces that begins with a letter, a digit or '_', "
                f"found {place!r}"
            )
        if (first := seen.setdefault(place, name)) != name:
            raise InvalidInput(f"{path}: keys 'boards.{first}.place' and 'boards.{name}.place' are both {place!r}")
    return {name: LabPlace(coordinator=coordinator, name=place) for name, place in named.items()}


def _make_board(name: str, board: FleetBoard, path: Path, read: dict[str, Target], lab: LabPlace | None) -> Board:
    """`read`: text of a target -> the target, of the boards before: a file for all of a SKU is read once."""
    key = f"{path}: key 'boards.{name}"
    for text, where in ((name, key), (board.sku, f"{key}.sku")):
        if not NAME.fullmatch(text):
            raise InvalidInput(f"{where}': a name of letters, digits, '.', '_' and '-', found {text!r}")
    if board.target not in read:
        read[board.target] = _find_target(board, path, f"{key}.target'")
    target = read[board.target]
    given = {own: text for own in KEYS if (text := getattr(board, own))}
    _check_given(given, target.reach, key)
    return Board(
        name=name,
        sku=board.sku,
        tags=board.tags,
        place=board.address(target.reach),
        target=replace(target, **given),
        lab=lab,
    )


def _find_target(board: FleetBoard, path: Path, key: str) -> Target:
    try:
        target = load_target(_locate(board.target, path))
    except InvalidInput as error:
        raise InvalidInput(f"{key}: {error}") from None
    if target.reach not in OF_A_BOARD:
        raise InvalidInput(
            f"{key}: {board.target!r} is reached by {target.reach!r}: a fleet is of boards, reached by ssh or adb"
        )
    return target


def _check_given(given: Mapping[str, str], reach: str, key: str) -> None:
    """Raises `InvalidInput` for a key that the reach does not have, or a value that it cannot use."""
    for own, text in given.items():
        if OWN_KEYS[own] != reach:
            raise InvalidInput(f'{key}.{own}\' is for reach = "{OWN_KEYS[own]}", its target is {reach!r}')
        if not text.isprintable():
            raise InvalidInput(f"{key}.{own}': {text!r} has a sign that no path or name has")
        if own in {"folder", "root"} and not text.startswith(("/", "~")):
            raise InvalidInput(f"{key}.{own}': a path on the board that begins with / or ~, found {text!r}")
    if OF_A_BOARD[reach] not in given:
        raise InvalidInput(
            f"{key}.{OF_A_BOARD[reach]}' is missing: by it this board differs from the others of its SKU"
        )


def _locate(target: str, fleet: Path) -> str:
    """A shipped target by its name; a file from the folder of the fleet file."""
    return str(fleet.parent / target) if target.endswith(".toml") else target


def _check_addresses(boards: list[Board], path: Path) -> None:
    """Two names of one board would be measured at once."""
    seen: dict[str, str] = {}
    for board in boards:
        first = seen.setdefault(board.place, board.name)
        if first != board.name:
            raise InvalidInput(
                f"{path}: keys 'boards.{first}' and 'boards.{board.name}' are one board ({board.place}): remove one"
            )


def spread_over(target: Target, boards: tuple[Board, ...]) -> Target:
    """The target of a SKU with its boards as the devices of which each is a condition of its own."""
    free = {key: getattr(PLAIN, key) for key in OF_A_BOARD.values()}
    return replace(target, devices=tuple(board.name for board in boards), **free)
