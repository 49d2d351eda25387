"""A user's git repository, read only: what revisions it has, and the files of one, written into a folder of ours.

Nothing in the repository changes: no worktree is added, no hook runs, its index stays. The files of a revision are
written through an index in the temporary folder. Git is run with lists of arguments, never by a shell.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import CellFailed, InvalidInput, Unavailable

POINTER = b"version https://git-lfs.github.com/spec/"
LIMIT_S = 300
ALWAYS = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
HASH = 12
"""Digits of a revision that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One commit. `parents`: how many; more than one is a merge."""

    hash: str
    subject: str
    parents: int = 1

    @property
    def title(self) -> str:
        """Short hash and subject."""
        return f"{self.hash[:HASH]} {self.subject}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """`root`: top of the working tree. `git`: the program."""

    root: Path
    git: str = "git"

    def ask(self, *arguments: str, index: Path | None = None) -> str:
        """What git prints. Raises `InvalidInput` with git's own reason, `Unavailable` without git."""
        return run_git(self.git, self.root, arguments, index)


def open_repository(folder: Path, git: str = "git") -> Repository:
    """The repository that a folder lies in. Raises `InvalidInput` where there is none."""
    if not folder.is_dir():
        raise InvalidInput(f"--repository {folder}: there is no such folder")
    try:
        top = run_git(git, folder, ("rev-parse", "--show-toplevel"), None)
    except InvalidInput as error:
        raise InvalidInput(f"{folder} is not in a git repository; name one with --repository: {error}") from None
    return Repository(root=Path(top.strip()).resolve(), git=git)


def run_git(git: str, folder: Path, arguments: Sequence[str], index: Path | None) -> str:
    """One call of git in a folder. The variables of a git that called us (a hook's) do not count."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {**own, **ALWAYS, **({"GIT_INDEX_FILE": str(index)} if index else {})}
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise Unavailable(f"{git} is not installed: revisions need git (apt install git)") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"git {arguments[0]} did not end within {LIMIT_S} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InvalidInput(f"git {arguments[0]}: {said[0].removeprefix('fatal: ')}")
    return done.stdout


def find_revision(repository: Repository, text: str) -> Revision:
    """The commit that a text names. Raises `InvalidInput` for one that there is not, or that looks like an option."""
    if not text.strip() or text.startswith("-"):
        raise InvalidInput(f"revision {text!r} is not a revision: a hash, a tag, a branch, or HEAD~3")
    try:
        found = repository.ask("rev-parse", "--verify", f"{text}^{{commit}}").strip()
    except InvalidInput:
        raise InvalidInput(
            f"{repository.root}: no revision {text!r}: name a hash, a tag, a branch, or HEAD~3{_explain_shallow(repository)}"
        ) from None
    return describe_revision(repository, found)


def describe_revision(repository: Repository, found: str) -> Revision:
    """A commit by its full hash."""
    subject, parents = repository.ask("log", "-1", "--format=%s%n%P", found, "--").split("\n")[:2]
    return Revision(hash=found, subject=subject, parents=len(parents.split()))


def list_steps(repository: Repository, good: Revision, bad: Revision) -> list[Revision]:
    """Good, then what bad has beyond it along first parents, the oldest first; the last is bad. A merge is one step.

    Raises `InvalidInput` where both are the same commit, or bad does not contain good.
    """
    if good.hash == bad.hash:
        raise InvalidInput(f"good and bad are the same revision: {good.title}")
    base = find_base(repository, good, bad)
    if base == bad.hash:
        raise InvalidInput(
            f"bad {bad.hash[:HASH]} lies before good {good.hash[:HASH]}: are they swapped? bad comes after good"
        )
    if base != good.hash:
        raise InvalidInput(
            f"good {good.hash[:HASH]} is not in the history of bad {bad.hash[:HASH]}"
            + (
                f": name {base[:HASH]}, where they part, as good"
                if base
                else f"; they share no commit{_explain_shallow(repository)}"
            )
        )
    said = repository.ask(
        "log", "--first-parent", "--reverse", "--format=%H%x00%P%x00%s", f"{good.hash}..{bad.hash}", "--"
    )
    steps = []
    for line in said.splitlines():
        found, parents, subject = line.split("\0", 2)
        steps.append(Revision(hash=found, subject=subject, parents=len(parents.split())))
    return [good, *steps]


def _explain_shallow(repository: Repository) -> str:
    """Why a revision may be absent that the user knows: jobs of CI often clone only the newest; "" for a whole clone."""
    if repository.ask("rev-parse", "--is-shallow-repository").strip() != "true":
        return ""
    return "; this clone is shallow, and older revisions are not in it: run `git fetch --unshallow --tags` first"


def find_base(repository: Repository, a: Revision, b: Revision) -> str:
    """Where two commits part; "" where they share none."""
    try:
        return repository.ask("merge-base", a.hash, b.hash).split("\n")[0].strip()
    except InvalidInput:
        return ""


def write_revision(repository: Repository, revision: Revision, folder: Path) -> Path:
    """The files of a revision in `folder`, which is created. Submodules are left out.

    Raises `CellFailed` where git cannot write them (a filter that fails).
    """
    folder.mkdir(parents=True)
    index = folder.with_name(f"{folder.name}.index")
    try:
        repository.ask("read-tree", revision.hash, index=index)
        repository.ask("checkout-index", "--all", "--force", f"--prefix={folder}/", index=index)
    except InvalidInput as error:
        raise CellFailed(f"{revision.title}: its files cannot be written: {error}") from None
    finally:
        index.unlink(missing_ok=True)
    return folder


def check_pointer(file: Path) -> None:
    """Raises `InvalidInput` for a file that git-lfs has not fetched: its text is not the model."""
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise InvalidInput(f"{file.name} is a git-lfs pointer, not the file: run git lfs fetch --all first")
