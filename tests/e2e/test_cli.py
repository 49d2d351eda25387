"""The command line as a user types it, with one small network: what it prints, writes and exits with.

Most commands run in this process. Those with `.process` run as the process a user starts.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import PRESSBENCH, CommandLine
from fake_records import run
from fake_records import suite as suite_records
from onnx import TensorProto, helper

from bench.compress.calibration import RANDOM
from bench.store import Store
from bench.store.connect import connect
from bench.store.schema import METADATA

SUITE = """
name = "tiny"
data = "digits"
models = ["lenet300_100(width=0.1)"]
[recipes]
half = "prune(amount=0.5)"
int8 = "int8()"
[measure]
launches = 1
pairs = 2
blocks = 5
time_s = 0.3
warmup_s = 0.1
profile_runs = 2
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture
def pressbench(cache, tmp_path):
    environment = {**os.environ, "PRESSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("PRESSBENCH_DATA", None)
    return CommandLine(folder=tmp_path, environment=environment)


def answer(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(folder: Path):
    with (folder / "cells.csv").open() as file:
        return {row["recipe"]: row for row in csv.DictReader(file)}


def test_a_run_and_its_report_hold_every_cell(pressbench, suite):
    ended = answer(pressbench.process("run", "--target", "cpu", "--suite", suite, "--results", "out", "--json"))
    assert sum(ended["counts"].values()) == 3
    made = answer(pressbench("report", "--results", "out", "--json"))
    assert made["cells"] == 3
    cells = rows(pressbench.folder / "out")
    assert list(cells) == ["baseline", "half", "int8"]
    assert float(cells["baseline"]["speedup"]) == 1.0
    assert float(cells["half"]["promised_speedup"]) == pytest.approx(2.0, rel=0.01)
    assert float(cells["int8"]["promised_speedup"]) == 1.0
    assert float(cells["baseline"]["accuracy"]) > 0.8
    assert float(cells["int8"]["output_max_abs_err"]) > 0
    page = (pressbench.folder / "out" / "dashboard.html").read_text()
    assert "lenet300_100(width=0.1)" in page
    assert {row["run_id"] for row in cells.values()} == {ended["run_id"]}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_or_sigterm_marks_the_run_and_resume_measures_what_is_left(pressbench, suite, tmp_path, number, code):
    listening = ["env", "--default-signal=INT"]  # the children of a background shell ignore Ctrl-C
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [*listening, PRESSBENCH, "run", "--target", "cpu", "--suite", suite, "--results", "out"]
    process = subprocess.Popen(
        command,
        cwd=pressbench.folder,
        env={**pressbench.environment, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:  # the baseline has ended and is stored: the next cell is in flight
        if "baseline" in line:
            break
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "--resume" in errors
    assert not list(temporary.glob("pressbench-*"))
    ended = answer(pressbench("run", "--target", "cpu", "--suite", suite, "--results", "out", "--resume", "--json"))
    assert sum(ended["counts"].values()) == 3
    assert answer(pressbench("report", "--results", "out", "--run", "all", "--json"))["cells"] == 3


def test_nothing_to_resume_is_said(pressbench, suite):
    done = pressbench("run", "--target", "cpu", "--suite", suite, "--resume")
    assert done.returncode == 2
    assert "no interrupted run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--target", "cpo"], 2, "did you mean 'cpu'"),
        (["run", "--target", "cpu", "--suite", "smoke", "--model", "missing.onnx"], 2, "missing.onnx"),
        (["run", "--target", "cpu", "--suite", "smoke", "--model", "no.such.module:build"], 2, "no.such.module"),
        (["run", "--target", "cpu", "--suite", "smoke", "--dataset", "mnist"], 2, "PRESSBENCH_DATA"),
        (["run", "--nonsense"], 2, "--nonsense"),
        (["report", "--results", "empty"], 2, "no pressbench.db"),
        (["inspect", "missing.tflite"], 2, "missing.tflite"),
        (["decode", "missing.pbw", "--out", "w.safetensors"], 2, "missing.pbw"),
        (["compress", "--model", "lenet5", "--recipe", "prune(amount=2)", "--out", "x.onnx"], 2, "amount"),
        (
            ["compress", "--model", "lenet5", "--recipe", "int8", "--out", "x.onnx", "--seed", "-1"],
            2,
            "--seed: a whole",
        ),
        (["compare", "--target", "cpu", "a.onnx", "b.onnx"], 2, "a.onnx"),
        (["targets", "check", "cuda-nope"], 2, "unknown target"),
    ],
)
def test_what_cannot_be_done_is_named_and_has_its_exit_code(pressbench, arguments, code, words):
    done = pressbench(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_ends_with_the_code_of_its_error_and_with_json_prints_one_object(pressbench):
    done = pressbench.process("run", "--target", "cpo", "--json")
    assert done.returncode == 2
    assert "did you mean 'cpu'" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["kind"] == "InvalidInput"


def custom_operator(path: Path) -> str:
    node = helper.make_node("Magic", ["x"], ["y"], domain="my.domain")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=9)
    onnx.save(model, path)
    return str(path)


