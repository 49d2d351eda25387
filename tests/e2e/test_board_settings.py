"""Settings that a target asks for: set by the worker where it runs, recorded, and restored when it was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sshd
from needs import lacking
from waiting import wait_until

from bench.config.suite import Measure
from bench.config.target import load_target
from bench.device.job import Settings
from bench.errors import CellFailed, InvalidInput
from bench.line.measure import Bench, measure_artifact
from bench.reach.local import Local
from bench.reach.open import open_reach
from bench.types import Artifact, Conditions

FAKES = Path(__file__).parent.parent / "fakes"


@pytest.fixture(autouse=True)
def fakes(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=":")
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path / "notes"))


@pytest.fixture
def governor(tmp_path):
    policy = tmp_path / "root/sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_available_governors").write_text("performance schedutil")
    (policy / "scaling_governor").write_text("schedutil")
    return policy / "scaling_governor"


def artifact(folder: Path, **told) -> Artifact:
    (folder / "model.json").write_text(json.dumps({"gain": 2.0, "busy": 200, **told}))
    return Artifact(path=folder / "model.json", format="json", digest="m")


def bench(reach, **limits) -> Bench:
    return Bench(
        reach=reach,
        session="fake_session:FakeSession",
        conditions=Conditions(),
        measure=Measure(**{"launches": 1, "time_s": 0.2, "warmup_s": 0.1, "limit_s": 100, **limits}),
        settings=Settings(governor="performance"),
    )


class Rooted(Local):
    """This machine with another /sys."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def run(self, job, workdir, limit_s):
        from dataclasses import replace

        return super().run(replace(job, root=str(self._root)), workdir, limit_s)


def check(reach, governor: Path, tmp_path: Path) -> None:
    """A whole launch records what was set; a killed one leaves nothing set."""
    found = measure_artifact(bench(reach), artifact(tmp_path))
    settings = found.launches[0].facts["settings"]
    assert settings == {"governor": {"set": "performance", "before": {"policy0": "schedutil"}}}
    assert "performance" in found.launches[0].climate[0].governors
    assert found.distrust == ()
    assert governor.read_text() == "schedutil"
    hanging = artifact(tmp_path, behave="hang with a child", pidfile=str(tmp_path / "pid"))
    with pytest.raises(CellFailed, match="no end after 6 s"):
        measure_artifact(bench(reach, limit_s=6), hanging)
    wait_until(lambda: governor.read_text() == "schedutil")


def test_on_this_machine(governor, tmp_path):
    check(Rooted(tmp_path / "root"), governor, tmp_path)


def test_on_a_board(governor, tmp_path):
    if reason := sshd.missing():
        lacking("sshd", reason)
    with sshd.running(tmp_path / "double") as double:
        path = tmp_path / "target.toml"
        path.write_text(double.target(root=str(tmp_path / "root")) + '[[backend]]\nname = "ort"\n')
        reach = open_reach(load_target(str(path)), "")
        try:
            check(reach, governor, tmp_path)
        finally:
            reach.close()


@pytest.mark.parametrize(
    ("reach", "lines", "words"),
    [
        ("emulated", 'governor = "performance"', "key 'settings': 'emulated' is not a real device"),
        ("local", "nvpmodel = -1", "key 'settings.nvpmodel'"),
        ("local", 'governer = "performance"', "governer"),
        ("local", 'jetson_clocks = "yes"', "jetson_clocks"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, reach, lines, words):
    path = tmp_path / "target.toml"
    path.write_text(f'name = "t"\nreach = "{reach}"\n[[backend]]\nname = "ort"\n[settings]\n{lines}\n')
    with pytest.raises(InvalidInput, match=words):
        load_target(str(path))
