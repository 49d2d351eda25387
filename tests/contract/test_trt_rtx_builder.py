"""TensorRT for RTX's own parser and builder take every file the adapter writes; they run without a GPU."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from ort_nets import SHAPE, calibration, compressed, convnet, save
from small_network import MODEL
from trt_bindings import load_rtx

from backends.ort.compile import OrtBackend
from backends.trt.build import Settings, build
from backends.trt.compile import TrtBackend
from backends.trt.engines import Engine, keep_engine, load_engine
from backends.trt.network import Network
from bench.compress.calibration import CalibrateOn
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, Unsupported
from bench.models.registry import resolve
from bench.types import Artifact, Compressed, Conditions, QuantSpec, Scalar

RECIPES = {
    "baseline": "",
    "sparse": "prune(amount=0.5, scope='layer')",
    "two-four": "nm(n=2, m=4)",
    "channels": "channels(amount=0.5)",
    "int8": "int8(calibration='minmax', samples=16)",
    "float16": "float16()",
    "channels-int8": "channels(amount=0.5) + int8(samples=16)",
    "channels-float16": "channels(amount=0.5) + float16()",
}
"""The kinds of the default suite, untrained: what is built does not depend on the weights' values."""
NETWORKS = ("small", "lenet5", "resnet8")
LARGE = ("mobilenetv2(width=0.35)",)
QUICK = ("baseline", "channels-int8", "float16")
OTHERS = tuple(name for name in RECIPES if name not in QUICK)
GENERATIONS = ("SM80", "SM89")
OPTIONS: dict[str, dict[str, Scalar]] = {
    "as the recipe says": {},
    "the rest float16": {"precision": "float16"},
    "the rest bfloat16": {"precision": "bfloat16"},
}


@pytest.fixture(scope="module")
def rtx():
    return load_rtx()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory):
    """Network and recipe -> the compressed model, made once."""
    folder, known = tmp_path_factory.mktemp("sources"), {}

    def source(network: str, recipe: str) -> Compressed:
        if (network, recipe) not in known:
            model = MODEL if network == "small" else resolve(network, input_shape=(1, 8, 8))
            parsed = parse_recipe(recipe, RECIPES[recipe])
            model = model if network != "small" else type(model)(**{**fields(model), "data": None})
            known[network, recipe] = compress(
                model,
                parsed,
                data=None,
                cache=folder,
                seed=0,
                progress=lambda _what, _done: None,
                calibrate=CalibrateOn(random=True),
            )
        return known[network, recipe]

    return source


def fields(noun: object) -> dict[str, object]:
    return {name: getattr(noun, name) for name in noun.__dataclass_fields__}


def made(source: Compressed, out: Path, *, batch: int = 1, **options: Scalar) -> Artifact:
    out.mkdir(parents=True, exist_ok=True)
    return TrtBackend().compile(source, Conditions(batch=batch), options, out)


def built(rtx, artifact: Artifact, generation: str, **settings: object):
    chosen = Settings(compute_capability=generation, **settings)
    return build(rtx, artifact.path.name, artifact.path.read_bytes(), chosen, b"")


def complaints(facts: dict[str, object]) -> list[str]:
    return [line for line in facts["log"] if line.startswith(("ERROR", "INTERNAL_ERROR"))]


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        *product(NETWORKS[:1], RECIPES),
        *product(NETWORKS[1:], QUICK),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [*product(NETWORKS[1:], OTHERS), *product(LARGE, QUICK)]
        ),
    ],
)
def test_every_recipe_is_parsed_and_built_for_ampere_and_ada(rtx, sources, tmp_path, network, recipe):
    artifact = made(sources(network, recipe), tmp_path / "out")
    for generation in GENERATIONS:
        found = built(rtx, artifact, generation)
        assert len(found.plan) > 1000
        assert found.facts["network_layers"] >= len(sources(network, recipe).layers)
        assert complaints(found.facts) == []


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("recipe", ["baseline", "int8"])
@pytest.mark.parametrize("batch", [1, 8])
def test_every_precision_is_built_at_every_batch(rtx, sources, tmp_path, recipe, options, batch):
    artifact = made(sources("resnet8", recipe), tmp_path / "out", batch=batch, **OPTIONS[options])
    assert complaints(built(rtx, artifact, "SM89").facts) == []


@pytest.mark.parametrize("settings", [{"tf32": True}, {"sparse": True}, {"workspace_mib": 64}])
def test_every_setting_is_taken(rtx, sources, tmp_path, settings):
    artifact = made(sources("small", "two-four"), tmp_path / "out")
    assert built(rtx, artifact, "SM80", **settings).plan


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("block", [0, 8])
def test_packed_weights_are_built(rtx, tmp_path, bits, block):
    net = convnet(tmp_path / "net.onnx")
    quant = QuantSpec(kind="weight_only", weight_bits=bits, block_size=block if bits == 4 else 0)
    assert built(rtx, made(compressed(net, quant), tmp_path / "out"), "SM89").plan


