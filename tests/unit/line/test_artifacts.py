"""The cache of compiled files: made once, noticed when damaged."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from bench import plugins
from bench.errors import Unsupported
from bench.line.artifacts import compile_cached
from bench.plugins import available, load
from bench.types import Artifact, Backend, Compressed, Conditions, Probe, QuantSpec


class Counting(Backend):
    name = "counting"
    accepts = ("onnx",)
    session = None
    options = {"mode": ("a", "b")}
    compilers = ("quantizer", "converter")

    def __init__(self):
        self.calls = 0

    def probe(self):
        return Probe(available=True, version="1")

    def compile(self, source, conditions, options, out):
        self.calls += 1
        if options.get("mode") == "b":
            raise Unsupported("no b")
        path = out / "model.bin"
        path.write_text(f"{source.digest} {conditions.batch}")
        return Artifact(path=path, format="bin", digest="", facts={"said": self.calls})


RUNTIMES = {
    "executorch": {"executorch"},
    "hls": {"hls4ml"},
    "litert": {"ai-edge-litert"},
    "openvino": {"openvino"},
    "ort": {"onnxruntime", "onnxruntime-gpu"},
    "pytorch": {"torch"},
    "trt": {"tensorrt", "tensorrt-rtx"},
    "vela": {"ethos-u-vela"},
}
"""The distributions whose version each backend's probe tells."""
SOURCE = Compressed(model="m", recipe="r", files={"onnx": Path("x")}, inputs=(), digest="abc")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ort", "tflite", r"m: backend ort takes \.onnx, there is \.tflite; name another backend"),
        ("trt", "pt2", r"trt takes \.onnx, there is \.pt2"),
        ("pytorch", "onnx", r"pytorch takes \.pt2, there is \.onnx"),
        ("ort", "qonnx", r"m is a QONNX file, which backend ort cannot read: target fpga takes it"),
        ("litert", "h5", r"litert takes \.tflite or \.pt2 or \.onnx, there is \.h5"),
    ],
)
def test_a_file_the_backend_does_not_take_is_left_out_and_not_failed(tmp_path, name, kind, message):
    source = replace(SOURCE, files={kind: tmp_path / f"net.{kind}"})
    with pytest.raises(Unsupported, match=message):
        compile_cached(load("backend", name)(), source, Conditions(), {}, tmp_path)
    assert not (tmp_path / "compiled").exists()


def test_the_same_content_is_compiled_once(tmp_path):
    backend = Counting()
    first = compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    again = compile_cached(backend, SOURCE, Conditions(threads=2), {}, tmp_path)
    assert backend.calls == 1
    assert first == again
    assert again.facts == {"said": 1}


def test_another_batch_or_option_is_another_file(tmp_path):
    backend = Counting()
    first = compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    second = compile_cached(backend, SOURCE, Conditions(batch=8), {}, tmp_path)
    assert first.digest != second.digest
    assert backend.calls == 2


def test_another_version_of_a_converter_compiles_anew(tmp_path, monkeypatch):
    """The runtime's own version is one of many that decide the bytes; one that is missing counts too."""
    installed = {"quantizer": "0.1"}

    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(plugins, "version", version)
    backend = Counting()
    compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    installed["quantizer"] = "0.2"
    compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    assert backend.calls == 2
    installed["converter"] = "1.0"
    compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    assert backend.calls == 3


@pytest.mark.parametrize("name", sorted(available("backend")))
def test_every_backend_names_what_it_compiles_with(name):
    """At least one distribution besides the runtime, whose version the probe tells."""
    assert set(load("backend", name).compilers) - RUNTIMES[name]


def test_a_damaged_file_is_compiled_again(tmp_path):
    backend = Counting()
    first = compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    first.path.write_text("rot")
    again = compile_cached(backend, SOURCE, Conditions(), {}, tmp_path)
    assert backend.calls == 2
    assert again.path.read_text() == "abc 1"


def test_what_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(Unsupported):
        compile_cached(Counting(), SOURCE, Conditions(), {"mode": "b"}, tmp_path)
    assert list((tmp_path / "compiled").iterdir()) == []


@pytest.mark.parametrize(
    "name", [name for name in sorted(available("backend")) if not load("backend", name).fixed_point]
)
def test_fixed_point_goes_to_the_target_that_computes_it(tmp_path, name):
    backend = load("backend", name)()
    source = replace(SOURCE, files={backend.accepts[0]: tmp_path / "x"}, quant=QuantSpec(kind="fixed"))
    with pytest.raises(Unsupported, match=f"m: backend {name} does not compute in the fixed point .* target fpga does"):
        compile_cached(backend, source, Conditions(batch=1, threads=1), {}, tmp_path)
    assert not list(tmp_path.iterdir())
