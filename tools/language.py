"""Checks the language of this repository: `python -m tools.language [PATH...]`, part of `make check`.

Two rules. A sentence of a document has at most 40 words. Documents, docstrings, comments and messages use plain
words: the table `PLAIN` says which words are not used and what to write instead. Code between backticks is exempt.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

LONGEST = 40
"""Words a sentence of a document may have."""
COMPARED = (
    "longer|more|less|fewer|better|worse|faster|slower|larger|smaller|wider|narrower|higher|lower|older|newer"
    "|earlier|later|closer|different"
)
"""What may follow "is no": "no wider than float32" is plain."""
PLAIN = {
    rf"(?<!there )(?<!There )\b(?:is|are|was|were) no\b(?! (?:{COMPARED})\b)": "is not a",
    r"(?<!there )(?<!There )\b(?:is|are|was|were) none\b(?! of\b)": "is not one, count as zero",
    r"(?<!leave it )(?<!left )(?<!let )(?<!Let )(?<!stand )(?<!stands )(?<!stand-)\balone\b": "only, by itself",
    r"\b(?:tells|told|tell|telling)\b(?!(?: \w+){0,3} apart\b)": "says, shows",
    r"\b(?:nobody|somebody|anyone|anybody)\b": "user, or name who",
    r"\b(?:(?:a|the) )?persons?\b(?! detect)": "user",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bshall\b": "must, should",
    r"\bnought\b": "zero",
    r"\banew\b": "again",
    r"\bto be had\b|\bcan(?:not)? be had\b|\b(?:is|are|was|were) had\b": "available, taken",
    r"\bfollow(?:s|ed|ing)? from\b": "depends on",
    r"\b(?:go|goes|going|gone|went) on with\b": "continue",
    r"\b(?:amid|amidst|lest|thereof|therein|whereof|wherein|hitherto|henceforth|upon)\b": "a plain word",
    r"\bforesee(?:s|n)?\b|\bforesaw\b": "estimate, predict",
    r"\bexcepted\b": "except",
    r"\botherwise than\b": "differently from, other than",
    r"\bheld against\b|\bholds? (?:it|them) against\b": "compared with",
    r"\bin silence\b": "silently",
    r"\ban own\b": "its own, a separate",
    r"\b(?:and|on) (?:its|their) like\b": "similar",
    r"\bcom(?:e|es|ing) of it\b": "result",
}
"""Pattern -> what to write instead."""
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"``[^`]+``|`[^`\n]+(?:\n[^`\n]+)?`")
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][)\"'*_`])\s+|\n\s*\n|\n(?=#)|(?<=\|)\s*\n|\n\s*(?=[-*>] |\d+[.)] )|\|")
WORD = re.compile(r"[\w`][\w`'./()=-]*")
PLACES = ("bench", "backends", "targets", "tools", "docs", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
READ = {".md", ".py", ".html", ".js", ".css", ".toml"}


def long_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each sentence over the limit; code blocks, cells of tables and list items end a sentence."""
    plain = re.sub(r"^(#+ .*)$", r"\1.", _blanked(FENCED, text), flags=re.MULTILINE)  # a heading is a sentence
    place = 0
    for part in SENTENCE.split(plain):
        if not part.strip():
            continue
        at = plain.find(part, place)
        place = at + len(part)
        if len(WORD.findall(part)) > LONGEST:
            yield plain.count("\n", 0, at) + 1, " ".join(part.split())


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """First line and text of everything a reader reads: a document whole, of Python its strings and comments.

    Comments on lines that follow one another are one text, so that a phrase across two of them is found.
    """
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, _blanked(CODE, _blanked(FENCED, source))
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, _blanked(CODE, node.value)
    yield from _comments(source)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    found = [
        (token.start[0], token.string.lstrip("# "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for _, group in groupby(enumerate(found), key=lambda pair: pair[1][0] - pair[0]):
        lines = [line for _, line in group]
        yield lines[0][0], _blanked(CODE, "\n".join(text for _, text in lines))


def _blanked(pattern: re.Pattern[str], text: str) -> str:
    """`text` without what matches; its lines keep their numbers."""
    return pattern.sub(lambda found: "\n" * found[0].count("\n"), text)


def faults(path: Path) -> Iterator[str]:
    """What is wrong with the language of a file, one line each."""
    if path.suffix == ".md":
        for line, sentence in long_sentences(path.read_text(encoding="utf-8")):
            yield f"{path}:{line}: over {LONGEST} words: {sentence[:90]}..."
    for start, text in texts(path):
        joined = re.sub(r"\n[ \t]+", "\n", text)  # a phrase may run over the end of an indented line
        for pattern, instead in PLAIN.items():
            for found in re.finditer(pattern.replace(" ", r"\s"), joined):
                line = start + joined.count("\n", 0, found.start())
                yield f"{path}:{line}: {' '.join(found[0].split())!r}: write {instead}"


def files_in(roots: Iterable[Path]) -> list[Path]:
    """The files named, and of folders every document and source file; never this one, which lists the words."""
    found = [
        path
        for root in roots
        for path in (sorted(root.rglob("*")) if root.is_dir() else [root])
        if path == root or path.suffix in READ
    ]
    return [path for path in found if path.resolve() != Path(__file__).resolve()]


def main(asked: list[str]) -> int:
    """Prints the faults of the files asked for, or of all; 1 when there are any, 2 when a path does not exist."""
    roots = [Path(name) for name in asked or PLACES]
    if missing := [str(root) for root in roots if not root.exists()]:
        print(f"no such file or folder: {', '.join(missing)}", file=sys.stderr)
        return 2
    read = files_in(roots)
    found = [fault for path in read for fault in faults(path)]
    print("\n".join(found) or f"{len(read)} files in plain language")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
