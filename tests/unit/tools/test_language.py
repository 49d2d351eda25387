"""The language check: each rule catches what it is for, and lets plain sentences pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import language

BANNED = {
    "A literal is no parameter.": "is no",
    "These are no weights.": "are no",
    "Literals are none.": "are none",
    "The count alone decides.": "alone",
    "It tells the reason.": "tells",
    "It is kept where nobody looks.": "nobody",
    "What a person asked for.": "a person",
    "It mends the file.": "mends",
    "The runtime shall quantize.": "shall",
    "It compiles anew.": "anew",
    "It comes to nought.": "nought",
    "A figure that cannot be had.": "cannot be had",
    "All that the files follow from.": "follow from",
    "The run is gone on with.": "gone on with",
    "An error amid the work.": "amid",
    "Vela foresees cycles.": "foresees",
    "All weights, biases excepted.": "excepted",
    "Planned otherwise than asked.": "otherwise than",
    "What it was held against.": "held against",
    "Counted as 0 in silence.": "in silence",
    "It has an own folder.": "an own",
    "Built on its like.": "on its like",
    "What must come of it.": "come of it",
}
PLAIN = (
    "It is no longer read.",
    "It is no wider than float32.",
    "There is no counter here; there are none.",
    "The layer can stand alone. Let alone two.",
    "It tells the two files apart.",
    "The int8 person detector of MLPerf Tiny.",
    "It depends on the weights, the seed and the versions.",
    "The code `alone` and ``shall`` are names.",
    "The option is none of the three.",
    "It cannot be measured here.",
)


@pytest.mark.parametrize(("sentence", "found"), BANNED.items())
def test_a_banned_phrase_is_found_wherever_the_line_breaks(tmp_path: Path, sentence: str, found: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{sentence.replace(' ', chr(10) + '  ')}\n", encoding="utf-8")
    faults = list(language.faults(page))
    assert [re.findall(r"'(.+?)'", fault)[0] for fault in faults] == [found]


def test_every_pattern_has_an_example_above() -> None:
    unseen = [
        pattern for pattern in language.PLAIN if not any(re.search(pattern, " ".join(text.split())) for text in BANNED)
    ]
    assert unseen == []


@pytest.mark.parametrize("sentence", PLAIN)
def test_plain_sentences_pass(tmp_path: Path, sentence: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(sentence, encoding="utf-8")
    assert list(language.faults(page)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# Title\n\n" + "word " * 41 + ".", 3),
        ("Short.\n" + "word " * 20 + "\n" + "2 " * 21 + "words.", 2),  # a number at a line's start is not a new item
        ("(Short.) " + "word " * 41 + ".", 1),
        ("```\ncode\n```\n" + "word " * 41 + ".", 4),
        ("- item\n- " + "word " * 41, 2),
        ("| a | " + "word " * 41 + "|", 1),
    ],
)
def test_a_sentence_of_41_words_is_found_on_its_line(text: str, line: int) -> None:
    assert [at for at, _ in language.long_sentences(text)] == [line]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 40 + ".",
        "word " * 30 + "end. " + "word " * 30 + ".",
        "(" + "word " * 30 + "end.) " + "word " * 30,
        "- " + "word " * 30 + "\n- " + "word " * 30,
        "1. " + "word " * 30 + "\n2. " + "word " * 30,
        "| " + "word " * 30 + "| " + "word " * 30 + "|",
        "# " + "word " * 30 + "\n\n" + "word " * 30,
        "# " + "word " * 30 + "\n" + "word " * 30,
        "```\n" + "word " * 60 + "\n```",
    ],
)
def test_sentences_items_cells_and_code_of_at_most_40_words_pass(text: str) -> None:
    assert list(language.long_sentences(text)) == []


def test_docstrings_messages_and_comments_of_python_are_read_and_code_is_not(tmp_path: Path) -> None:
    file = tmp_path / "piece.py"
    file.write_text(
        '"""It shall work."""\nalone = 1\n# the first line says what a\n# person wants\nprint(f"{alone} anew")\n'
        'tell = "`alone`"\n',
        encoding="utf-8",
    )
    found = [fault.removeprefix(f"{file}:") for fault in language.faults(file)]
    assert found == [
        "1: 'shall': write must, should",
        "5: 'anew': write again",
        "3: 'a person': write user",
    ]


def test_the_program_ends_with_1_at_a_fault_0_without_and_2_for_a_path_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.toml").write_text('description = "one sparse network"\n', encoding="utf-8")
    (tmp_path / "data.bin").write_bytes(b"\xff alone")
    assert language.main([str(tmp_path)]) == 0
    assert "1 files in plain language" in capsys.readouterr().out
    (tmp_path / "suite.toml").write_text('description = "pruning alone"\n', encoding="utf-8")
    assert language.main([str(tmp_path)]) == 1
    assert "suite.toml:1: 'alone': write only" in capsys.readouterr().out
    assert language.main([str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