def linear(path: Path, **changes) -> str:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.arange(12, dtype=np.float32).tobytes(), raw=True)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path, **changes)
    return str(path)


@pytest.mark.parametrize("backend", ["ort", "litert"])
def test_packages_of_our_names_where_the_user_stands_are_left_alone(pressbench, suite, backend):
    """`bench` and `backends` are names that a project may have: none of its code is ours."""
    pytest.importorskip("litert_torch" if backend == "litert" else "onnxruntime")
    for name in ("bench", "backends"):
        (pressbench.folder / name).mkdir()
        (pressbench.folder / name / "__init__.py").write_text("raise SystemExit('code of the user')")
    asked = ("--target", "cpu", "--suite", suite, "--backend", backend, "--recipe", "baseline", "--results", "out")
    done = pressbench.process("run", *asked)
    assert "code of the user" not in done.stdout + done.stderr
    (row,) = csv.DictReader((pressbench.folder / "out" / "cells.csv").open())
    assert float(row["latency_p50_ms"]) > 0


def test_a_custom_operator_fails_its_cells_and_the_rest_goes_on(pressbench, suite):
    unknown, good = custom_operator(pressbench.folder / "magic.onnx"), linear(pressbench.folder / "good.onnx")
    arguments = ["--target", "cpu", "--suite", suite, "--results", "out", "--recipe", "int8", "--calibrate", "random"]
    ended = answer(pressbench("run", *arguments, "--model", unknown, "--model", good, "--json"))
    assert ended["counts"].get("failed", 0) + ended["counts"].get("skipped", 0) == 2
    assert sum(ended["counts"].values()) == 4
    answer(pressbench("report", "--results", "out", "--json"))
    text = (pressbench.folder / "out" / "cells.csv").read_text()
    assert "Magic" in text
    assert "my.domain" in text


def test_steps_of_compression_work_on_an_onnx_file(pressbench, suite):
    good = linear(pressbench.folder / "good.onnx")
    arguments = ["--target", "cpu", "--suite", suite, "--results", "out", "--model", good, "--recipe", "half"]
    answer(pressbench("run", *arguments, "--json"))
    answer(pressbench("report", "--results", "out", "--json"))
    cells = rows(pressbench.folder / "out")
    assert cells["baseline"]["status"] in ("ok", "inconclusive"), "a busy machine leaves the median open"
    assert cells["half"]["status"] == "untrusted", "half of its weights are gone, and no data was there to train with"
    assert "of its own spread away from the uncompressed network's" in cells["half"]["reason"]
    assert int(cells["half"]["nonzero_params"]) * 2 == int(cells["baseline"]["params"])
    assert cells["baseline"]["accuracy"] == ""


