"""Deployed files are kept by their content; one that is gone or damaged says so."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256

import pytest

from bench.cache import find_or_make
from bench.errors import Unavailable
from bench.line.versus.kept import find_kept, keep, prune_kept
from bench.types import FLOAT32


@pytest.fixture
def compiled(tmp_path):
    """Makes a compiled file in a cache; its digest."""

    def make(content):
        def write(folder):
            (folder / "model.onnx").write_bytes(content)
            (folder / "weights.bin").write_bytes(b"more")
            return {
                "file": "model.onnx",
                "format": "onnx",
                "precision": asdict(FLOAT32),
                "facts": {"session_options": {}},
            }

        find_or_make(tmp_path / "cache", "compiled", sha256(content).hexdigest()[:32], write)
        return sha256(content).hexdigest()

    return make


def test_a_kept_file_is_found_with_all_it_needs_after_the_cache_is_gone(tmp_path, compiled):
    digest = compiled(b"one")
    assert keep(tmp_path / "r", tmp_path / "cache", {digest}) == {}
    assert keep(tmp_path / "r", tmp_path / "nowhere", {digest}) == {}
    found = find_kept(tmp_path / "r", digest)
    assert (found.path.read_bytes(), found.digest, found.format, found.precision) == (b"one", digest, "onnx", FLOAT32)
    assert (found.path.parent / "weights.bin").read_bytes() == b"more"


def test_what_the_cache_does_not_have_is_named(tmp_path, compiled):
    compiled(b"one")
    assert "in the cache any more" in keep(tmp_path / "r", tmp_path / "cache", {"f" * 64})["f" * 64]
    (tmp_path / "cache" / "compiled" / "odd").mkdir()
    (tmp_path / "cache" / "compiled" / "odd" / "entry.json").write_text("[]")
    assert len(keep(tmp_path / "r", tmp_path / "cache", {"f" * 64})) == 1


def test_a_deleted_or_damaged_file_says_so(tmp_path, compiled):
    digest = compiled(b"one")
    results = tmp_path / "r"
    with pytest.raises(Unavailable, match="is gone: it was deleted, or never kept"):
        find_kept(results, digest)
    keep(results, tmp_path / "cache", {digest})
    folder = results / "artifacts" / digest
    (folder / "model.onnx").unlink()
    with pytest.raises(Unavailable, match=r"model.onnx is gone"):
        find_kept(results, digest)
    (folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(Unavailable, match="damaged: another content"):
        find_kept(results, digest)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"facts": 1, "digests": 2}', '{"facts": {}, "digests": {"../../x": "y"}}']
)
def test_a_description_that_was_changed_is_damage_and_leads_nowhere_else(tmp_path, compiled, text):
    digest = compiled(b"one")
    keep(tmp_path / "r", tmp_path / "cache", {digest})
    (tmp_path / "x").write_text("secret")
    (tmp_path / "r" / "artifacts" / digest / "artifact.json").write_text(text)
    with pytest.raises(Unavailable, match=r"damaged|gone"):
        find_kept(tmp_path / "r", digest)


def test_another_file_under_this_name_is_damage(tmp_path, compiled):
    one, two = compiled(b"one"), compiled(b"two")
    keep(tmp_path / "r", tmp_path / "cache", {one, two})
    folder = tmp_path / "r" / "artifacts"
    (folder / one).rename(folder / "aside")
    (folder / two).rename(folder / one)
    assert json.loads((folder / one / "artifact.json").read_text())["facts"]["file"] == "model.onnx"
    with pytest.raises(Unavailable, match="its folder has another name than its content"):
        find_kept(tmp_path / "r", one)


def test_what_no_night_needs_is_removed(tmp_path, compiled):
    one, two = compiled(b"one"), compiled(b"two")
    assert prune_kept(tmp_path / "r", {one}) == []
    keep(tmp_path / "r", tmp_path / "cache", {one, two})
    (tmp_path / "r" / "artifacts" / ".part-x-1").mkdir()
    assert prune_kept(tmp_path / "r", {one}) == [two]
    assert [path.name for path in (tmp_path / "r" / "artifacts").glob("*")] == [one]
