"""A side is built from the code of its revision and from no other; what goes wrong names the user's file."""

from __future__ import annotations

import sys
from contextlib import chdir

import pytest

from bench.commands.versus import build
from bench.commands.versus.build import Order, build_side, place_on_path, run_builder
from bench.commands.versus.sides import Asked, Network, Variant, open_setting
from bench.errors import CellFailed, InvalidInput
from bench.line.own_models import InputOptions
from bench.line.versus.until import Patience

NETWORK = """
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))

def broken():
    raise RuntimeError("no layers today")
"""


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Builds a network of `net` in this process, its code in the revision or in the working tree."""
    repository, checkout = tmp_path / "user", tmp_path / "revision"
    repository.mkdir()
    checkout.mkdir()

    def run_here(folder, stand, path):
        with chdir(stand), monkeypatch.context() as patch:
            patch.setattr(sys, "path", [str(stand), *path, *sys.path])
            assert build.main([str(folder)]) == 0
        sys.modules.pop("net", None)

    def run(name, *, place=checkout):
        (place / "net.py").write_text(NETWORK)
        order = Order(
            target="cpu",
            threads=1,
            batch=1,
            cache=tmp_path / "cache",
            said=InputOptions(),
            network=Network(input_shape=(1, 8, 8)),
            variant=Variant(title="the revision", model=f"net:{name}"),
            repository=repository,
            checkout=checkout,
        )
        asked = Asked(target="cpu", patience=Patience(width=0.01), cache=tmp_path / "cache", progress=lambda *_: None)
        with monkeypatch.context() as patch, open_setting(asked) as setting:
            patch.setattr(build, "run_builder", run_here)
            patch.setattr(build, "end_with_parent", lambda: None)
            patch.setattr(sys, "path", [str(place), *sys.path])
            side = build_side(order, tmp_path / "built", checkout, setting)
            assert side.artifact.path.is_file()
            return side

    return run


def test_the_network_of_the_revision_is_built_and_kept(built):
    side = built("small")
    assert side.title == "the revision"
    assert side.artifact.digest
    assert [spec.shape for spec in side.bench.inputs] == [(-1, 1, 8, 8)]
    assert side.bench.session == "backends.ort.session:OrtSession"


def test_code_that_raises_is_named_without_the_temporary_folder(built, tmp_path):
    with pytest.raises(InvalidInput, match="no layers today") as caught:
        built("broken")
    assert "net.py, line" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_code_of_the_working_tree_is_refused(built, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "place_on_path", lambda *_: [])
    with pytest.raises(InvalidInput, match=r"net is imported from .*user/net\.py, not from the revision"):
        built("small", place=tmp_path / "user")


def test_folders_of_the_working_tree_become_those_of_the_revision(tmp_path, monkeypatch):
    user, checkout = tmp_path / "user", tmp_path / "revision"
    libraries = user / ".venv/lib/site-packages"
    monkeypatch.setattr(sys, "path", [str(user / "src"), str(libraries), "/elsewhere"])
    monkeypatch.setenv("PYTHONPATH", f"{user}/src:/elsewhere")
    found = place_on_path(user, checkout)
    assert found[:2] == [str(checkout / "src"), "/elsewhere"]
    assert not any(str(user) in path for path in found)


def test_a_process_that_dies_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CellFailed, match="building it ended with exit code 1"):
        run_builder(tmp_path, tmp_path, [])
