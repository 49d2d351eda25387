"""Which files a user's code and our own need."""

from __future__ import annotations

import ast

import pytest

from bench import own_code
from bench.errors import InvalidInput
from bench.own_code import find_imported, load_object


@pytest.mark.parametrize("path", ["net.py:build", "some/folder/net.py:build"])
def test_a_file_in_place_of_a_module_is_refused_with_what_to_write(path):
    with pytest.raises(InvalidInput, match="is a file: write net:build"):
        load_object(path, "function")


def test_a_file_is_parsed_again_when_it_changed_and_when_parsing_failed_by_chance(tmp_path, monkeypatch):
    """CPython 3.11 before .10 raises SystemError where two threads parse at once (python/cpython#106905)."""
    (tmp_path / "a.py").write_text("import b\n")
    for name in ("b", "longer"):
        (tmp_path / f"{name}.py").write_text("")
    assert {path.name for path in find_imported(tmp_path, [tmp_path / "a.py"])} == {"a.py", "b.py"}
    (tmp_path / "a.py").write_text("import longer\n")
    failures = [SystemError("AST constructor recursion depth mismatch")] * 2
    parse = ast.parse

    def by_chance(text: str) -> ast.Module:
        if failures:
            raise failures.pop()
        return parse(text)

    monkeypatch.setattr(own_code.ast, "parse", by_chance)
    assert {path.name for path in find_imported(tmp_path, [tmp_path / "a.py"])} == {"a.py", "longer.py"}
    assert not failures