@pytest.mark.parametrize("kind", ["truncated", "outside"])
def test_a_damaged_or_prying_onnx_file_is_refused_with_its_name(pressbench, suite, kind):
    path = pressbench.folder / "bad.onnx"
    linear(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    else:
        model = onnx.load(path)
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../../etc/passwd")
        path.write_bytes(model.SerializeToString())
    done = pressbench("run", "--target", "cpu", "--suite", suite, "--results", "out", "--model", path)
    assert done.returncode == pressbench("inspect", path).returncode == 2
    assert "bad.onnx" in done.stderr
    assert "root:" not in done.stdout + done.stderr


OWN = """
from torch import nn

def {name}():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""


def test_a_users_own_function_is_trained_only_where_they_ask_for_it(pressbench, suite):
    (pressbench.folder / "mynets.py").write_text(OWN.format(name="build"))
    run = ["run", "--target", "cpu", "--suite", suite, "--model", "mynets:build", "--recipe", "int8", "--json"]
    asked = {"as": [], "trained": ["--train"]}
    cells = {}
    for name, option in asked.items():
        answer(pressbench(*run, "--results", name, *option))
        cells[name] = rows(pressbench.folder / name)
    assert {row["weights_from"] for row in cells["as"].values()} == {"as mynets:build made them"}
    assert {row["weights_from"] for row in cells["trained"].values()} == {"trained here on digits, seed 0"}
    assert float(cells["as"]["baseline"]["accuracy"]) < 0.3
    assert float(cells["trained"]["baseline"]["accuracy"]) > 0.8
    hint = (
        "answers at chance on digits: its weights look untrained; load them in the function, give --weights, or ask for"
    )
    assert hint in cells["as"]["baseline"]["reason"]
    assert "at chance" not in cells["as"]["int8"]["reason"] + cells["trained"]["baseline"]["reason"]
    assert cells["as"]["int8"]["calibration"] == "256 samples of the training set of digits, seed 0"
    assert cells["as"]["baseline"]["calibration"] == ""


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--model", "lenet5", "--train"], "--train trains networks of package.module:function"),
        (["--model", "mynets_again:build", "--train", "--dataset", "", "--input-shape", "1,8,8"], "without a data set"),
        (["--calibrate", "noise"], "wanted 'random', or a file that ends in .npz"),
        (["--calibrate", "none.npz"], "file none.npz does not exist"),
    ],
)
def test_training_and_calibration_that_mean_nothing_are_refused(pressbench, suite, option, words):
    (pressbench.folder / "mynets_again.py").write_text(OWN.format(name="build"))
    done = pressbench("run", "--target", "cpu", "--suite", suite, "--results", "out", *option)
    assert done.returncode == 2
    assert words in done.stderr


def test_int8_of_a_file_without_data_is_skipped_or_untrusted_and_never_ok(pressbench, suite):
    good = linear(pressbench.folder / "good.onnx")
    run = ["run", "--target", "cpu", "--suite", suite, "--model", good, "--recipe", "int8"]
    answer(pressbench(*run, "--results", "none", "--json"))
    refused = rows(pressbench.folder / "none")["int8"]
    assert refused["status"] == "skipped"
    assert "--calibrate FILE.npz" in refused["reason"]
    done = pressbench(*run, "--results", "random", "--calibrate", "random")
    cell = rows(pressbench.folder / "random")["int8"]
    assert (cell["status"], cell["calibration"]) == ("untrusted", "256 random inputs, seed 0")
    assert "int8 ranges come from random inputs, not from data" in cell["reason"]
    assert "int8 ranges come from random inputs" in done.stdout
    page = (pressbench.folder / "random" / "dashboard.html").read_text()
    assert "calibration: 256 random inputs, seed 0" in page
    np.savez(pressbench.folder / "mine.npz", x=np.random.default_rng(5).random((300, 4), dtype=np.float32))
    answer(pressbench(*run, "--results", "file", "--calibrate", "mine.npz", "--json"))
    cell = rows(pressbench.folder / "file")["int8"]
    assert cell["calibration"] == "256 of 300 samples of mine.npz, seed 0"
    assert "random" not in cell["reason"]


def test_one_compressed_model_comes_with_its_cost_and_accuracy(pressbench):
    made = answer(
        pressbench(
            "compress",
            "--model",
            "lenet300_100(width=0.1)",
            "--recipe",
            "prune(amount=0.5)",
            "--out",
            "h.onnx",
            "--json",
        )
    )
    assert (pressbench.folder / "h.onnx").exists()
    assert made["nonzero_params"] < made["params"]
    assert made["accuracy"] > 0.5
    assert made["dataset"] == "digits (the default of lenet300_100(width=0.1))"
    assert made["batch"] == "free"
    (value,) = onnx.load(pressbench.folder / "h.onnx").graph.input
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    seen = answer(pressbench("inspect", "h.onnx", "--json"))
    for key in ("params", "nonzero_params", "macs", "flops", "file_bytes"):
        assert seen[key] == made[key]
    assert {"name", "operator", "macs"} <= set(seen["layers"][0])


def test_a_users_file_gets_no_data_set_and_random_ranges_end_with_the_code_of_untrusted(pressbench):
    good = linear(pressbench.folder / "good.onnx")
    plain = ["compress", "--model", good, "--recipe", "int8()", "--out", "q.onnx"]
    arguments = [*plain, "--calibrate", "random"]
    done = pressbench(*arguments, "--json")
    assert done.returncode == 4
    made = json.loads(done.stdout)
    assert made["dataset"] == "none (name one with --dataset)"
    assert made["accuracy"] is None
    assert made["weights_from"] == "the file's own"
    assert (made["calibration"], made["untrusted"]) == ("256 random inputs, seed 0", RANDOM)
    why = "measured on drawn inputs: no data set is named"
    assert made["missing"]["accuracy"] == why
    assert (pressbench.folder / "q.onnx").stat().st_size == made["file_bytes"]
    said = pressbench(*arguments).stdout
    assert f"accuracy: none ({why}" in said
    assert f"untrusted: {RANDOM}" in said
    (pressbench.folder / "q.onnx").unlink()
    nothing, unfit = "there is nothing to calibrate on", "--dataset digits: "
    for option, words in (([], nothing), (["--dataset", "digits"], unfit), (["--dataset", ""], nothing)):
        asked = pressbench(*plain, *option)
        assert asked.returncode == 2
        assert words in asked.stderr
    assert not (pressbench.folder / "q.onnx").exists()


def test_a_file_whose_outputs_are_garbage_is_written_and_said_to_be_so(pressbench):
    good = linear(pressbench.folder / "good.onnx")
    done = pressbench("compress", "--model", good, "--recipe", "prune(amount=0.95)", "--out", "bad.onnx")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "of its own spread away from the uncompressed network's" in done.stdout
    assert (pressbench.folder / "bad.onnx").exists()


def test_labels_redeem_outputs_that_are_far_from_the_uncompressed_networks(pressbench):
    asked = ["--model", "lenet300_100(width=0.1)", "--recipe", "prune(amount=0.5) + finetune(epochs=1)"]
    done = pressbench("compress", *asked, "--out", "h.onnx")
    assert done.returncode == 0, done.stdout
    assert "untrusted" not in done.stdout


def test_a_named_data_set_that_does_not_fit_is_refused_before_anything_is_measured(pressbench, suite):
    good = linear(pressbench.folder / "good.onnx")
    (pressbench.folder / "own.py").write_text("from torch import nn\ndef build(): return nn.Linear(3, 10)\n")
    for model, words in ((good, "good.onnx: the model takes float32"), ("own:build", "does not take inputs of shape")):
        done = pressbench("run", "--suite", suite, "--model", model, "--dataset", "digits", "--results", "none")
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
    assert not (pressbench.folder / "none").exists()


def test_what_cannot_be_written_is_named_with_its_option(pressbench, suite):
    (pressbench.folder / "file").write_text("no folder")
    good = linear(pressbench.folder / "good.onnx")
    run = ["run", "--target", "cpu", "--suite", suite, "--model", good, "--recipe", "int8", "--results"]
    compress = ["compress", "--model", good, "--recipe", "int8", "--calibrate", "random", "--out", "file/q.onnx"]
    assert pressbench(*run, "out").returncode == 0
    (pressbench.folder / "full").mkdir()
    (pressbench.folder / "full" / "cells.csv").symlink_to("/dev/full")
    for command, words in (
        ([*run, "file/results"], "--results file/results: Not a directory"),
        ([*run, "/proc/results"], "--results /proc/results: "),
        (compress, "--out file/q.onnx: "),
        (["report", "--results", "out", "--out", "file/page"], "--out file/page: Not a directory"),
        (["report", "--results", "out", "--out", "full"], "--out full: No space left on device"),
    ):
        done = pressbench(*command)
        assert done.returncode == 3, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_results_kept_by_a_postgresql_server_are_reported(pressbench, postgres_url):
    engine, _ = connect(postgres_url)
    METADATA.drop_all(engine)
    engine.dispose()
    with Store.open(postgres_url) as store:
        store.begin_run(run())
        for cell in suite_records():
            store.add(cell)
    made = answer(pressbench("report", "--database", postgres_url, "--out", "page", "--run", "all", "--json"))
    assert made["cells"] == len(suite_records())
    assert len((pressbench.folder / "page" / "cells.csv").read_text().splitlines()) == len(suite_records()) + 1


def test_a_file_against_itself_is_compared_launch_by_launch(pressbench):
    good = linear(pressbench.folder / "good.onnx")
    found = answer(pressbench("compare", "--target", "cpu", good, good, "--launches", "3", "--blocks", "5", "--json"))
    assert set(found) >= {"ratio", "low", "high", "verdict", "launches", "blocks"}
    assert found["launches"] >= 3
    assert found["low"] <= found["ratio"] <= found["high"]


@pytest.mark.parametrize("command", ["targets", "backends", "meters", "recipes", "cache", "doctor"])
def test_what_there_is_can_be_asked(pressbench, command):
    assert answer(pressbench(command, "--json"))
    assert pressbench(command).stdout.strip()


def test_a_backend_says_which_files_it_takes_and_a_targets_options_for_it(pressbench):
    found = {entry["name"]: entry for entry in answer(pressbench("backends", "--json"))["backends"]}
    assert found["ort"]["accepts"] == ["onnx"]
    assert found["ort"]["options"]["provider"] == ["cpu", "cuda", "tensorrt"]
    assert 'device = "cpu" | "cuda"' in pressbench("backends").stdout


def test_every_command_documents_itself(pressbench):
    listed = pressbench.process("--help").stdout
    for command in (
        "run",
        "report",
        "compress",
        "decode",
        "inspect",
        "compare",
        "targets",
        "backends",
        "meters",
        "energy",
        "recipes",
        "cache",
        "doctor",
    ):
        assert command in listed
        done = pressbench(command, "--help")
        assert done.returncode == 0
        assert "--json" in done.stdout
