"""The counts against what others published of the same networks, and against torch's own counter."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.compress.export import export
from bench.cost.count import cost_of
from bench.cost.show import cost_json
from bench.models.factory import build
from bench.models.registry import resolve
from bench.types import Cost

GOLDEN = Path(__file__).parent.parent / "golden"
PUBLISHED = [
    ("alexnet", "AlexNet", "IMAGENET1K_V1"),
    ("mobilenetv2", "MobileNet_V2", "IMAGENET1K_V1"),
    ("mobilenetv2", "MobileNetV2", "1.0_224"),
    ("mobilenetv2(width=0.75, size=160)", "MobileNetV2", "0.75_160"),
    ("mobilenetv2(width=0.35, size=96)", "MobileNetV2", "0.35_96"),
    ("mobilenetv1", "MobileNetV1", "1.0_224"),
    ("mobilenetv1(width=0.5, size=192)", "MobileNetV1", "0.50_192"),
    ("mobilenetv1(width=0.25, size=128)", "MobileNetV1", "0.25_128"),
]
COUNTED = ["lenet5", "lenet300_100", "resnet8", "dscnn", "autoencoder", "mobilenetv1(width=0.25, size=96)"]


@pytest.fixture(scope="module")
def costed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[nn.Module, Cost]]:
    """Network and cost of its plain graph, BatchNorm kept; every network exported once."""
    known: dict[str, tuple[nn.Module, Cost]] = {}

    def get(text: str) -> tuple[nn.Module, Cost]:
        if text not in known:
            model = resolve(text, None)
            network = scattered(build(model, 0))
            file = tmp_path_factory.mktemp("net") / "net.onnx"
            plain_export(network, torch.zeros(1, *model.input_shape), file)
            known[text] = network, cost_of(file)
        return known[text]

    return get


def scattered(network: nn.Module) -> nn.Module:
    """All values different from zero and each other: exporters drop zero biases and merge equal tensors."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1.0, generator=generator)
    return network.eval()


def plain_export(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    """The tracing exporter, told to keep BatchNorm: a second exporter, so that the count leans on neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            file,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )


def published(shared_costs: Path, model: str, variant: str) -> dict[str, str]:
    with shared_costs.open(newline="") as stream:
        return next(row for row in csv.DictReader(stream) if (row["model"], row["variant"]) == (model, variant))


@pytest.mark.parametrize(("text", "model", "variant"), PUBLISHED)
def test_macs_are_within_half_a_percent_of_the_published(
    costed: Callable, onnx_cases: Path, text: str, model: str, variant: str
) -> None:
    """The tables are cut to whole millions (300.77 is printed as 300 and as 301): one is allowed on top."""
    row = published(onnx_cases.parent / "reference_costs.csv", model, variant)
    cost = costed(text)[1]
    assert cost.unknown == ()
    assert cost.macs == pytest.approx(int(row["macs"]), abs=0.005 * int(row["macs"]) + 1_000_000)


@pytest.mark.parametrize(("text", "params"), [("alexnet", 61_100_840), ("mobilenetv2", 3_504_872)])
def test_params_are_exactly_the_published(costed: Callable, text: str, params: int) -> None:
    network, cost = costed(text)
    assert cost.params == params == sum(tensor.numel() for tensor in network.parameters())
    assert cost.nonzero_params == params


@pytest.mark.parametrize("text", COUNTED)
def test_macs_and_params_agree_with_torchs_own_counter(costed: Callable, text: str) -> None:
    network, cost = costed(text)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *resolve(text, None).input_shape))
    assert cost.flops == counter.get_total_flops()
    assert cost.params == sum(tensor.numel() for tensor in network.parameters())


class Attention(nn.Module):
    """Products of activations, grouped and transposed convolutions in one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 4, stride=4)
        self.mix = nn.Conv2d(24, 24, 3, padding=1, groups=6)
        self.up = nn.ConvTranspose2d(24, 24, 2, stride=2)
        self.attend = nn.MultiheadAttention(24, 4, batch_first=True)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.mix(self.patch(x))).flatten(2).transpose(1, 2)
        x = self.norm(x + self.attend(x, x, x, need_weights=False)[0])
        return self.head(x.mean(1))


def test_an_attention_network_costs_what_torch_counts(tmp_path: Path) -> None:
    """Its counter misses the fused attention kernels of a CPU, so the plain one is run, gradients on."""
    network = scattered(Attention())
    file = tmp_path / "net.onnx"
    file.write_bytes(export(network, (torch.zeros(2, 3, 32, 32),)).onnx)
    cost = cost_of(file)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    assert cost.unknown == ()
    assert cost.flops == counter.get_total_flops()
    assert cost.params == sum(tensor.numel() for tensor in network.parameters())


def test_folding_batchnorm_leaves_one_bias_where_there_were_a_scale_and_a_bias(tmp_path: Path) -> None:
    """The deployed file is counted as it is: the same MACs, and one parameter less per normalised channel."""
    network = scattered(build(resolve("resnet8", None), 0))
    file = tmp_path / "net.onnx"
    file.write_bytes(export(network, (torch.zeros(2, 3, 32, 32),)).onnx)
    channels = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    cost = cost_of(file)
    assert cost.params == sum(tensor.numel() for tensor in network.parameters()) - channels
    weighted = {layer.name for layer in cost.layers if layer.macs}
    assert weighted == {name for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}


