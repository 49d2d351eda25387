"""The NVML meter against a small libnvidia-ml built here, in a process that finds it first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from bench.device.meters.nvml import Nvml

SOURCE = Path(__file__).parents[2] / "fakes" / "fake_nvml.c"
PROGRAM = """
import json, sys, time
from pathlib import Path
from bench.device.meters.nvml import Nvml
from bench.errors import Unavailable
try:
    meter = Nvml.open(Path(sys.argv[1]))
except Unavailable as error:
    print(json.dumps({"unavailable": str(error)}))
    raise SystemExit
start = meter.read(); before = meter.condition(); time.sleep(float(sys.argv[2])); end = meter.read(); after = meter.condition()
print(json.dumps({
    "watts": (end.joules - start.joules) / ((end.at_ns - start.at_ns) / 1e9),
    "slowed": list(meter.slowed()), "distrust": list(after.distrust), "before": list(before.distrust), "notes": dict(after.notes),
}))
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake libnvidia-ml with (apt install gcc)")
    folders = {}
    for name, flags in (("driver", []), ("old", ["-DOLD_DRIVER"])):
        folders[name] = tmp_path_factory.mktemp(name)
        library = folders[name] / "libnvidia-ml.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", str(library), str(SOURCE)], check=True)
    return folders


