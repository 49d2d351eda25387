"""`pressbench bisect` and `compare --revision` on a tiny git repository with a network that grew in one commit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from onnx import helper
from ort_nets import save

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
QUICK = ("--target", "cpu", "--model", "net.onnx", "--launches", "3", "--blocks", "5", "--json")


def network(path: Path, channels: int) -> None:
    """Two convolutions with so many channels between them."""
    draw = np.random.default_rng(0)
    tensors = {"w": draw.standard_normal((channels, 3, 3, 3)), "v": draw.standard_normal((10, channels, 3, 3))}
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "v"], ["output"], pads=[1] * 4),
    ]
    save(path, nodes, tensors, [1, 3, 32, 32], [1, 10, 32, 32])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Five commits: small, words, broken, grown, words."""
    folder = tmp_path_factory.mktemp("user")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, env={**os.environ, **WHO}, capture_output=True, text=True, check=True).stdout

    git("init", "-q", "-b", "main")
    for subject, channels in (("small", 4), ("words", 4), ("broken", 0), ("grown", 256), ("more words", 256)):
        network(folder / "net.onnx", channels) if channels else (folder / "net.onnx").write_bytes(b"half a file")
        (folder / "words").write_text(subject)
        git("add", "-A")
        git("commit", "-q", "-m", subject)
    return folder, git


def test_the_commit_in_which_a_network_grew_is_found_and_the_repository_stays_as_it_was(repository, tmp_path):
    folder, git = repository
    command = CommandLine(folder=folder, environment={**os.environ, "PRESSBENCH_CACHE": str(tmp_path / "cache")})
    (folder / "net.onnx").write_bytes(b"not committed")
    before = git("status", "--porcelain"), git("worktree", "list"), git("rev-parse", "HEAD")
    done = command("bisect", *QUICK, "--good", "main~4")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert [step.split(" ", 1)[1] for step in found["suspects"]] == ["broken", "grown"]
    assert found["low"] > 2
    states = {row["step"].split(" ", 1)[1]: (row["state"], row["reason"]) for row in found["steps"]}
    assert states["broken"][0] == "skipped"
    assert "net.onnx" in states["broken"][1]
    assert states["words"][0] == "good"
    assert "the same file as" in states["words"][1]
    done = command("compare", *QUICK, "--revision", "main~3", "--revision", "main~1")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["b"].split(" ", 1)[1]) == ("slower", "grown")
    assert {row["operator"] for row in answer["layers"]["operators"]} >= {"Conv"}
    assert (git("status", "--porcelain"), git("worktree", "list"), git("rev-parse", "HEAD")) == before
    assert (folder / "net.onnx").read_bytes() == b"not committed"
