"""When a kept engine holds, where engines and timings lie, and that nothing damaged is believed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from trt_doubles import FakeGpu

from backends.trt.build import Settings, read_settings
from backends.trt.engines import Engine, cache_folder, engine_key, keep_engine, load_engine, timings_path
from backends.trt.loading import TensorRT

GPU = FakeGpu("NVIDIA H200", "9.0")
TENSORRT = TensorRT(trt=None, flavour="tensorrt", version="11.4.0.106")
SETTINGS = Settings()


def key(content=b"network", tensorrt=TENSORRT, gpu=GPU, settings=SETTINGS) -> str:
    return engine_key(content, tensorrt, gpu, settings)


@pytest.mark.parametrize(
    "change",
    [
        {"content": b"another"},
        {"tensorrt": replace(TENSORRT, version="11.4.1")},
        {"tensorrt": replace(TENSORRT, flavour="rtx")},
        {"gpu": FakeGpu("NVIDIA H100", "9.0")},
        {"gpu": FakeGpu("NVIDIA H200", "8.9")},
        {"settings": Settings(tf32=True)},
        {"settings": Settings(sparse=True)},
        {"settings": Settings(workspace_mib=64)},
        {"settings": Settings(compute_capability="SM89")},
    ],
)
def test_whatever_an_engine_depends_on_changes_its_key(change):
    assert key(**change) != key()


def test_the_same_engine_has_the_same_key_and_running_it_another_way_does_not_change_it():
    assert key(gpu=FakeGpu("NVIDIA H200", "9.0")) == key()
    graph = read_settings({"cuda_graph": True, "cache": "/elsewhere", "flavour": "tensorrt"})
    assert key(settings=graph) == key()


def test_each_device_and_version_has_timings_of_its_own(tmp_path):
    path = timings_path(tmp_path, TENSORRT, GPU)
    assert path.name == "nvidia-h200-sm90-tensorrt-11.4.0.106.timings"
    others = {
        timings_path(tmp_path, TENSORRT, FakeGpu("NVIDIA H100", "9.0")),
        timings_path(tmp_path, replace(TENSORRT, version="10.3.0"), GPU),
        timings_path(tmp_path, replace(TENSORRT, flavour="rtx"), GPU),
        path,
    }
    assert len(others) == 4
    assert all(item.parent == tmp_path for item in others)


def test_a_gpus_name_cannot_lead_out_of_the_folder(tmp_path):
    assert timings_path(tmp_path, TENSORRT, FakeGpu("../../etc/x", "9.0")).parent == tmp_path


def test_the_cache_is_the_option_else_the_users_cache_else_beside_the_file(tmp_path):
    beside = tmp_path / "beside"
    assert cache_folder(str(tmp_path / "mine"), {}, beside) == tmp_path / "mine"
    assert cache_folder("", {"PRESSBENCH_CACHE": str(tmp_path / "p")}, beside) == tmp_path / "p" / "tensorrt"
    assert cache_folder("", {"XDG_CACHE_HOME": str(tmp_path / "x")}, beside) == tmp_path / "x/pressbench/tensorrt"
    assert cache_folder("", {"HOME": str(tmp_path / "h")}, beside) == tmp_path / "h/.cache/pressbench/tensorrt"
    assert cache_folder("", {}, beside) == beside / "tensorrt"
    (tmp_path / "file").write_text("no folder")
    assert cache_folder("", {"HOME": str(tmp_path / "file")}, beside) == beside / "tensorrt"


def test_a_kept_engine_comes_back_with_what_was_said_of_it(tmp_path):
    engine = Engine(plan=b"plan", facts={"built_s": 1.5, "log": ["INFO: built"]})
    keep_engine(tmp_path / "new", "key", engine)
    assert load_engine(tmp_path / "new", "key") == engine
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["key.engine", "key.json"]


def test_an_engine_that_is_read_counts_as_used(tmp_path):
    keep_engine(tmp_path, "key", Engine(plan=b"plan", facts={}))
    os.utime(tmp_path / "key.json", (1000.0, 1000.0))
    load_engine(tmp_path, "key")
    assert (tmp_path / "key.json").stat().st_mtime > 1000.0


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("key.engine", b"other"),
        ("key.engine", None),
        ("key.json", b"not json"),
        ("key.json", b"[]"),
        ("key.json", b"{}"),
        ("key.json", json.dumps({"sha256": "0" * 64}).encode()),
        ("key.json", None),
    ],
)
def test_what_is_not_what_was_stored_is_no_engine(tmp_path: Path, file: str, content: bytes | None):
    keep_engine(tmp_path, "key", Engine(plan=b"plan", facts={}))
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    assert load_engine(tmp_path, "key") is None
