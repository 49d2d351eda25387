"""The pages a reader reads, taken apart: links, code spans, code blocks, commands, tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language ("" where none is named) and text of each code block."""
    return [(found[1], found[2]) for found in FENCE.finditer(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """Every piece of code in the text, a line break inside it as a space."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(page))]


def links(page: Path) -> list[tuple[str, str]]:
    """File ("" for the page itself) and anchor of each link that stays in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [(target.partition("#")[0], target.partition("#")[2]) for target in found if "://" not in target]


def anchors(page: Path) -> set[str]:
    """What a link can point to: each heading in small letters, without signs, a hyphen for each space."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of the code blocks that name no language, without prompts and comments; continued lines are joined."""
    for language, text in blocks(page):
        if not language:
            for line in text.replace("\\\n", " ").splitlines():
                yield line.removeprefix("$ ").strip()


def commands(page: Path) -> list[list[str]]:
    """Every whole `pressbench` command line of the code blocks, as words."""
    return [shlex.split(line, comments=True) for line in shell_lines(page) if line.startswith("pressbench ")]


def rows(page: Path, first: str) -> list[list[str]]:
    """The cells of every table of a page whose first column has the title `first`."""
    found, reading = [], False
    for line in prose(page).splitlines():
        cells = [cell.strip() for cell in re.split(r"\s\|(?=\s)", line.strip()[1:-1])] if line.startswith("|") else []
        reading = bool(cells) and (reading or cells[0] == first)
        if reading and cells[0] != first and not set(line) <= set("|-"):
            found.append(cells)
    return found