def test_a_file_another_quantizer_made_is_taken_once_its_biases_are_folded(rtx, tmp_path):
    """As the CPU variant leaves it for TensorRT: symmetric, but with int32 biases, which TensorRT refuses."""
    net = convnet(tmp_path / "net.onnx")
    (tmp_path / "theirs").mkdir()
    quant = QuantSpec(kind="static")
    theirs = OrtBackend().compile(
        compressed(net, quant, calibration(tmp_path / "data.npz")),
        Conditions(batch=2),
        {"provider": "cuda"},
        tmp_path / "theirs",
    )
    with pytest.raises(Unsupported, match="bias"):
        built(rtx, theirs, "SM89")
    folded = made(compressed(theirs.path), tmp_path / "out", batch=2)
    assert folded.facts["biases_folded"] == 3
    assert built(rtx, folded, "SM89").plan


def test_what_onnx_runtime_writes_for_its_tensorrt_provider_is_taken_by_tensorrts_parser(rtx, tmp_path):
    (tmp_path / "theirs").mkdir()
    source = compressed(convnet(tmp_path / "net.onnx"), QuantSpec(kind="static"), calibration(tmp_path / "data.npz"))
    theirs = OrtBackend().compile(source, Conditions(), {"provider": "tensorrt"}, tmp_path / "theirs")
    assert built(rtx, theirs, "SM89").plan


def test_the_parser_itself_refuses_what_the_compiler_refuses_first(rtx, tmp_path):
    """A zero point of 3: without the compiler's check the target would say so, in its own words."""
    zero = np.array(3, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output"], name="dequantize"),
    ]
    path = save(tmp_path / "zero.onnx", nodes, {"scale": np.array(0.1), "zero": zero}, [1, *SHAPE], [1, *SHAPE])
    with pytest.raises(Unsupported, match="quantize"):
        build(rtx, path.name, path.read_bytes(), Settings(compute_capability="SM89"), b"")


def test_every_node_the_real_parser_refuses_is_named(rtx, tmp_path):
    nodes = [
        helper.make_node("Polish", ["input"], ["a"], domain="com.acme", name="first"),
        helper.make_node("Varnish", ["a"], ["b"], domain="com.acme", name="second"),
        helper.make_node("Relu", ["b"], ["output"], name="relu"),
    ]
    path = save(tmp_path / "own.onnx", nodes, {}, ["batch", *SHAPE], ["batch", *SHAPE], domains=("com.acme",))
    artifact = made(compressed(path), tmp_path / "out")
    with pytest.raises(Unsupported, match=r"refuses 2 nodes: first \(Polish\): .*; second \(Varnish\)"):
        built(rtx, artifact, "SM89")


@pytest.mark.parametrize("content", [b"not a model", b"\x08\x09\x12\x00"])
def test_what_is_no_onnx_file_is_invalid(rtx, content):
    with pytest.raises(InvalidInput, match="broken"):
        build(rtx, "broken.onnx", content, Settings(compute_capability="SM89"), b"")


def test_the_same_file_gives_an_engine_again_and_the_cache_returns_its_bytes(rtx, sources, tmp_path):
    artifact = made(sources("lenet5", "baseline"), tmp_path / "out")
    found = built(rtx, artifact, "SM89")
    keep_engine(tmp_path, "key", Engine(plan=found.plan, facts=found.facts))
    assert load_engine(tmp_path, "key").plan == found.plan


def test_an_engine_that_cannot_be_loaded_is_refused_without_a_crash(rtx, sources, tmp_path):
    """Without a driver the real runtime accepts no engine at all; with one, not a damaged one."""
    network = Network(rtx, None, tmp_path / "kernels")
    assert network.accept(b"no engine") is False
    plan = built(rtx, made(sources("lenet5", "baseline"), tmp_path / "out"), "SM89").plan
    assert network.accept(plan[: len(plan) // 2]) is False


def test_a_generation_without_kernels_is_unsupported_in_the_builders_words(rtx, sources, tmp_path):
    with pytest.raises(Unsupported, match="Turing"):
        built(rtx, made(sources("lenet5", "baseline"), tmp_path / "out"), "SM75")


def test_batch_norms_are_gone_and_the_network_has_no_free_dimension(rtx, sources, tmp_path):
    model = onnx.load(str(made(sources("small", "baseline"), tmp_path / "out", batch=4).path))
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [4, 1, 8, 8]


def test_importing_the_adapter_and_probing_imports_no_tensorrt():
    program = (
        "import sys; from backends.trt.compile import TrtBackend; TrtBackend().probe(); "
        "print([name for name in sys.modules if name.startswith(('tensorrt', 'cuda', 'pycuda', 'onnxruntime', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
