"""A user's git repository is read and never changed; what cannot be searched is refused with the reason."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.errors import CellFailed, InvalidInput, Unavailable
from bench.line.versus.revisions import (
    check_pointer,
    find_revision,
    list_steps,
    open_repository,
    write_revision,
)

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env={**os.environ, **WHO}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, text: str) -> str:
    (folder / "net.txt").write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Commits one, two, a branch `side` merged as three, four; and a branch `apart` that shares nothing."""
    folder = tmp_path_factory.mktemp("user's repo; $(touch x)")
    git(folder, "init", "-q", "-b", "main")
    made = {text: commit(folder, text) for text in ("one", "two")}
    git(folder, "checkout", "-q", "-b", "side")
    (folder / "more").write_text("more")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "beside")
    git(folder, "checkout", "-q", "main")
    git(folder, "merge", "-q", "--no-ff", "-m", "three", "side")
    made |= {"three": git(folder, "rev-parse", "HEAD"), "four": commit(folder, "four")}
    git(folder, "checkout", "-q", "--orphan", "apart")
    made["apart"] = commit(folder, "apart")
    git(folder, "checkout", "-q", "main")
    return open_repository(folder), made


def steps(history, good, bad):
    place, _ = history
    return list_steps(place, find_revision(place, good), find_revision(place, bad))


def test_steps_go_along_first_parents_from_good_to_bad_and_a_merge_is_one(history):
    _, made = history
    found = steps(history, made["one"], "main")
    assert [step.subject for step in found] == ["one", "two", "three", "four"]
    assert [step.parents for step in found][1:] == [1, 2, 1]
    assert found[-1].title == f"{made['four'][:12]} four"


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("main", "main", "good and bad are the same revision"),
        ("main", "main~1", "are they swapped"),
        ("apart", "main", "they share no commit"),
        ("side", "main~1^1", "are they swapped"),
        ("nowhere", "main", "no revision 'nowhere'"),
        ("--upload-pack=touch x", "main", "is not a revision"),
        ("-h", "main", "is not a revision"),
        ("", "main", "is not a revision"),
        ("main:net.txt", "main", "no revision 'main:net.txt'"),
    ],
)
def test_revisions_that_cannot_be_searched_are_refused(history, good, bad, words):
    with pytest.raises(InvalidInput, match=words):
        steps(history, good, bad)


def test_where_two_branches_part_is_named(history):
    place, made = history
    git(place.root, "branch", "-f", "other", made["two"])
    git(place.root, "checkout", "-q", "other")
    other = commit(place.root, "other")
    git(place.root, "checkout", "-q", "main")
    with pytest.raises(InvalidInput, match=f"name {made['two'][:12]}, where they part, as good"):
        steps(history, other, "main")


def test_files_of_a_revision_are_written_and_nothing_of_the_users_changes(history, tmp_path):
    place, made = history
    (place.root / "net.txt").write_text("not committed")
    hook = place.root / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/hooked'\n")
    hook.chmod(0o755)
    before = state(place.root)
    folder = write_revision(place, find_revision(place, "main~2"), tmp_path / "a" / "b")
    assert (folder / "net.txt").read_text() == "two"
    assert sorted(path.name for path in folder.iterdir()) == ["net.txt"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["b"]
    assert state(place.root) == before
    assert not (tmp_path / "hooked").exists()
    git(place.root, "checkout", "-q", "--", "net.txt")
    assert made["two"] == find_revision(place, "main~2").hash


def state(root: Path) -> list[tuple[str, bytes]]:
    """Every file of a repository, its index and its worktrees included."""
    return sorted((str(path), path.read_bytes()) for path in root.rglob("*") if path.is_file())


def test_a_revision_that_cannot_be_written_is_named(history, tmp_path):
    place, _ = history
    (tmp_path / "b").parent.mkdir(exist_ok=True)
    broken = find_revision(place, "main")
    with pytest.raises(CellFailed, match="its files cannot be written"):
        write_revision(place, type(broken)(hash="0" * 40, subject="gone"), tmp_path / "b")


def test_a_folder_without_a_repository_a_missing_one_and_a_missing_git_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="is not in a git repository; name one with --repository"):
        open_repository(tmp_path)
    with pytest.raises(InvalidInput, match="there is no such folder"):
        open_repository(tmp_path / "gone")
    with pytest.raises(Unavailable, match="git-that-is-not-here is not installed"):
        open_repository(tmp_path, git="git-that-is-not-here")


def test_a_file_that_git_lfs_has_not_fetched_is_not_a_model(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(InvalidInput, match="git-lfs pointer"):
        check_pointer(file)
    file.write_bytes(b"\x08\x07onnx")
    check_pointer(file)


def test_of_a_shallow_clone_it_is_said_that_older_revisions_are_not_in_it(history, tmp_path):
    """`actions/checkout` makes one; the revision that the user knows was called unknown."""
    place, made = history
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{place.root}", "clone")
    clone = open_repository(tmp_path / "clone")
    for text in ("main~2", made["two"]):
        with pytest.raises(InvalidInput, match=r"no revision .* this clone is shallow, .* run `git fetch --unshallow"):
            find_revision(clone, text)
    git(clone.root, "fetch", "-q", "--depth", "1", "origin", made["two"])
    with pytest.raises(InvalidInput, match="share no commit; this clone is shallow"):
        list_steps(clone, find_revision(clone, made["two"]), find_revision(clone, "HEAD"))
    with pytest.raises(InvalidInput, match=r"HEAD~3$"):
        find_revision(place, "nowhere")
