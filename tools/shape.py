"""Checks the shape of this repository: `python -m tools.shape [FOLDER]`, part of `make check`.

Prints a table of the rooms (packages) and of the lengths of functions, and fails when a limit is passed.
import-linter checks the rest of the shape: no circle, no arrow upward.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bench", "backends", "targets", "tools")
SHIPPED = ("bench", "backends")
"""The packages whose functions are measured."""
MOST_AT_THE_TOP = 12
"""Modules a package at the top may hold itself, without its folders."""
MOST_IN_A_ROOM = 16
"""Modules any other package may hold itself."""
LONGEST = 50
"""Lines a function may have, from `def` to its last line."""
P90_BELOW = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One package: its own modules (without `__init__.py`) and their lines."""

    path: Path
    files: int
    lines: int

    @property
    def most(self) -> int:
        """Modules it may hold."""
        return MOST_AT_THE_TOP if len(self.path.parts) == 1 else MOST_IN_A_ROOM


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function or method and how many lines it has."""

    place: str
    lines: int


def rooms(root: Path) -> list[Room]:
    """Every package under the root, by path."""
    found = []
    for folder in sorted({path.parent for package in PACKAGES for path in (root / package).rglob("*.py")}):
        files = list(folder.glob("*.py"))
        found.append(
            Room(
                path=folder.relative_to(root),
                files=sum(path.name != "__init__.py" for path in files),
                lines=sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files),
            )
        )
    return found


def functions(root: Path) -> list[Function]:
    """Every function and method of the shipped packages."""
    paths = [path for package in SHIPPED for path in sorted((root / package).rglob("*.py"))]
    return [function for path in paths for function in functions_of(path, root)]


def functions_of(path: Path, root: Path) -> Iterator[Function]:
    """Those of one file; a function inside another counts for both."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(place=f"{path.relative_to(root)}:{node.lineno} {node.name}", lines=lines)


def p90(lengths: list[int]) -> int:
    """The smallest length that nine of ten functions do not exceed."""
    return sorted(lengths)[-(-len(lengths) * 9 // 10) - 1]


def faults(found: list[Room], measured: list[Function]) -> Iterator[str]:
    """Each limit passed, one line each."""
    for room in found:
        if room.files > room.most:
            yield f"{room.path}: {room.files} modules, at most {room.most}"
    if (reached := p90([one.lines for one in measured])) >= P90_BELOW:
        yield f"functions: p90 is {reached} lines, must be under {P90_BELOW}"
    for one in measured:
        if one.lines > LONGEST:
            yield f"{one.place}: {one.lines} lines, at most {LONGEST}"


def main(arguments: list[str]) -> int:
    """Prints the table and the faults; 1 when there are any."""
    root = Path(arguments[0]) if arguments else Path()
    found, measured = rooms(root), functions(root)
    print(f"{'room':<28} files  lines")
    for room in found:
        print(f"{room.path!s:<28} {room.files:>5} {room.lines:>6}")
    lengths = [one.lines for one in measured]
    print(f"{len(found)} rooms{'':<21}{sum(r.files for r in found):>6} {sum(r.lines for r in found):>6}")
    middle = statistics.median(lengths)
    print(f"{len(lengths)} functions: lines median {middle:g}, p90 {p90(lengths)}, longest {max(lengths)}")
    wrong = list(faults(found, measured))
    print("\n".join(wrong) or "every limit kept")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
