"""What is missing for TensorRT is found without importing anything, and said with the way to get it."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from backends.trt import compile as host
from backends.trt.compile import TrtBackend
from backends.trt.cuda import opening
from backends.trt.cuda.driver import driver_version
from backends.trt.loading import load
from bench.errors import InvalidInput, Unavailable

NOWHERE = "libcuda-that-is-nowhere.so.1"


@pytest.fixture
def library(tmp_path: Path):
    """Builds a driver library that answers with a version or an error."""

    def build(version: int = 12040, answer: int = 0) -> str:
        if shutil.which("cc") is None:
            pytest.skip("no C compiler here: apt install gcc")
        out = tmp_path / f"libcuda-{version}-{answer}.so"
        source = Path(__file__).parents[2] / "fakes" / "fake_libcuda.c"
        flags = [f"-DVERSION={version}", f"-DANSWER={answer}", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, "-o", str(out), str(source)], check=True)
        return str(out)

    return build


def test_the_drivers_own_library_says_which_cuda_it_takes(library):
    assert driver_version(library(12040)) == (12, 4)
    assert driver_version(library(13000)) == (13, 0)


def test_no_driver_and_a_driver_that_does_not_answer_are_unavailable(library):
    with pytest.raises(Unavailable, match=r"no NVIDIA driver here.*nvidia-smi"):
        driver_version(NOWHERE)
    with pytest.raises(Unavailable, match="does not say its version"):
        driver_version(library(answer=100))


def test_the_probe_names_everything_that_is_missing_and_imports_none_of_it(monkeypatch):
    def never(name: str) -> None:
        raise AssertionError(f"{name} was imported to probe")

    monkeypatch.setattr(importlib, "import_module", never)
    monkeypatch.setattr(host, "driver_version", lambda: driver_version(NOWHERE))
    monkeypatch.setattr(host, "find_spec", lambda _: None)
    probe = TrtBackend().probe()
    assert not probe.available
    for reason in ("no TensorRT", "neither cuda-bindings nor pycuda", "no NVIDIA driver"):
        assert reason in probe.reason
    for remedy in ("pressbench[trt]", "JetPack", "pressbench[cuda]", "nvidia-smi"):
        assert remedy in probe.remedy


def test_the_probe_is_content_with_either_tensorrt_a_cuda_package_and_a_driver(monkeypatch, library):
    monkeypatch.setattr(host, "driver_version", lambda: driver_version(library(13000)))
    for present in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setattr(host, "find_spec", lambda name, here=present: name in (here, "pycuda") or None)
        probe = TrtBackend().probe()
        assert probe.available
        assert present in probe.version
        assert "driver for CUDA 13.0" in probe.version


def test_neither_cuda_package_is_unavailable_with_the_drivers_version(monkeypatch, library):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(opening, "driver_version", lambda: driver_version(library(12040)))
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Unavailable, match=r"CUDA 12\.4: pip install 'pressbench\[cuda\]'"):
        opening.open_device()


def module_of(version: str):
    return type("Module", (), {"__version__": version})


@pytest.mark.parametrize(
    ("installed", "flavour", "found"),
    [
        ({"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1"}, "auto", "10.3.0"),
        ({"tensorrt": "8.6.1", "tensorrt_rtx": "1.7.1"}, "auto", "rtx 1.7.1"),
        ({"tensorrt_rtx": "1.7.1"}, "auto", "rtx 1.7.1"),
        ({"tensorrt": "11.4.0", "tensorrt_rtx": "1.7.1"}, "rtx", "rtx 1.7.1"),
    ],
)
def test_the_flavour_decides_which_tensorrt_and_auto_takes_the_first_that_is_good(
    monkeypatch, installed, flavour, found
):
    monkeypatch.setattr(importlib, "import_module", importer(installed))
    assert load(flavour).title == found


def importer(installed):
    def imported(name: str) -> object:
        if name not in installed:
            raise ImportError(f"No module named {name!r}")
        return module_of(installed[name])

    return imported


def test_no_usable_tensorrt_is_unavailable_with_the_reason_of_each(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", importer({"tensorrt": "8.6.1"}))
    with pytest.raises(Unavailable, match=r"8\.6\.1 is too old.*No module named 'tensorrt_rtx'.*pressbench\[trt\]"):
        load("auto")
    with pytest.raises(InvalidInput, match="'auto', 'tensorrt', 'rtx'"):
        load("fast")
