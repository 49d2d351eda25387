"""Every name of TensorRT that the adapter uses exists in the real bindings of TensorRT 10, 11 and for RTX."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trt_bindings import HOW, holding, load_rtx, stub_libraries

import backends.trt

FOLDER = Path(backends.trt.__file__).parent
OBJECTS = {
    "build": {
        "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
        "cache": "ITimingCache", "error": "ParserError",
    },
    "network": {
        "runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext", "inspector": "EngineInspector",
        "runtime_config": "IRuntimeConfig", "runtime_cache": "IRuntimeCache", "_runtime_cache": "IRuntimeCache",
    },
    "profile": {"context": "IExecutionContext"},
    "session": {"context": "IExecutionContext", "engine": "ICudaEngine"},
}  # fmt: skip
"""Module -> name of a variable or attribute -> the class of TensorRT it is of."""
ONLY_RTX = {
    "ComputeCapability", "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability",
    "IRuntimeConfig.create_runtime_cache", "IRuntimeConfig.set_runtime_cache", "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
}  # fmt: skip
LOOK = """
import ctypes, importlib, json, sys
package, libraries, names = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
for library in libraries:
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
module = importlib.import_module(package)
missing = []
for name in names:
    found = module
    for part in name.split("."):
        if part not in dir(found):
            missing.append(name)
            break
        found = getattr(found, part)
print(json.dumps([module.__version__, missing]))
"""


def used_names() -> set[str]:
    """`BuilderFlag.TF32`, `Builder.create_network`, ...: read from the adapter's source."""
    found: set[str] = set()
    for path in FOLDER.glob("*.py"):
        classes = OBJECTS.get(path.stem, {})
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            chain = dotted(node).split(".")
            if "trt" in chain[:-1] and chain[0] != "backends":
                found.add(".".join(chain[chain.index("trt") + 1 :]))
            elif chain[-2:-1] and chain[-2] in classes:
                found.add(f"{classes[chain[-2]]}.{chain[-1]}")
    return found


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def test_the_source_yields_the_names_that_matter():
    names = used_names()
    assert {
        "Builder.create_network", "Builder.build_serialized_network", "OnnxParser.parse", "ParserError.node_name",
        "IBuilderConfig.create_timing_cache", "Runtime.deserialize_cuda_engine", "ICudaEngine.device_memory_size_v2",
        "IExecutionContext.execute_async_v3", "IExecutionContext.profiler", "EngineInspector.get_engine_information",
        "BuilderFlag.TF32", "BuilderFlag.SPARSE_WEIGHTS", "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "IProfiler",
        "ILogger", "ErrorCode.MODEL_DESERIALIZE_FAILED", "nptype",
    } <= names  # fmt: skip
    assert names >= ONLY_RTX


@pytest.mark.parametrize("removed", ["FP16", "INT8", "layer.precision", "EXPLICIT_BATCH", "device_memory_size\\b"])
def test_nothing_is_used_that_tensorrt_11_removed(removed):
    assert not [name for name in used_names() if re.search(removed, name)]


def look(package: str, folder: Path | None, libraries: list[Path], names: set[str]) -> tuple[str, list[str]]:
    """The version of the bindings and the names they lack, asked in a process of its own."""
    path = [f"import sys; sys.path.append({str(folder)!r})"] if folder else []
    program = "\n".join([*path, LOOK])
    arguments = [package, json.dumps([str(item) for item in libraries]), json.dumps(sorted(names))]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    version, missing = json.loads(done.stdout.splitlines()[-1])
    return version, missing


@pytest.mark.parametrize("major", [10, 11])
def test_tensorrt_has_every_name(major, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here: apt install gcc")
    names = {name for name in used_names() if name not in ONLY_RTX}
    for folder in holding("tensorrt_bindings"):
        wanted = f"libnvinfer.so.{major}".encode()
        if wanted not in next((folder / "tensorrt_bindings").glob("tensorrt*.so")).read_bytes():
            continue
        version, missing = look("tensorrt_bindings", folder, stub_libraries(tmp_path, major), names)
        assert version.startswith(f"{major}.")
        assert missing == []
        return
    pytest.skip(f"no bindings of TensorRT {major}: {HOW}")


def test_tensorrt_for_rtx_has_every_name():
    rtx = load_rtx()
    folder = Path(rtx.trt.__file__).parent.parent
    version, missing = look("tensorrt_rtx", folder, [], used_names())
    assert version == rtx.version
    assert missing == []
