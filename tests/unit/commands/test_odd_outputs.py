"""What a command prints reaches a terminal of any encoding, and an output that is closed ends none."""

from __future__ import annotations

import sys
from io import BytesIO, TextIOWrapper

from command_line import exit_code


def test_a_sign_that_the_terminal_has_not_is_printed_as_a_question_mark(monkeypatch):
    """The table of a run ended in a traceback, with the exit code of a regression."""
    printed = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(printed, encoding="ascii"))
    assert exit_code(["targets"]) == 0
    print("1.20×")
    sys.stdout.flush()
    assert printed.getvalue().endswith(b"1.20?\n")


def test_a_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert exit_code(["targets"]) == 0
