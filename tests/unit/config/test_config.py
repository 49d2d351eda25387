"""Suites, targets and requests: what is wrong in them is named before anything is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from bench.config.strict_toml import shipped
from bench.config.suite import PACKAGE, load_suite
from bench.config.target import load_target, targets
from bench.errors import InvalidInput
from bench.line.plan import Request, make_plan


def toml(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nmodles = ["lenet5"]', ["mine.toml", "unknown key 'modles'", "did you mean 'models'"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nlaunchs = 3', ["measure.launchs", "did you mean 'launches'"]),
        ('name = "x"\nmodels = "lenet5"', ["key 'models'"]),
        ('name = "x"\nmodels = []', ["key 'models' is empty"]),
        ('name = "x"\nmodels = ["lenet5"]\nbatch = [0]', ["key 'batch'", "from 1 to 1048576, found 0"]),
        ('name = "x"\nmodels = ["lenet5"]\nthreads = [1000000]', ["key 'threads'", "from 1 to 1024, found 1000000"]),
        ('name = "x"\nmodels = ["lenet5"]\nthreads = []', ["key 'threads' is an empty list"]),
        ('name = ""\nmodels = ["lenet5"]', ["key 'name': a name of printable signs, found ''"]),
        ('name = "x"\nmodels = ["lenet5"]\n[recipes]\n"a\\nb" = "int8()"', ["key 'recipes'", "found 'a\\nb'"]),
        ('name = "x"\nmodels = ["lenet5"]\nseed = "1"', ["key 'seed'", "found '1'"]),
        ('name = "x"\nmodels = ["lenet5"]\nseed = -1', ["mine.toml", "key 'seed'", "from 0 to", "found -1"]),
        (f'name = "x"\nmodels = ["lenet5"]\nseed = {2**63}', ["key 'seed'", "from 0 to"]),
        ('models = ["lenet5"]', ["key 'name' is missing"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nwidth = 1', ["measure.width", "0.01 is 1 %", "found 1"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nwidth = 0', ["measure.width", "above 0"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nwarmup_s = -1', ["measure.warmup_s", "from 0 up, found -1"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\ntime_s = nan', ["measure.time_s", "found nan"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nmax_samples = 0', ["measure.max_samples", "from 1 up"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nlimit_s = inf', ["measure.limit_s", "from 1 up, found inf"]),
        ('name = "x"\nmodels = ["lenet5"]\nlaunches = 5', ["unknown key 'launches', did you mean 'measure.launches'?"]),
        ('name = "x"\nmodels = ["lenet5"]\n[measure]\nblok = 5', ["'measure.blok'", "known keys: blocks, energy_s,"]),
        ('name = "x"\nmodels = ["lenet5"]\nbatch = [1, "2"]', ["key 'batch[1]': a whole number, found '2'"]),
        ('name = "x"\nmodels = ["lenet5"]\nshifts = "yes"', ["key 'shifts': true or false, found 'yes'"]),
        ('name = "x"\nmodels = ["lenet5"]\nrecipes = "int8"', ["key 'recipes': a table, found 'int8'"]),
        ('name = 1\nmodels = ["lenet5"]', ["key 'name': text in quotes, found 1"]),
        (f'name = "x"\nmodels = {"[" * 5000}', ["mine.toml: lists or tables are nested too deeply"]),
        ("name = ", ["mine.toml"]),
        ('name = "x"\nmodels = ["lenet5"]\n[recipes]\nbaseline = "int8()"', ["recipes.baseline", "no steps"]),
    ],
)
def test_a_wrong_suite_names_the_file_and_the_key(tmp_path, text, words):
    with pytest.raises(InvalidInput) as error:
        load_suite(toml(tmp_path, text))
    for word in words:
        assert word in str(error.value)


def test_a_file_of_a_windows_editor_reads_and_one_in_another_encoding_is_told_utf_8(tmp_path):
    text = 'name = "Köln"\r\nmodels = ["lenet5"]\r\n'
    (tmp_path / "mark.toml").write_bytes(text.encode("utf-8-sig"))
    assert load_suite(str(tmp_path / "mark.toml")).name == "Köln"
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "other.toml").write_bytes(text.encode(encoding))
        with pytest.raises(InvalidInput, match=r"other\.toml: not UTF-8 from byte \d+ on: save it in UTF-8"):
            load_suite(str(tmp_path / "other.toml"))


def test_an_error_in_a_recipe_names_the_recipe(tmp_path):
    text = 'name = "x"\nmodels = ["lenet5"]\n[recipes]\nhalf = "channels(amont=0.5)"'
    request = Request(target="cpu", suite=toml(tmp_path, text))
    with pytest.raises(InvalidInput, match=r"recipe half of suite x: unknown argument of channels 'amont'"):
        make_plan(request)


def test_a_wrong_target_names_the_nearest_key(tmp_path):
    text = 'name = "x"\nmeter = ["rapl"]\n[[backend]]\nname = "ort"\n'
    with pytest.raises(InvalidInput, match="unknown key 'meter', did you mean 'meters'"):
        load_target(toml(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backend = []", r"mine\.toml: key 'backend' is empty"),
        ('min_clean_share = 20\n[[backend]]\nname = "ort"', "'min_clean_share': a share from 0 to 1, found 20"),
        ('accuracy_samples = -3\n[[backend]]\nname = "ort"', r"'accuracy_samples': from 0 \(all\) up, found -3"),
        (
            '[[backend]]\nname = "ort"\n[budget]\nlatency_p50_ms = -1.0',
            "'budget.latency_p50_ms': a number above 0, found -1.0",
        ),
        ('[[backend]]\nname = "ort"\n[budget]\nenergy_mj = nan', "'budget.energy_mj': a number above 0, found nan"),
        ('[[backend]]\nname = "ort"\n[[backend]]\nname = "ort"', "key 'backend': 'ort' is there twice.*label = "),
        ('[[backend]]\nname = "ort"\n[[backend]]\nname = "x"\nlabel = "ort"', "key 'backend': 'ort' is there twice"),
        ('meters = ["rapl", "rapl"]\n[[backend]]\nname = "ort"', "key 'meters': 'rapl' is there twice$"),
        ('devices = ["a", "a"]\n[[backend]]\nname = "ort"', "key 'devices': 'a' is there twice"),
        (
            'meters = ["rap"]\n[[backend]]\nname = "ort"',
            "mine.toml: key 'meters': unknown meter 'rap'; did you mean 'rapl'",
        ),
        (
            '[[backend]]\nname = "ort"\n[[backend]]\nname = "litrt"',
            r"key 'backend\[1\].name': unknown backend 'litrt'; did",
        ),
        ('devices = [""]\n[[backend]]\nname = "ort"', "key 'devices': a name is empty"),
        (
            'devices = ["little", "big"]\n[[backend]]\nname = "ort"',
            "key 'devices' is for reach = .emulated.: by 'local'",
        ),
        ('reach = "ssh"\ndevices = ["a"]\n[[backend]]\nname = "ort"', "key 'devices' is for .*: by 'ssh' one device"),
        ('reach = "emulated"\nmeters = ["rapl"]\n[[backend]]\nname = "ort"', "key 'meters': 'emulated' is not a real"),
        ('reach = "emulated"\ncool_down_s = 5.0\n[[backend]]\nname = "ort"', "key 'cool_down_s': 'emulated' is not a"),
        ('[backend]\nname = "ort"', r"key 'backend': a list of tables, \[\[backend\]\], found {'name': 'ort'}"),
        (
            '[[backend]]\nname = "ort"\noptions = {a = [1]}',
            r"'backend\[0\].options.a': text, a number, true or false, ",
        ),
        ('[[backend]]\nname = "ort"\noption = {}', r"unknown key 'backend\[0\].option', did you mean 'options'"),
    ],
)
def test_a_target_nothing_can_be_measured_on_is_refused(tmp_path, text, message):
    with pytest.raises(InvalidInput, match=message):
        load_target(toml(tmp_path, f'name = "x"\n{text}\n'))


@pytest.mark.parametrize(("load", "what"), [(load_suite, "suite"), (load_target, "target")])
def test_an_unknown_name_lists_what_there_is(load, what):
    with pytest.raises(InvalidInput, match=f"unknown {what} 'no-such'.*known: "):
        load("no-such")
    with pytest.raises(InvalidInput, match="no such file"):
        load("missing.toml")


def test_every_shipped_suite_and_target_reads():
    assert {"cpu"} <= set(targets())
    for name in shipped(PACKAGE):
        assert load_suite(name).name == name
    for name, target in targets().items():
        assert target.name == name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "cpo"}, "unknown target 'cpo'; did you mean 'cpu'"),
        ({"suite": "defualt"}, "unknown suite 'defualt'; did you mean 'default'"),
        ({"models": ("resnet9",)}, "unknown model 'resnet9'; did you mean 'resnet8'"),
        ({"recipes": ("int9",)}, "unknown recipe of suite smoke or step 'int9'; did you mean 'int8'"),
        ({"recipes": ("prume(amount=0.5)",)}, "unknown compressor 'prume'; did you mean 'prune'"),
        ({"backends": ("orrt",)}, "unknown backend of target cpu 'orrt'; did you mean 'ort'"),
        ({"data": "digit"}, "unknown data set 'digit'"),
    ],
)
def test_an_unknown_name_on_the_command_line_names_the_nearest(change, words):
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        make_plan(Request(**{"target": "cpu", "suite": "smoke", **change}))


def test_the_baseline_is_always_planned_and_first():
    plan = make_plan(Request(target="cpu", suite="smoke", recipes=("int8",)))
    assert [cell.recipe.name for cell in plan.cells] == ["baseline", "int8"]
    assert plan.cells[1].baseline_key == plan.cells[0].key


def test_a_cells_key_is_the_same_in_every_run_and_differs_by_recipe_text():
    first = make_plan(Request(target="cpu", suite="smoke")).cells
    again = make_plan(Request(target="cpu", suite="smoke")).cells
    assert [cell.key for cell in first] == [cell.key for cell in again]
    assert len({cell.key for cell in first}) == len(first)


def test_an_optional_backend_runs_only_when_it_is_named():
    default = make_plan(Request(target="cpu", suite="smoke"))
    assert {cell.backend.title for cell in default.cells} == {"ort"}
    asked = make_plan(Request(target="cpu", suite="smoke", backends=("litert", "ort")))
    assert [cell.backend.title for cell in asked.cells[::3]] == ["ort", "litert"]


def test_a_function_that_is_not_there_ends_the_run_before_it_begins():
    with pytest.raises(InvalidInput, match="cannot be imported"):
        make_plan(Request(target="cpu", suite="smoke", models=("no.such:build",)))


def npz(path: Path, *, side: int = 5, classes: int = 3, value: float = 1.0) -> str:
    x, y = np.full((6, 1, side, side), value, np.float32), np.arange(6) % classes
    path.parent.mkdir(exist_ok=True)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return str(path)


def relu() -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    return bytes(helper.make_model(graph).SerializeToString())


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = [tmp_path / name for name in ("a/deep/model.onnx", "b/deep/model.onnx", "b/other.onnx")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(relu())
    cells = make_plan(Request(target="cpu", suite="smoke", models=tuple(map(str, files)), recipes=("int8",))).cells
    assert list(dict.fromkeys(cell.model.name for cell in cells)) == [
        "a/deep/model.onnx",
        "b/deep/model.onnx",
        "other.onnx",
    ]
    assert len({cell.key for cell in cells}) == 6


@pytest.mark.parametrize("twice", [("lenet5", "lenet5"), ("mobilenetv2", "mobilenetv2(width=1)")])
def test_what_is_asked_for_twice_is_refused_before_one_replaces_the_other(twice):
    with pytest.raises(InvalidInput, match=r"model (lenet5|mobilenetv2), recipe baseline.*asked for twice"):
        make_plan(Request(target="cpu", suite="smoke", models=twice))


def keys(**asked) -> list[str]:
    plan = make_plan(Request(**{"target": "cpu", "suite": "smoke", "recipes": ("int8",), **asked}))
    return [cell.key for cell in plan.cells]


def test_a_key_knows_the_data_set_by_its_content_wherever_it_lies(tmp_path):
    first = keys(models=("lenet5",), data=npz(tmp_path / "mine.npz"))
    assert keys(models=("lenet5",), data=npz(tmp_path / "moved" / "mine.npz")) == first
    assert not set(keys(models=("lenet5",), data=npz(tmp_path / "mine.npz", value=2.0))) & set(first)
    assert not set(keys(models=("lenet5",))) & set(first)


def test_a_key_knows_the_weights_and_the_input_shape(tmp_path):
    seeded = keys(models=("lenet5",))
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one training")
    one = keys(models=("lenet5",), weights=str(weights))
    weights.write_bytes(b"another")
    other = keys(models=("lenet5",), weights=str(weights))
    assert len({*seeded, *one, *other}) == 6
    small, large = (keys(models=("lenet5",), data="", input_shape=(1, side, side)) for side in (16, 32))
    assert not set(small) & set(large)


def test_a_key_knows_a_files_content_and_the_weights_beside_it(tmp_path):
    file, beside = tmp_path / "net.onnx", tmp_path / "net.bin"
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], bytes(48), raw=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 4), ("y", 3)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph), file, save_as_external_data=True, location=beside.name, size_threshold=0)
    first = keys(models=(str(file),))
    beside.write_bytes(bytes([1] * 48))
    assert not set(keys(models=(str(file),))) & set(first)


@pytest.mark.parametrize("name", ["net.onnx", "net.tflite"])
def test_a_damaged_model_file_is_refused_before_anything_is_measured(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is not a model")
    with pytest.raises(InvalidInput, match=rf"{name}: truncated"):
        make_plan(Request(target="cpu", suite="smoke", models=(str(tmp_path / name),)))


@pytest.mark.parametrize(
    ("data", "other", "words"),
    [
        ("five.npz", {"side": 6}, r"inputs of shape \(1, 6, 6\), '.*five.npz' has \(1, 5, 5\)"),
        ("five.npz", {"classes": 2}, r"classes: 2, '.*five.npz' has 3"),
        ("", {}, "needs a data set beside it"),
    ],
)
def test_shifted_data_that_says_nothing_about_the_network_is_refused(tmp_path, data, other, words):
    shifted, named = npz(tmp_path / "shifted.npz", **other), data and npz(tmp_path / data)
    suite = toml(tmp_path, f'name = "x"\ndata = "{named}"\nshifted_data = "{shifted}"\nmodels = ["lenet5"]')
    with pytest.raises(InvalidInput, match=f"suite x: key 'shifted_data' = .*{words}"):
        make_plan(Request(target="cpu", suite=suite))
    fitting = toml(tmp_path, f'name = "x"\nshifted_data = "{npz(tmp_path / "five.npz")}"\nmodels = ["lenet5"]')
    assert make_plan(Request(target="cpu", suite=fitting, data=npz(tmp_path / "data.npz"))).shifted_data is not None


def images(folder: Path, classes: tuple[str, ...]) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (6, 6)).save(folder / name / f"{number}.png")
    return folder


def test_shifted_data_is_for_an_accuracy_and_has_the_classes_of_the_data_set(tmp_path):
    one, two = npz(tmp_path / "one.npz"), npz(tmp_path / "two.npz")
    suite = toml(
        tmp_path, f'name = "x"\ndata = "{one}"\nshifted_data = "{two}"\nmodels = ["lenet5"]\ntask = "regression"'
    )
    with pytest.raises(InvalidInput, match=r"'shifted_data' = .*is for an accuracy, and task regression has none"):
        make_plan(Request(target="cpu", suite=suite))
    cats, dogs = images(tmp_path / "cats", ("ant", "cat")), images(tmp_path / "dogs", ("ant", "dog"))
    suite = toml(tmp_path, f'name = "x"\ndata = "{cats}"\nshifted_data = "{dogs}"\nmodels = ["lenet5"]')
    with pytest.raises(InvalidInput, match=r"'shifted_data' = .*names the class of label 1 'dog', '.*cats' 'cat'"):
        make_plan(Request(target="cpu", suite=suite))


def test_a_steps_name_alone_is_a_recipe():
    plan = make_plan(Request(target="cpu", suite="smoke", recipes=("float16",)))
    assert [cell.recipe.text for cell in plan.cells] == ["", "float16"]


def test_a_word_that_is_no_recipe_and_no_step_is_told_both():
    with pytest.raises(
        InvalidInput, match="unknown recipe of suite smoke or step 'flaot16'; did you mean 'float16'"
    ) as error:
        make_plan(Request(target="cpu", suite="smoke", recipes=("flaot16",)))
    assert "channels50" in str(error.value)


@pytest.mark.parametrize(
    ("target", "used", "noted"),
    [
        ("cpu", {"litert"}, False),
        ("arm-emulated", {"litert"}, False),
        ("ethos-u55", {"vela"}, True),
        ("ethos-u65", {"vela"}, True),
    ],
)
def test_a_suites_backends_are_a_preference_that_is_told_when_it_cannot_be_kept(tmp_path, target, used, noted):
    suite = toml(tmp_path, 'name = "x"\nmodels = ["lenet5"]\nbackends = ["litert"]')
    plan = make_plan(Request(target=target, suite=suite))
    assert {cell.backend.title for cell in plan.cells} == used
    assert bool(plan.notes) is noted
    assert all("suite x (litert): using vela" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("wanted", "asked", "words"),
    [
        ((), ("litert",), "unknown backend of target ethos-u55 'litert'"),
        (("litrt",), (), "unknown backend of suite x 'litrt'; did you mean 'litert'"),
    ],
)
def test_a_backend_a_person_asks_for_and_one_that_nobody_has_are_refused(tmp_path, wanted, asked, words):
    suite = toml(tmp_path, f'name = "x"\nmodels = ["lenet5"]\nbackends = {list(wanted)}')
    with pytest.raises(InvalidInput, match=words):
        make_plan(Request(target="ethos-u55", suite=suite, backends=asked))


@pytest.mark.parametrize("target", ["cpu", "ethos-u55", "ethos-u65", "arm-emulated"])
def test_the_shipped_tflite_files_can_be_planned_on_every_target_that_reads_them(tflite_cases, target):
    plan = make_plan(Request(target=target, suite="tflite", data_root=str(tflite_cases.parent.parent)))
    assert len({cell.model.name for cell in plan.cells}) == 6


def test_a_target_whose_name_no_table_can_show_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="key 'name': a name of printable signs, found ' '"):
        load_target(toml(tmp_path, 'name = " "\n[[backend]]\nname = "ort"\n'))
