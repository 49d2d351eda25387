"""Where the tests find TensorRT: installed, or in the folders of PRESSBENCH_TRT_BINDINGS."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.trt.loading import TensorRT, load

VARIABLE = "PRESSBENCH_TRT_BINDINGS"
HOW = (
    f"set {VARIABLE} to site-packages folders joined by {os.pathsep!r}, each made by pip install --target FOLDER: "
    "tensorrt-rtx==1.7.1.116 (the real builder); --no-deps tensorrt-cu13-bindings==11.4.0.106 and, in another, "
    "tensorrt-cu12-bindings==10.16.1.11 (every name)"
)
STUBS = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""The C functions of libnvinfer that the bindings link to."""


def folders() -> list[Path]:
    """The folders named by the environment that are there."""
    return [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name and Path(name).is_dir()]


def holding(package: str) -> list[Path]:
    """Those that hold a package."""
    return [folder for folder in folders() if (folder / package).is_dir()]


def load_rtx() -> TensorRT:
    """TensorRT for RTX, whose builder and parser run without a GPU; or a skip that says how to get it."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        found = holding("tensorrt_rtx")
        if not found:
            pytest.skip(f"tensorrt-rtx is not installed: pip install 'pressbench[trt]', or {HOW}")
        sys.path.append(str(found[0]))
    return load("rtx")


def stub_libraries(folder: Path, major: int) -> list[Path]:
    """Empty libraries under the names the bindings of a major version want: enough to import them."""
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    made = []
    for name in STUBS:
        library = folder / f"lib{name}.so.{major}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
        content = [str(source)] if name == "nvinfer" else ["-x", "c", os.devnull]
        subprocess.run(["cc", *flags, "-o", str(library), *content], check=True)
        made.append(library)
    return made
