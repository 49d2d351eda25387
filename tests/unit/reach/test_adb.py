"""A phone over adb: real adbutils against a server that speaks adb's protocol, and benchmark_model's printed text."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import fake_adb
import pytest

from bench.config.suite import Measure
from bench.config.target import load_target
from bench.errors import BoardLost, CellFailed, DiskFull, InvalidInput, Unavailable, Unsupported
from bench.line.measure import Bench, look_quickly, measure_artifact, measure_pairs, pairs_with_first
from bench.reach.adb.printed import read_printed
from bench.reach.adb.reach import Adb, open_adb
from bench.reach.open import check_reach
from bench.stats import ratio
from bench.stats.summaries import summarize
from bench.types import Artifact, Conditions, Precision

HEAD = "Inference timings in us: Init: 8750, First inference: 20311, Warmup (avg): 17354.4, Inference (avg): 16893.6\n"
WARM = "count=29 first=20311 curr=16878 min=16839 max=20311 avg=17354.4 std=656\n"


@pytest.fixture
def phone(tmp_path, monkeypatch):
    with fake_adb.running(tmp_path / "phone") as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("ANDROID_SERIAL", raising=False)
        monkeypatch.delenv("PRESSBENCH_BENCHMARK_MODEL", raising=False)
        yield double


@pytest.fixture
def connect(phone, tmp_path):
    opened: list[Adb] = []

    def opening(machine: int = 183, **keys: str) -> Adb:
        keys.setdefault("benchmark_model", str(fake_adb.make_binary(tmp_path / f"benchmark_model{machine}", machine)))
        path = tmp_path / f"target{len(opened)}.toml"
        lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items() if value)
        path.write_text(f'name = "fone"\nreach = "adb"\n{lines}[[backend]]\nname = "litert"\n')
        opened.append(open_adb(load_target(str(path)), os.environ))
        return opened[-1]

    yield opening
    for reach in opened:
        reach.close()


def artifact(folder: Path, name: str = "model.tflite", content: bytes = b"a model") -> Artifact:
    (folder / name).write_bytes(content)
    return Artifact(path=folder / name, format="tflite", digest=name)


def bench(reach: Adb, **measure: object) -> Bench:
    rules = Measure(**{"launches": 3, "pairs": 3, "time_s": 0.2, "warmup_s": 0.1, "limit_s": 60, **measure})
    return Bench(reach=reach, session="none:None", conditions=Conditions(threads=2), measure=rules)


def test_what_benchmark_model_prints_becomes_a_summary_without_samples(phone, connect, tmp_path):
    found = measure_artifact(bench(connect()), artifact(tmp_path))
    assert found.device == "Fakemaker Fone 7 (FS-1)"
    assert found.outputs is None
    assert [one.samples_ns for one in found.launches] == [()] * 3
    launch = found.launches[0]
    assert (launch.summary.count, launch.summary.mean_ns, launch.summary.median_ns) == (400, 1_002_000, 1_001_000)
    assert (launch.load_ms, launch.cold.first_ms, launch.stopped) == (8.75, 3.0, "converged")
    assert launch.memory[1].end_bytes == 5.25 * 2**20
    assert launch.climate[0].celsius == {"cpu-thermal": 31.5}
    assert found.execution.library == "XNNPACK"
    assert "were not checked" in found.notes[0]
    assert found.missing["cold_start_ms"].startswith("benchmark_model does not say")
    shown = summarize(found.launches)
    assert shown.p50.value == 1.001
    assert shown.samples == 1200
    assert "keeps no samples" in shown.missing["latency_p99_ms"]


def test_files_are_sent_once_by_their_content_and_no_name_reaches_the_phone(phone, connect, tmp_path):
    hostile = "it's $(touch hurt) `touch hurt`; touch hurt.tflite"
    for name in (hostile, "again.tflite"):
        reach = connect()
        measure_artifact(bench(reach, launches=1), artifact(tmp_path, name))
        reach.close()
    assert len(phone.sent) == 2
    assert all(
        re.fullmatch(r"/data/local/tmp/pressbench/[0-9a-f]{64}(\.tflite)?\.part", name) for name, _ in phone.sent
    )
    assert not any("hurt" in command for command in phone.commands)
    assert not list(tmp_path.rglob("hurt"))


def test_a_pair_alternates_processes_and_gives_a_ratio_of_means(phone, connect, tmp_path):
    phone.behave["fast"] = len(b"half as long")
    rig = bench(connect())
    pairs = measure_pairs(rig, artifact(tmp_path), artifact(tmp_path, "b.tflite", b"half as long"))
    assert [pair.first for pair in pairs] == ["a", "b", "a"]
    assert pairs[0].blocks_ns == ((1_002_000.0, 502_000.0, 502_000.0, 1_002_000.0),)
    assert pairs[0].loops == 400
    assert ratio(pairs).speedup.value == pytest.approx(1002 / 502)
    graphs = [found[1] for command in phone.commands if (found := re.search(r"--graph=\S*/(\w{4})", command))]
    a, b = graphs[0], graphs[1]
    assert graphs == [a, b, b, a, b, a, a, b, a, b, b, a]


def test_every_candidate_of_a_search_is_timed_and_says_what_it_fell_back_to(phone, connect, tmp_path):
    rig = look_quickly(bench(connect()))
    phone.behave["fast"] = len(b"half as long")
    halved = Precision(asked="float16", delivered="float32")
    candidates = [
        artifact(tmp_path, "same.tflite"),
        replace(artifact(tmp_path, "b.tflite", b"half as long"), precision=halved),
    ]
    for others in (candidates, candidates[1:]):
        pairs = pairs_with_first(rig, artifact(tmp_path), others)
        assert [pair.blocks_ns[0][1] for pair in pairs] == [1_002_000.0, 502_000.0][-len(others) :]
        assert [bool(pair.distrust) for pair in pairs] == [False, True][-len(others) :]
        assert pairs[-1].distrust[0].startswith("B: asked for float16")


def test_flags_carry_threads_times_and_kernels(phone, connect, tmp_path):
    measure_artifact(replace(bench(connect(), launches=1), options={"kernels": "builtin"}), artifact(tmp_path))
    (run,) = [command for command in phone.commands if "--graph" in command]
    for flag in ("--num_threads=2", "--min_secs=0.2", "--max_secs=60", "--warmup_min_secs=0.1", "--use_xnnpack=false"):
        assert f" {flag}" in run


CREATED = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nINFO: XNNPACK delegate created.\n"
APPLIED = "INFO: Explicitly applied XNNPACK delegate, and the model graph will be"


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        (Precision(asked="float16", delivered="float32"), "asked for float16, LiteRT's kernels unpack the weights"),
        (Precision(asked="int8", delivered="int8", stayed_float=("fc",)), "stayed float32 although keep_float"),
    ],
)
def test_what_the_conversion_left_wider_than_asked_is_a_fallback_here_too(connect, tmp_path, precision, words):
    made = replace(artifact(tmp_path), precision=precision)
    (reason,) = measure_artifact(bench(connect(), launches=1), made).distrust
    assert words in reason


@pytest.mark.parametrize(
    ("said", "library", "words"),
    [
        (f"{CREATED}{APPLIED} completely executed by the delegate.", "XNNPACK", ""),
        (f"{CREATED}{APPLIED} partially executed by the delegate w/ 3 delegate kernels.", "XNNPACK", "in 3 partitions"),
        (
            f"{CREATED}INFO: Though XNNPACK delegate is explicitly applied, the model graph will not be executed by it.",
            "",
            "took no operator",
        ),
        ("", "", "took no operator"),
        (CREATED, "XNNPACK", "does not say whether XNNPACK ran the whole file"),
    ],
)
def test_what_xnnpack_did_not_run_is_a_fallback_unless_any_kernels_do(phone, connect, tmp_path, said, library, words):
    phone.behave = {"delegate": said}
    rig = bench(connect(), launches=1)
    found = measure_artifact(rig, artifact(tmp_path))
    assert found.execution.library == library
    assert [words in reason for reason in found.distrust] == [True] * bool(words)
    assert measure_artifact(replace(rig, options={"kernels": "any"}), artifact(tmp_path)).distrust == ()


@pytest.mark.parametrize(
    ("states", "keys", "words"),
    [
        ({}, {}, "no phone: plug one in"),
        ({"A": "unauthorized"}, {}, "unlock its screen and allow USB debugging"),
        ({"A": "offline"}, {}, "it does not answer"),
        ({"A": "device", "B": "device"}, {}, "several phones: A, B: choose one by ANDROID_SERIAL"),
        ({"A": "device"}, {"serial": "C"}, "no phone 'C': `adb devices` lists A"),
        ({"A": "recovery"}, {}, "A is 'recovery' for adb"),
    ],
)
def test_a_phone_that_cannot_be_used_says_what_helps(phone, connect, states, keys, words):
    phone.states = states
    with pytest.raises(Unavailable, match=words):
        connect(**keys).describe()


def test_without_a_server_the_remedy_is_named(connect, monkeypatch):
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/bin/false")
    with pytest.raises(Unavailable, match=r"does not answer .*: `adb start-server`"):
        connect().describe()


def test_an_old_phone_and_a_program_for_another_cpu_are_refused(phone, connect, tmp_path):
    with pytest.raises(Unavailable, match="is for x86_64, the phone runs arm64-v8a, armeabi-v7a"):
        connect(62).describe()
    phone.features = "cmd"
    with pytest.raises(Unavailable, match="Android 7 or newer"):
        connect().describe()
    phone.features, phone.wrong_abi = "shell_v2", True
    phone.properties["ro.product.cpu.abilist"] = ""
    with pytest.raises(Unavailable, match=r"cannot run .*not executable: 64-bit ELF file"):
        measure_artifact(bench(connect()), artifact(tmp_path))


def test_the_program_must_be_named_and_be_one_for_android(connect, monkeypatch, tmp_path):
    def check(reach: Adb) -> None:
        check_reach(reach._target)

    with pytest.raises(InvalidInput, match="Set PRESSBENCH_BENCHMARK_MODEL=FILE"):
        check(connect(benchmark_model=""))
    with pytest.raises(InvalidInput, match="no such file: it is a path on this machine"):
        check(connect(benchmark_model=str(tmp_path / "nowhere")))
    (tmp_path / "text").write_text("#!/bin/sh\necho this is a script")
    with pytest.raises(InvalidInput, match="does not begin as an ELF file does"):
        check(connect(benchmark_model=str(tmp_path / "text")))
    with pytest.raises(InvalidInput, match="no Android phone has"):
        check(connect(21))
    monkeypatch.setenv("PRESSBENCH_BENCHMARK_MODEL", "/other")
    with pytest.raises(InvalidInput, match="leave one out"):
        check(connect())


def test_a_full_phone_is_said_before_and_while_a_file_is_sent(phone, connect):
    phone.free_blocks = 100
    with pytest.raises(DiskFull, match=r"has 0 MiB free, 64 MiB are needed"):
        connect().describe()
    phone.free_blocks, phone.refuses_files = 1 << 22, True
    with pytest.raises(DiskFull, match="disk full: FAKE123"):
        connect().describe()


def test_a_phone_unplugged_in_the_middle_is_lost_and_its_cells_can_be_resumed(phone, connect, tmp_path):
    rig = bench(connect())
    rig.reach.describe()
    phone.lost_after = len(phone.commands) + 4
    with pytest.raises(BoardLost, match=r"FAKE123 was lost .*: when `adb devices` lists it again, run with --resume"):
        measure_artifact(rig, artifact(tmp_path))


def test_a_hung_program_is_killed_there(phone, connect, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reach.adb.reach.END_S", 0.0)
    phone.behave = {"hang": True}
    began = time.monotonic()
    with pytest.raises(CellFailed, match="was killed: no end after 1 s"):
        measure_artifact(bench(connect(), limit_s=1), artifact(tmp_path))
    assert time.monotonic() - began < 30
    killed = re.fullmatch(r"kill -9 (\d+)", phone.commands[-1])
    assert killed
    with pytest.raises(ProcessLookupError):
        for _ in range(500):
            os.kill(int(killed[1]), 0)
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        ({"say": "ERROR: Failed to load model", "code": 1}, CellFailed, "exit code 1: ERROR: Failed to load"),
        ({"say": "ERROR: Encountered unresolved custom op: Foo.", "code": 1}, Unsupported, "unresolved custom op: Foo"),
        ({"say": "Welcome to your new phone!"}, CellFailed, "printed no timings but: Welcome"),
        ({"runs": "count=0"}, CellFailed, "printed no timings"),
        ({"runs": "count=9 first=1 curr=1 min=5 max=9 avg=3 std=1"}, CellFailed, "contradicts itself"),
        ({"runs": "count=9 first=1 curr=1 min=1 max=9"}, CellFailed, "without avg, std"),
        ({"runs": "count=9 first=0 curr=0 min=0 max=1 avg=0.2 std=1 median=0"}, CellFailed, "whole microseconds"),
        ({"runs": "count=9 first=1e999 curr=1 min=1 max=1e999 avg=1e999 std=1"}, CellFailed, "a finite number"),
    ],
)
def test_what_is_not_benchmark_models_is_one_clear_error(phone, connect, tmp_path, behave, error, words):
    phone.behave = behave
    with pytest.raises(error, match=words):
        measure_artifact(bench(connect()), artifact(tmp_path))


def test_what_it_cannot_do_is_refused_with_a_remedy(connect, tmp_path):
    reach = connect()
    with pytest.raises(Unsupported, match=r"runs \.tflite files only: take the backend litert"):
        measure_artifact(bench(reach), artifact(tmp_path, "model.onnx"))
    with pytest.raises(Unsupported, match="sustain_s: only benchmark_model runs on a phone"):
        measure_artifact(bench(reach, launches=1, sustain_s=60.0), artifact(tmp_path))
    with pytest.raises(Unsupported, match="kernels = 'reference'"):
        measure_artifact(replace(bench(reach), options={"kernels": "reference"}), artifact(tmp_path))


@pytest.mark.parametrize("key", ['meters = ["battery"]', "cool_down_s = 30.0", 'devices = ["a"]'])
def test_a_key_that_nothing_there_follows_is_refused(tmp_path, key):
    path = tmp_path / "t.toml"
    path.write_text(f'name = "t"\nreach = "adb"\n{key}\n[[backend]]\nname = "litert"\n')
    with pytest.raises(InvalidInput, match=f"key '{key.partition(' ')[0]}': on a phone"):
        load_target(str(path))


def test_one_run_at_a_time_and_clean_leaves_nothing(phone, connect):
    first, second = connect(), connect()
    first.describe()
    with pytest.raises(Unavailable, match="in use by another pressbench"):
        second.describe()
    assert [row["name"] for row in first.check_up()][:2] == ["FAKE123", "benchmark_model"]
    assert first.clean() == {"freed": 102400, "left": []}
    assert not list((phone.folder / "tmp").iterdir())


def test_a_linker_that_warns_at_every_program_changes_no_answer(phone, connect, tmp_path):
    """Its lines come on standard error, before what the program says."""
    phone.warns = True
    reach = connect()
    found = measure_artifact(bench(reach, launches=1), artifact(tmp_path))
    assert found.device == "Fakemaker Fone 7 (FS-1)"
    assert found.launches[0].summary.count == 400
    assert found.launches[0].climate[0].celsius == {"cpu-thermal": 31.5}
    assert reach.check_up()[2]["state"] == "16384 MiB free"


@pytest.mark.parametrize(("runs", "stopped"), [("count=1 curr=900000", "time limit"), (None, "converged")])
def test_a_single_inference_is_not_known_well_enough(phone, connect, tmp_path, runs, stopped):
    """benchmark_model prints no spread of it, which is not a spread of 0."""
    phone.behave = {"runs": runs} if runs else {"count": 6}
    (launch,) = measure_artifact(bench(connect(), launches=1), artifact(tmp_path)).launches
    assert launch.stopped == stopped


def test_texts_of_older_and_newer_versions_are_read():
    older = read_printed(f"{WARM}{WARM.replace('count=29', 'count=60')}{HEAD}")
    assert (older.summary.count, older.summary.median_ns, older.warmup) == (60, None, 29)
    assert older.peak_bytes is None
    newer = f"INFO: count=1 curr=20311\nINFO: {WARM.strip()} p5=16840 median=1.69e+04 p95=20000\n\nINFO: {HEAD}"
    assert read_printed(newer).summary.median_ns == 16_900_000
    same = read_printed(f"{WARM}count=5 curr=12(all same)\n{HEAD}").summary
    assert (same.mean_ns, same.std_ns, same.median_ns) == (12_000, 0.0, 12_000)
