"""Checks the language of this repository: `python -m tools.language [PATH...]`, part of `make check`.

Two rules. A sentence of a document has at most 40 words. Documents, docstrings, comments and messages use plain
words: the table `PLAIN` says which words are not used and what to write instead.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

LONGEST = 40
"""Words a sentence of a document may have."""
PLAIN = {
    r"(?<!there )(?<!There )\b(?:is|are|was) no\b(?! longer| more)": "is not a",
    r"(?<!leave it )(?<!left )(?<!stand )(?<!stands )\balone\b": "only",
    r"\b(?:tells|told|tell)\b": "says, shows",
    r"\b(?:nobody|somebody|anyone|anybody)\b": "user, or name who",
    r"\b(?:a|the) person\b": "user",
    r"\bpersons?\b": "user",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bshall\b": "must, should",
    r"\bnought\b": "zero",
    r"\banew\b": "again",
    r"\bnot to be had\b": "not available",
    r"\bfollows? from\b": "depends on",
}
"""Pattern -> what to write instead."""
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n\s*(?=[-*|#>\d])|\|")
PLACES = ("bench", "backends", "targets", "tools", "docs", "README.md", ".ci")


def long_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each sentence over the limit; code, tables' cells and list items end a sentence."""
    plain = re.sub(r"```.*?```", lambda found: "\n" * (found[0].count("\n") + 2), text, flags=re.DOTALL)
    place = 0
    for part in SENTENCE.split(plain):
        if not part:
            continue
        at = plain.find(part, place)
        place = at + len(part)
        if len(re.findall(r"[\w`][\w`'./()=-]*", part)) > LONGEST:
            yield plain.count("\n", 0, at) + 1, " ".join(part.split())


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of everything a reader reads: a document whole, of code its strings and comments."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, CODE.sub(lambda found: "\n" * found[0].count("\n"), source)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, CODE.sub("", node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults(path: Path) -> Iterator[str]:
    """What is wrong with the language of a file, one line each."""
    if path.suffix == ".md":
        for line, sentence in long_sentences(path.read_text(encoding="utf-8")):
            yield f"{path}:{line}: over {LONGEST} words: {sentence[:90]}..."
    for start, text in texts(path):
        for pattern, instead in PLAIN.items():
            for found in re.finditer(pattern, text):
                line = start + text.count("\n", 0, found.start())
                yield f"{path}:{line}: {found[0]!r}: write {instead}"


def main(asked: list[str]) -> int:
    """Prints the faults of the files asked for, or of all; 1 when there are any."""
    roots = [Path(name) for name in asked or PLACES]
    files = [path for root in roots for path in (sorted(root.rglob("*")) if root.is_dir() else [root])]
    read = [
        path
        for path in files
        if path.suffix in {".md", ".py", ".html"} and path != Path(__file__).relative_to(Path.cwd())
    ]
    found = [fault for path in read for fault in faults(path)]
    print("\n".join(found) or f"{len(read)} files in plain language")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