def test_a_face_detector_nobody_here_trained_costs_what_its_authors_say(onnx_cases: Path) -> None:
    """Their README: 90 to 109 MFlops for the pair, counted as MACs."""
    big, small = (cost_of(onnx_cases / f"version-{name}-320_simplified.onnx") for name in ("RFB", "slim"))
    assert 90e6 <= big.macs <= 109e6
    assert small.macs < big.macs
    assert big.unknown == small.unknown == ()


LIGHT = {
    "light_vgg19": ("VGG19", "IMAGENET1K_V1", 0),
    "light_resnet50": ("ResNet50", "IMAGENET1K_V1", 0),
    "light_densenet121": ("DenseNet121", "IMAGENET1K_V1", 83_648),
    "light_squeezenet": ("SqueezeNet1_1", "IMAGENET1K_V1", 0),
}


@pytest.mark.parametrize("name", LIGHT)
def test_graphs_from_other_exporters_cost_what_torchvision_publishes(onnx_cases: Path, name: str) -> None:
    """Caffe2's own graphs, as the onnx package ships them; its DenseNet keeps the affine layers of Caffe apart."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model, variant, more = LIGHT[name]
    row = published(onnx_cases.parent / "reference_costs.csv", model, variant)
    cost = cost_of(folder / f"{name}.onnx")
    assert cost.params == int(row["params"]) + more
    assert cost.macs == pytest.approx(int(row["macs"]), rel=0.005)


TFLITE = [
    ("pretrainedResnet.tflite", "pretrainedResnet_quant.tflite", 77_706),
    ("ad01_fp32.tflite", "ad01_int8.tflite", 265_864),
    ("vww_96_float.tflite", "vww_96_int8.tflite", 210_850),
]


@pytest.mark.parametrize(("real", "quantized", "params"), TFLITE)
def test_a_tflite_pair_costs_the_same_in_float_and_int8(
    tflite_cases: Path, real: str, quantized: str, params: int
) -> None:
    floats, integers = cost_of(tflite_cases / real), cost_of(tflite_cases / quantized)
    assert floats.params == integers.params == params
    assert floats.macs == integers.macs > 0
    assert floats.unknown == integers.unknown == ()
    assert floats.activation_bytes == 4 * integers.activation_bytes
    assert floats.peak_activation_bytes == 4 * integers.peak_activation_bytes
    assert integers.weight_bytes < 0.36 * floats.weight_bytes


def test_the_same_network_costs_the_same_in_onnx_and_tflite(costed: Callable, tflite_cases: Path) -> None:
    """ResNet-8 of MLPerf Tiny: ours from torch, theirs from Keras with BatchNorm folded, biases kept."""
    ours, theirs = costed("resnet8")[1], cost_of(tflite_cases / "pretrainedResnet.tflite")
    assert ours.macs == theirs.macs
    ours, theirs = costed("autoencoder")[1], cost_of(tflite_cases / "ad01_fp32.tflite")
    assert ours.macs == theirs.macs


@pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="LiteRT's own schema is not installed")
@pytest.mark.parametrize("name", [name for pair in TFLITE for name in pair[:2]])
def test_weights_and_their_zeros_agree_with_litert_s_own_reader(tflite_cases: Path, name: str) -> None:
    """Every constant of the main graph, through the accessors LiteRT ships."""
    from ai_edge_litert import schema_py_generated as schema

    content = (tflite_cases / name).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    size = nonzero = 0
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        scales = tensor.quantization.scale if tensor.quantization is not None else None
        real = tensor.type == schema.TensorType.FLOAT32 or scales is not None
        if data is None or not real or tensor.shape is None:
            continue
        kinds = {0: torch.float32, 2: torch.int32, 9: torch.int8}
        values = torch.frombuffer(bytearray(data), dtype=kinds[tensor.type])
        size += values.numel()
        nonzero += int(values.count_nonzero())
    cost = cost_of(tflite_cases / name)
    assert (cost.params, cost.nonzero_params) == (size, nonzero)


@pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="LiteRT's own schema is not installed")
def test_our_table_of_operators_and_types_is_litert_s() -> None:
    from ai_edge_litert import schema_py_generated as schema

    from bench.cost.tflite_rules import FREE, FREE_ELEMENTWISE
    from bench.formats.tflite_schema import KINDS, OPERATORS

    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    assert {code: name for code, name in enumerate(OPERATORS) if code in codes} == codes
    types = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    assert all(types[code] == kind.name for code, kind in KINDS.items())
    assert set(FREE) | set(FREE_ELEMENTWISE) <= set(OPERATORS)


COLUMNS = ("operator", "params", "nonzero_params", "macs", "nonzero_macs", "weight_bytes", "activation_bytes")


def test_the_layer_table_of_a_known_file_does_not_change_unnoticed(tflite_cases: Path) -> None:
    """Frozen after the totals above agreed with others: a change of convention must show."""
    layers = cost_json(cost_of(tflite_cases / "pretrainedResnet_quant.tflite"))["layers"]
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(layers)
    assert table.getvalue() == (GOLDEN / "cost_resnet8_int8.csv").read_text()
