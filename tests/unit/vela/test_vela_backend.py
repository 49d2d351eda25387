"""Ethos-U estimates of the MLPerf Tiny files, and every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.vela.compile import VelaBackend, _make_simulation
from backends.vela.estimate import read_estimate
from bench.errors import CellFailed, InvalidInput, Unsupported
from bench.types import Compressed, Conditions, QuantSpec, Simulation

pytest.importorskip("ethosu.vela", reason="pip install 'pressbench[vela]'")

SUMMARY = (
    "system_config,memory_mode,core_clock,arena_cache_size,inference_time,cycles_total,nn_macs,"
    "sram_memory_used,on_chip_flash_memory_used,off_chip_flash_memory_used,dram_memory_used\n"
    "S,M,500000000.0,4.0,0.002,1000000,77,1.5,0.25,0.5,0.0\n"
)
LAYERS = (
    "Original Operator,NNG Operator,Target,Op Cycles,MAC Count,Util% (MAC),Name\n"
    "Conv2D,Conv2D,NPU,900000,70,12.5,first\n"
    "Custom,Passthrough,CPU,0,0,100,second\n"
    "Custom,Passthrough,CPU,0,0,NaN,third\n"
)


def source(tflite_cases: Path, stem: str, quant: QuantSpec | None = None) -> Compressed:
    return Compressed(
        model=stem,
        recipe="r",
        files={"tflite": tflite_cases / f"{stem}.tflite"},
        inputs=(),
        digest="d",
        quant=quant,
    )


def estimate(tflite_cases: Path, stem: str, folder: Path, **options: str | int) -> Simulation:
    backend = VelaBackend()
    artifact = backend.compile(source(tflite_cases, stem), Conditions(), options, folder)
    return backend.simulate(artifact, Conditions(), options)


def test_the_estimate_is_simulated_whole_and_consistent(tflite_cases: Path, tmp_path: Path) -> None:
    """Every figure is there; time is cycles over clock; the layers' cycles sum to the network's."""
    found = estimate(tflite_cases, "pretrainedResnet_quant", tmp_path)
    assert found.cycles is not None
    assert found.latency_ms == pytest.approx(found.cycles / found.notes["clock_hz"] * 1e3)
    assert sum(layer["cycles"] for layer in found.layers) == pytest.approx(found.cycles, rel=0.01)
    assert found.memory_bytes is not None
    assert 32 * 32 * 3 < found.memory_bytes < 1 << 20
    assert 70_000 < found.notes["flash_bytes"] < 100_000  # 77,706 parameters of one byte
    assert found.notes["macs"] == pytest.approx(12_501_632, rel=0.001)  # counted by hand from the layer shapes
    assert found.notes["cpu_operators"] == []


def test_a_larger_npu_is_faster(tflite_cases: Path, tmp_path: Path) -> None:
    """Four times the multipliers at twice the clock need less time."""
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    small = estimate(tflite_cases, "vww_96_int8", tmp_path / "small", accelerator="ethos-u55-128")
    large = estimate(tflite_cases, "vww_96_int8", tmp_path / "large", accelerator="ethos-u65-512")
    assert small.latency_ms is not None
    assert large.latency_ms is not None
    assert large.latency_ms < small.latency_ms


@pytest.mark.parametrize(
    ("stem", "quant", "said"),
    [
        ("vww_96_float", None, "int8 only"),
        ("vww_96_float", QuantSpec(kind="dynamic"), "dynamic"),
        ("vww_96_float", QuantSpec(kind="float16"), "float16"),
        ("vww_96_float", QuantSpec(kind="static", keep_float=("conv1",)), "conv1"),
    ],
)
def test_what_an_npu_cannot_compute_is_a_skip_with_its_reason(
    tflite_cases: Path, tmp_path: Path, stem: str, quant: QuantSpec | None, said: str
) -> None:
    """Float, dynamic and mixed networks are `Unsupported`."""
    with pytest.raises(Unsupported, match=said):
        VelaBackend().compile(source(tflite_cases, stem, quant), Conditions(), {}, tmp_path)


def test_a_network_that_does_not_fit_says_how_much_it_needs(tflite_cases: Path, tmp_path: Path) -> None:
    """Too little SRAM is a reason with both figures, not an estimate."""
    with pytest.raises(Unsupported, match=r"needs \d+ KiB of SRAM.*has 16 KiB"):
        estimate(tflite_cases, "pretrainedResnet_quant", tmp_path, sram_kib=16)


@pytest.mark.parametrize("kib", [384.0, "512k", "512", -1, True])
def test_sram_that_is_no_number_of_kib_is_invalid_before_anything_is_made(
    tflite_cases: Path, tmp_path: Path, kib: object
) -> None:
    """The message names the option and what it may be."""
    with pytest.raises(InvalidInput, match=rf"option sram_kib is {kib!r}; it is a whole number of KiB"):
        VelaBackend().compile(source(tflite_cases, "vww_96_int8"), Conditions(), {"sram_kib": kib}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_memory_mode_that_vela_has_not_is_invalid_input(tflite_cases: Path, tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(InvalidInput, match="Nowhere"):
        estimate(tflite_cases, "pretrainedResnet_quant", tmp_path, memory_mode="Nowhere")


def test_another_batch_is_refused(tflite_cases: Path, tmp_path: Path) -> None:
    """Vela knows batch 1 only."""
    with pytest.raises(Unsupported, match="batch 4"):
        VelaBackend().compile(source(tflite_cases, "vww_96_int8"), Conditions(batch=4), {}, tmp_path)


def test_a_report_is_read_in_its_units(tmp_path: Path) -> None:
    """KiB become bytes, seconds milliseconds; operators on the CPU are named once each."""
    (tmp_path / "net_summary_S.csv").write_text(SUMMARY)
    (tmp_path / "net_per-layer.csv").write_text(LAYERS)
    found = read_estimate(tmp_path, "net")
    assert (found.sram_bytes, found.sram_limit_bytes, found.flash_bytes) == (1536, 4096, 768)
    assert (found.latency_ms, found.cycles) == (2.0, 1_000_000)
    assert (found.npu_operators, found.cpu_operators) == (1, ("Custom",))
    assert [layer["mac_utilization_percent"] for layer in found.layers] == [12.5, None, None]


def test_with_operators_on_the_cpu_neither_time_nor_cycles_are_the_networks(tmp_path: Path) -> None:
    """The NPU's part is kept under its own name; of the whole there is a reason."""
    (tmp_path / "net_summary_S.csv").write_text(SUMMARY)
    (tmp_path / "net_per-layer.csv").write_text(LAYERS)
    found = _make_simulation(read_estimate(tmp_path, "net"), "ethos-u55-128")
    assert (found.latency_ms, found.cycles) == (None, None)
    assert (found.notes["npu_latency_ms"], found.notes["npu_cycles"]) == (2.0, 1_000_000)
    assert "Custom" in found.notes["missing"]["latency_p50_ms"]
    assert "Custom" in found.notes["missing"]["cycles"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "system_config\nS\n",
        SUMMARY + "a,b\n",
        SUMMARY.replace("1000000", "many"),
        SUMMARY.replace("0.002", "nan"),
        SUMMARY.replace("0.002", "-0.002"),
        SUMMARY.replace("1000000", "inf"),
        SUMMARY.partition(",77")[0],
    ],
)
def test_a_damaged_report_is_a_failed_cell(tmp_path: Path, text: str) -> None:
    """A report that this code does not understand is never read as zeros."""
    (tmp_path / "net_summary_S.csv").write_text(text)
    (tmp_path / "net_per-layer.csv").write_text(LAYERS)
    with pytest.raises(CellFailed, match="does not read"):
        read_estimate(tmp_path, "net")
