"""Messages name the user's file, and not a path inside the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import CellFailed, Unavailable
from bench.line.wording import name_users_file, users_file_named

CACHE = Path("/home/u/.cache/pressbench")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{CACHE}/compiled/0a1b/model.onnx: operator Magic is unknown", "net.onnx: operator Magic is unknown"),
        (f"cannot load '{CACHE}/inlined/9f/model.onnx'", "cannot load 'net.onnx'"),
        (
            f"[Fail] Load model from {CACHE}/compiled/.part-0a1b/model.onnx failed",
            "[Fail] Load model from net.onnx failed",
        ),
        ("model.tflite: no such file on the device", "net.onnx: no such file on the device"),
        (f"cannot write the cache at {CACHE}: No space left", f"cannot write the cache at {CACHE}: No space left"),
        ("nets/model.onnx is damaged", "nets/model.onnx is damaged"),
        ("my-model.onnx is damaged", "my-model.onnx is damaged"),
    ],
)
def test_a_path_in_the_cache_becomes_the_users_file(text, words):
    assert name_users_file(text, CACHE, "net.onnx") == words


def test_of_two_files_each_is_named_by_its_own_folder():
    known = {CACHE / "compiled/aa": "a.onnx", CACHE / "compiled/bb": "b.onnx"}
    text = f"{CACHE}/compiled/bb/model.onnx after {CACHE}/compiled/aa/model.onnx and {CACHE}/compiled/cc/model.onnx"
    assert name_users_file(text, CACHE, "one of them", known) == "b.onnx after a.onnx and one of them"


def test_an_error_keeps_its_kind_and_one_that_names_no_cached_file_is_the_same_error():
    with (
        pytest.raises(CellFailed, match=r"^C:\\net\.onnx is damaged$") as caught,
        users_file_named(CACHE, r"C:\net.onnx"),
    ):
        raise CellFailed(f"{CACHE}/compiled/aa/model.onnx is damaged")
    assert isinstance(caught.value.__cause__, CellFailed)
    original = Unavailable("no driver")
    with pytest.raises(Unavailable) as caught, users_file_named(CACHE, "net.onnx"):
        raise original
    assert caught.value is original