@pytest.fixture
def gpu(libraries, tmp_path):
    def meet(*, library: str = "driver", root: Path | None = None, pause: float = 0.0, **fake: object) -> dict:
        settings = {name: str(value) for name, value in fake.items()}
        environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries[library]), "CUDA_VISIBLE_DEVICES": "", **settings}
        command = [sys.executable, "-c", PROGRAM, str(root or tmp_path), str(pause)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    return meet


def test_power_over_a_window_is_the_counters_and_not_of_its_step(gpu) -> None:
    """Read anywhere, a window of 0.35 s on a counter stepping each 0.1 s would be up to 28 % off."""
    seen = gpu(pause=0.35, FAKE_WATTS=200)
    assert seen["watts"] == pytest.approx(200, rel=0.05)


def test_an_idle_gpu_alone_is_trusted_and_described(gpu) -> None:
    seen = gpu(FAKE_REASONS=1)
    assert seen["distrust"] == []
    notes = seen["notes"]
    assert (notes["gpu"], notes["sm_clock_mhz"], notes["temperature_c"]) == ("Fake H100", 1980, 41)
    assert notes["power_limit_w"] == 700.0
    assert notes["process_memory_bytes"] == 512 << 20
    assert notes["clock_event_reasons"] == ["idle"]


def test_clocks_set_by_the_user_are_noted_and_trusted(gpu) -> None:
    seen = gpu(FAKE_REASONS=2)
    assert seen["distrust"] == []
    assert seen["notes"]["clock_event_reasons"] == ["clocks set by the user"]


@pytest.mark.parametrize("library", ["driver", "old"])
@pytest.mark.parametrize(
    ("bit", "words"), [(0x4, "software power cap"), (0x40, "hardware thermal slowdown"), (0x8, "hardware slowdown")]
)
def test_every_throttle_reason_makes_the_window_untrusted_by_name(gpu, library, bit, words) -> None:
    seen = gpu(library=library, FAKE_REASONS=bit)
    assert seen["distrust"] == seen["slowed"] == [f"GPU slowed down: {words}"]


def test_throttling_that_ended_before_the_window_did_is_still_found(gpu) -> None:
    """The reasons of the moment say idle; the counters of held-back time tell."""
    seen = gpu(pause=0.2, FAKE_REASONS=1, FAKE_HELD=30)
    assert len(seen["distrust"]) == 1
    assert "power policy for" in seen["distrust"][0]


def test_another_process_on_the_gpu_is_named(gpu, tmp_path) -> None:
    (tmp_path / "proc/4242").mkdir(parents=True)
    (tmp_path / "proc/4242/comm").write_text("miner\n")
    assert gpu(FAKE_OTHER=4242)["distrust"] == ["another process on the GPU: 4242 miner"]


def test_inside_a_container_the_one_unknown_process_is_this_one(gpu) -> None:
    seen = gpu(FAKE_LIST_ME=0, FAKE_OTHER=4242)
    assert seen["distrust"] == []
    assert seen["notes"]["process_memory_bytes"] == 1 << 30


def test_inside_a_container_two_unknown_processes_are_not_alone(gpu) -> None:
    seen = gpu(FAKE_LIST_ME=0, FAKE_OTHER=4242, FAKE_SECOND=4343)
    assert any("another process" in text for text in seen["distrust"])
    assert "process_memory_missing" in seen["notes"]


def test_a_figure_the_gpu_does_not_give_is_a_reason_and_not_a_number(gpu) -> None:
    assert gpu(FAKE_CLOCK=3)["notes"]["sm_clock_mhz"] == "missing: Not Supported"


class Gpu:
    """NVML in this process: `held_ms` is what the power policy has held back so far, `now_s` the clock."""

    NVML_CLOCK_SM = NVML_CLOCK_MEM = NVML_TEMPERATURE_GPU = 0
    NVMLError = pynvml.NVMLError
    NVMLError_FunctionNotFound = pynvml.NVMLError_FunctionNotFound

    def __init__(self) -> None:
        self.held_ms, self.now_s = 0.0, 0.0
        self.silent: tuple[str, ...] = ()
        self.calls: list[str] = []

    def __getattr__(self, name: str):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def answer(*asked: object) -> object:
            self.calls.append(name)
            if name.removeprefix("nvmlDeviceGet") in self.silent:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            if name == "nvmlDeviceGetViolationStatus":
                return SimpleNamespace(violationTime=self.held_ms * 1e6 if asked[1] == 0 else 0)
            return [] if name.endswith("RunningProcesses") else 1

        return answer

    def open(self, patch: pytest.MonkeyPatch) -> Nvml:
        patch.setattr("bench.device.meters.nvml.perf_counter_ns", lambda: int(self.now_s * 1e9))
        return Nvml(self, None, Path("/"))

    def after(self, seconds: float, held_ms: float = 0.0) -> None:
        self.now_s += seconds
        self.held_ms += held_ms


def test_time_held_back_is_a_share_of_two_seconds_at_least(monkeypatch) -> None:
    gpu = Gpu()
    meter = gpu.open(monkeypatch)
    gpu.after(0.05, held_ms=15)
    found = meter.condition()
    assert found.distrust == ()
    assert found.notes["held_back_ms"]["power"] == 15
    gpu.after(0.05, held_ms=30)
    assert meter.condition().distrust == ("GPU slowed down by its power policy for over 1% of the window",)


def test_time_held_back_before_a_look_is_not_the_next_windows(monkeypatch) -> None:
    gpu = Gpu()
    meter = gpu.open(monkeypatch)
    gpu.after(0.5, held_ms=400)
    assert meter.condition().distrust
    gpu.after(0.5)
    assert meter.condition().distrust == ()


def test_looking_during_a_window_asks_no_figure_that_stays(monkeypatch) -> None:
    gpu = Gpu()
    meter = gpu.open(monkeypatch)
    gpu.calls.clear()
    meter.condition()
    assert len(gpu.calls) <= 12
    assert not {"nvmlDeviceGetName", "nvmlSystemGetDriverVersion", "nvmlDeviceGetMaxClockInfo"} & set(gpu.calls)


@pytest.mark.parametrize(
    ("silent", "words"),
    [
        (("CurrentClocksEventReasons",), ""),
        (("ViolationStatus",), ""),
        (
            ("CurrentClocksEventReasons", "ViolationStatus"),
            "does not say why this GPU's clocks are low, nor for how long",
        ),
        (("Name", "ClockInfo", "Temperature", "EnforcedPowerLimit", "ComputeRunningProcesses"), ""),
    ],
)
def test_a_look_never_raises_and_a_gpu_that_tells_nothing_of_throttling_is_not_believed(
    monkeypatch, silent, words
) -> None:
    gpu = Gpu()
    gpu.silent = silent
    found = gpu.open(monkeypatch).condition()
    assert len(found.distrust) == bool(words)
    assert words in "".join(found.distrust)
    assert ("missing" in found.notes["clock_event_reasons"]) == ("CurrentClocksEventReasons" in silent)


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        ({"FAKE_INIT": 9}, "Driver Not Loaded"),
        ({"FAKE_ENERGY": 3}, "no total-energy counter"),
        ({"FAKE_MIG": 1}, "MIG is on"),
        ({"FAKE_COUNT": 2}, "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, "MIG slice"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-unknown"}, "does not answer"),
    ],
)
def test_without_a_counter_the_meter_is_unavailable_and_says_why(gpu, fake, words) -> None:
    assert words in gpu(**fake)["unavailable"]


@pytest.mark.parametrize(
    "fake", [{"FAKE_COUNT": 2, "CUDA_VISIBLE_DEVICES": "GPU-known"}, {"FAKE_MIG_CODE": 3}, {"FAKE_MIG": 0}]
)
def test_one_gpu_named_by_uuid_or_unable_of_mig_is_measured(gpu, fake) -> None:
    assert "watts" in gpu(**fake)


def test_no_driver_is_unavailable_with_the_remedy() -> None:
    command = [sys.executable, "-c", PROGRAM, "/", "0"]
    if any(Path(folder, "libnvidia-ml.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")):
        pytest.skip("this machine has an NVIDIA driver")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "nvidia-smi must work" in json.loads(done.stdout)["unavailable"]
