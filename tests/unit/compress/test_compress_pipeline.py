"""The pipeline: what is cached, what is shared, what is noticed, and what a file may carry."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from small_network import MODEL, settled, small_data

import bench.compress
import bench.models
import bench.tasks
from bench import plugins
from bench.compress import cache_key
from bench.compress.calibration import FROM_DATA, RANDOM, CalibrateOn, misfit
from bench.compress.pipeline import compress, open_network, reference
from bench.compress.recipe import parse_recipe
from bench.data.datasets import Dataset
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.inputs.draw import draw_inputs
from bench.line.own_models import choose_calibration
from bench.models.registry import resolve
from bench.types import Compressed, Model, TensorSpec

Make = Callable[..., Compressed]
QUARTERS = small_data()
ASKED = CalibrateOn(random=True)
POOLING = """
from torch import nn

def factory():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(settled().state_dict(), str(file))
    return file


@pytest.fixture
def model(weights: Path) -> Model:
    return replace(MODEL, weights=weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all: what it holds is named by content."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def make(folder: Path, model: Model) -> Make:
    """`compress` with everything but the recipe given; `made` lists what it did."""
    made: list[str] = []

    def run(
        text: str,
        *,
        model: Model = model,
        data: Dataset | None = QUARTERS,
        seed: int = 0,
        data_asked: bool = False,
        calibrate: CalibrateOn = FROM_DATA,
    ) -> Compressed:
        return compress(
            model,
            parse_recipe("r", text),
            data=data,
            cache=folder,
            seed=seed,
            progress=lambda what, fraction: made.append(what),
            data_asked=data_asked,
            calibrate=calibrate,
        )

    run.made = made  # type: ignore[attr-defined]
    return run


def onnx_outputs(file: Path, x: np.ndarray) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    (outputs,) = ReferenceEvaluator(str(file)).run(None, {"input": x})
    return np.asarray(outputs)


def test_both_files_compute_what_the_network_computes_at_any_batch(make: Make):
    made = make("")
    module = settled()
    for batch in (1, 3):
        x = torch.rand(batch, 1, 8, 8)
        wanted = module(x).detach()
        torch.testing.assert_close(torch.export.load(made.files["pt2"]).module()(x), wanted)
        np.testing.assert_allclose(onnx_outputs(made.files["onnx"], x.numpy()), wanted, rtol=1e-4, atol=1e-5)
    assert made.inputs[0].name == "input"
    assert made.inputs[0].shape == (-1, 1, 8, 8)


def test_the_onnx_file_has_named_ends_named_layers_and_no_batchnorm(make: Make):
    graph = onnx.load(make("").files["onnx"]).graph
    assert [item.name for item in (*graph.input, *graph.output)] == ["input", "output"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert make("").layers == ("conv", "depthwise", "pointwise", "fc1", "fc2")


def test_the_files_tell_nothing_of_the_machine_that_made_them(make: Make):
    made = make("")
    for file in made.files.values():
        assert str(Path(__file__).parent).encode() not in file.read_bytes()


def test_a_second_time_nothing_is_made_again(make: Make):
    first = make("prune(amount=0.5)")
    count = len(make.made)
    stamps = {file: file.stat().st_mtime_ns for file in first.files.values()}
    assert make("prune(amount=0.5)") == first
    assert len(make.made) == count
    assert {file: file.stat().st_mtime_ns for file in first.files.values()} == stamps


def test_recipes_that_differ_only_in_what_the_runtime_does_share_their_files(make: Make):
    plain, static, half = (make(f"prune(amount=0.5){end}") for end in ("", " + int8(samples=16)", " + float16"))
    assert plain.files == static.files == half.files
    assert len({plain.digest, static.digest, half.digest}) == 3
    assert static.quant is not None
    assert static.quant.kind == "static"
    assert (plain.calibration, half.calibration) == (None, None)
    with np.load(static.calibration) as samples:
        assert samples["input"].shape == (16, 1, 8, 8)
        pool = {image.tobytes() for image in small_data().train.x[0]}
        assert {image.tobytes() for image in samples["input"]} <= pool


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"data": replace(small_data(), train=ArrayPart((small_data().train.x[0] + 0.5,), small_data().train.y))},
    ],
    ids=["another seed", "other data"],
)
def test_what_the_result_follows_from_is_in_its_name(make: Make, other):
    assert (
        make("prune(amount=0.5, criterion='random')").files
        != make("prune(amount=0.5, criterion='random')", **other).files
    )


def test_another_test_set_makes_nothing_again_because_no_step_may_read_it(make: Make, model: Model, folder: Path):
    first = make("prune(amount=0.5) + finetune(epochs=1)")
    count, known = len(make.made), small_data()
    other = replace(known, test=ArrayPart((known.test.x[0][:20],), known.test.y[:20]))
    assert make("prune(amount=0.5) + finetune(epochs=1)", data=other).files == first.files
    assert len(make.made) == count
    _, context = open_network(model, data=known, cache=folder, seed=0, progress=lambda *_: None)
    assert context.data is not None
    test = context.data.test
    for read in (lambda: len(test), lambda: test.inputs(slice(1)), lambda: test.targets(slice(1))):
        with pytest.raises(InvalidInput, match="may not look at the test set"):
            read()
    assert context.data.train is known.train


def test_other_weights_make_other_files(make: Make, model: Model, tmp_path: Path):
    changed = settled()
    with torch.no_grad():
        changed.fc2.bias += 1
    file = tmp_path / "other.safetensors"
    save_file(changed.state_dict(), str(file))
    assert make("").digest != make("", model=replace(model, weights=file)).digest


def test_without_data_the_inputs_shape_is_in_the_name(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A network that pools to one pixel has the same structure and weights for inputs of any size."""
    (tmp_path / "pooling.py").write_text(POOLING)
    monkeypatch.syspath_prepend(tmp_path)
    for side in (8, 12):
        sized = Model(name="pooling:factory", factory="pooling:factory", input_shape=(1, side, side))
        made = make("", model=sized, data=None)
        shape = onnx.load(made.files["onnx"]).graph.input[0].type.tensor_type.shape
        assert made.inputs[0].shape == (-1, 1, side, side)
        assert [item.dim_value for item in shape.dim[1:]] == [1, side, side]


def test_another_source_of_the_factory_or_version_of_a_library_makes_other_files(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / "pooling_again.py"
    file.write_text(POOLING)
    monkeypatch.syspath_prepend(tmp_path)
    own = Model(name="pooling_again:factory", factory="pooling_again:factory", input_shape=(1, 8, 8))
    found = {make("", model=own, data=None).files["onnx"]}
    file.write_text(f"{POOLING}# the factory has changed\n")
    found.add(make("", model=own, data=None).files["onnx"])
    monkeypatch.setattr(plugins, "version", lambda name: "9.9" if name == "torch-pruning" else version(name))
    found.add(make("", model=own, data=None).files["onnx"])
    assert len(found) == 3


def test_changed_code_of_any_wing_makes_other_files(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The networks a step brings in (student, distill's teacher) are built and trained by bench.models."""
    copies = {folder.name: shutil.copytree(folder, tmp_path / folder.name) for folder in cache_key.CODE}
    monkeypatch.setattr(cache_key, "CODE", tuple(copies.values()))
    found = make("prune(amount=0.5)").files["onnx"]
    assert make("prune(amount=0.5)").files["onnx"] == found
    wings = (
        "compress/layers.py",
        "compress/prune/channel_groups.py",
        "compress/quantize/simulate.py",
        "compress/factorize/svd.py",
        "compress/share/kmeans.py",
        "compress/train/finetune.py",
        "compress/coding/huffman.py",
        "models/catalogue.py",
        "models/networks/resnet.py",
        "models/training/fit.py",
        "tasks/builtin.py",
    )
    names = [cache_key.code_digests(())]
    for changed in wings:
        file = tmp_path / changed
        file.write_text(file.read_text() + "# changed\n")
        names.append(cache_key.code_digests(()))
        assert names[-1] not in names[:-1], changed
    assert make("prune(amount=0.5)").files["onnx"] != found


def test_the_code_in_a_name_is_all_that_compresses_builds_and_trains():
    packages = (bench.compress, bench.models, bench.tasks)
    assert tuple(Path(package.__file__).parent for package in packages) == cache_key.CODE


@pytest.mark.parametrize("damage", ["flip", "cut", "sidecar", "gone"])
def test_a_damaged_entry_is_noticed_and_made_anew(make: Make, damage: str):
    first = make("prune(amount=0.5)")
    file = first.files["onnx"]
    good = file.read_bytes()
    if damage == "flip":
        file.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    elif damage == "cut":
        file.write_bytes(good[:100])
    elif damage == "sidecar":
        sidecar = file.parent / "entry.json"
        sidecar.write_text(sidecar.read_text().replace("sparsity", "sparsitx"))
    else:
        file.unlink()
    again = make("prune(amount=0.5)")
    assert again == first
    assert file.read_bytes() == good


@pytest.mark.parametrize("unfit", ["no data", "another shape"])
def test_without_data_that_fits_nothing_is_calibrated_and_the_remedies_are_named(make: Make, tmp_path: Path, unfit):
    file, data = as_model(onnx_file(tmp_path)), None if unfit == "no data" else QUARTERS
    said = "no data set is named" if data is None else r"data set quarters: the model takes float32 \(4\)"
    words = rf"^there is nothing to calibrate on \({said}.*--dataset.*--calibrate FILE\.npz.*--calibrate random"
    for recipe in ("int8(samples=8)", "fixed(width=8, samples=8)"):
        with pytest.raises(Unsupported, match=words):
            make(recipe, model=file, data=data)
    assert make("float16", model=file, data=data).calibration is None


def test_random_calibration_is_told_and_not_believed(make: Make, model: Model):
    made = make("int8(samples=8)", model=replace(model, data=None), data=None, calibrate=ASKED)
    assert (made.calibrated_on, made.distrust) == ("8 random inputs, seed 0", (RANDOM,))
    with np.load(made.calibration) as samples:
        assert samples["input"].shape == (8, 1, 8, 8)
    calibrated = make("int8(samples=8)")
    assert (calibrated.calibrated_on, calibrated.distrust) == (
        "8 samples of the training set of quarters, seed 0",
        (),
    )


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_no_random_input_is_calibrated_on_and_judged_on(make: Make, model: Model, seed: int):
    """Inputs to judge with are drawn from the same seed."""
    made = make("int8(samples=8)", model=replace(model, data=None), data=None, seed=seed, calibrate=ASKED)
    with np.load(made.calibration) as samples:
        spec = TensorSpec(name="input", shape=(1, 1, 8, 8))
        judged = draw_inputs([spec, spec], 64, seed)
        assert not any(np.isin(samples["input"], array).any() for array in judged)


def test_a_files_samples_are_calibrated_on_by_input_name(make: Make, model: Model, tmp_path: Path):
    file = tmp_path / "mine.npz"
    x = np.random.default_rng(3).random((20, 1, 8, 8), dtype=np.float32)
    np.savez(file, input=x, something=np.ones(3))
    made = make("int8(samples=8)", calibrate=CalibrateOn(file=file))
    assert (made.calibrated_on, made.distrust) == ("8 of 20 samples of mine.npz, seed 0", ())
    with np.load(made.calibration) as samples:
        assert samples["input"].shape == (8, 1, 8, 8)
        assert {image.tobytes() for image in samples["input"]} <= {image.tobytes() for image in x}


@pytest.mark.parametrize(
    ("arrays", "error", "words"),
    [
        ({"x": np.zeros(4, np.float32), "y": np.zeros(4)}, InvalidInput, "no array for input 'input'"),
        ({"input": np.zeros((4, 1, 9, 8), np.float32)}, Unsupported, r"wanted \(samples, 1, 8, 8\)"),
        ({"input": np.zeros((4, 1, 8, 8), np.uint8)}, Unsupported, "holds uint8, the input takes float32"),
        ({"input": np.zeros((0, 1, 8, 8), np.float32)}, InvalidInput, "at least one sample"),
        ({"input": np.full((4, 1, 8, 8), np.nan, np.float32)}, InvalidInput, "NaN"),
        ({"input": small_data().test.x[0][:3]}, InvalidInput, "3 of 3 samples are in the test set of quarters"),
    ],
)
def test_a_file_that_cannot_be_calibrated_on_is_refused_by_name(make: Make, tmp_path: Path, arrays, error, words):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(error, match=rf"mine\.npz.*{words}"):
        make("int8(samples=8)", calibrate=CalibrateOn(file=tmp_path / "mine.npz"))


def test_a_file_with_samples_of_the_file_that_judges_is_not_calibrated_on(make: Make, model: Model, tmp_path: Path):
    x = np.random.default_rng(3).random((20, 1, 8, 8), dtype=np.float32)
    for name, rows in (("all", x), ("first", x[:12]), ("rest", x[12:])):
        np.savez(tmp_path / f"{name}.npz", input=rows)

    def calibrate(name: str, judges: str) -> Compressed:
        asked = choose_calibration(str(tmp_path / name), tmp_path / judges, [parse_recipe("r", "int8(samples=20)")])
        return make("int8(samples=20)", model=replace(model, data=None), data=None, calibrate=asked)

    assert calibrate("first.npz", "rest.npz").calibrated_on == "12 of 12 samples of first.npz, seed 0"
    for judges, count in (("all.npz", 20), ("rest.npz", 8)):
        with pytest.raises(InvalidInput, match=rf"{count} of 20 samples are in .*{judges}, which judges the result"):
            calibrate("all.npz", judges)


@pytest.mark.parametrize("text", ["qat(epochs=1, samples=8)", "mixed_int8(samples=8, held_out=16, max_drop_pp=100)"])
def test_steps_that_use_the_data_set_calibrate_on_it_whatever_is_asked_of_the_runtime(make: Make, text: str):
    made = make(text, calibrate=ASKED)
    assert (made.calibrated_on, made.distrust) == ("8 samples of the training set of quarters, seed 0", ())


def test_data_of_another_type_does_not_fit():
    inputs = (TensorSpec(name="x", shape=(-1, 1, 8, 8), dtype="float16"),)
    assert "takes float16 (1, 8, 8), the data set has float32" in misfit(inputs, small_data())


CRIPPLED = """
import torch
from small_network import settled

def factory():
    module = settled()
    torch.nn.init.zeros_(module.fc2.weight)
    return module
"""


@pytest.mark.parametrize("data", [None, QUARTERS], ids=["no data", "data"])
@pytest.mark.parametrize(
    "text", ["", "prune(amount=0.3, skip=['fc2'])", "channels(amount=0.25)", "lowrank(rank_ratio=0.5)", "float16"]
)
def test_a_users_weights_are_never_mended(make: Make, monkeypatch, tmp_path: Path, data, text: str):
    """With its last layer zeroed, a network gives the bias of that layer whatever it is shown."""
    (tmp_path / "crippled.py").write_text(CRIPPLED)
    monkeypatch.syspath_prepend(tmp_path)
    own = Model(name="crippled:factory", factory="crippled:factory", input_shape=(1, 8, 8), classes=4)
    made = make(text, model=own, data=data)
    found = onnx_outputs(made.files["onnx"], small_data().test.x[0])
    np.testing.assert_allclose(found, np.tile(settled().fc2.bias.detach(), (len(found), 1)), atol=1e-6)
    statistics = {name: value for name, value in settled().state_dict().items() if "running" in name}
    known = reference(own, data=data, cache=tmp_path, seed=0, progress=lambda *_: None).state_dict()
    assert all(torch.equal(known[name], value) for name, value in statistics.items())


def test_a_name_that_is_no_layer_is_refused_with_the_nearest(make: Make):
    with pytest.raises(InvalidInput, match=r"no such layer; nearest: .*fc1"):
        make("int8(keep_float=['fc'])")


def test_a_step_that_leaves_nan_is_named(make: Make):
    with pytest.raises(InvalidInput, match="finetune"):
        make("finetune(epochs=1, learning_rate=1e30)")


def test_the_reference_is_the_network_itself(model: Model, tmp_path: Path):
    found = reference(model, data=small_data(), cache=tmp_path, seed=0, progress=lambda what, fraction: None)
    assert found is not None
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(found(x), settled()(x))


# ---- models that are files ----


def onnx_file(folder: Path, *, location: str | None = None, length: int = 64) -> Path:
    """A Gemm of 4 inputs and 4 outputs named `fc`; its weight outside the file at `location` if given."""
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "fc.weight")
    if location is not None:
        folder.mkdir(parents=True, exist_ok=True)
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for name, value in {"location": location, "offset": "0", "length": str(length)}.items():
            item = weight.external_data.add()
            item.key, item.value = name, value
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "fc.weight"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    file = folder / "model.onnx"
    file.write_bytes(proto.SerializeToString())
    return file


def as_model(file: Path) -> Model:
    return Model(name=file.name, file=file)


def test_an_onnx_file_is_taken_as_it_is_and_quantized(make: Make, tmp_path: Path):
    file = onnx_file(tmp_path)
    made = make("int8(keep_float=['fc'], samples=8)", model=as_model(file), data=None, calibrate=ASKED)
    assert made.files == {"onnx": file}
    assert (made.inputs[0].name, made.inputs[0].shape, made.layers) == ("x", (-1, 4), ("fc",))
    with np.load(made.calibration) as samples:
        assert samples["x"].shape == (8, 4)
    assert reference(as_model(file), data=None, cache=tmp_path, seed=0, progress=lambda what, fraction: None) is None


def test_the_digest_of_a_file_follows_its_content_not_its_name(make: Make, tmp_path: Path):
    file = onnx_file(tmp_path)
    copy = tmp_path / "copy.onnx"
    shutil.copy(file, copy)
    first = make("", model=as_model(file), data=None).digest
    assert make("", model=as_model(copy), data=None).digest == first
    proto = onnx.load(copy)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(2 * np.eye(4, dtype=np.float32), "fc.weight"))
    copy.write_bytes(proto.SerializeToString())
    assert make("", model=as_model(copy), data=None).digest != first


def test_external_data_beside_the_file_is_taken_in(make: Make, tmp_path: Path):
    file = onnx_file(tmp_path, location="weights.bin")
    (tmp_path / "weights.bin").write_bytes(np.eye(4, dtype=np.float32).tobytes())
    made = make("", model=as_model(file), data=None)
    assert "1 tensors" in made.notes["external_data"]
    (weight,) = onnx.load(made.files["onnx"], load_external_data=False).graph.initializer
    assert np.array_equal(numpy_helper.to_array(weight), np.eye(4))


def free_file(folder: Path, inputs: int = 1) -> Path:
    """A Relu of free length `time` over 3 channels; with two inputs an Add of them."""
    names = ["x", "z"][:inputs]
    node = helper.make_node("Relu" if inputs == 1 else "Add", names, ["y"])
    x, y = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "time"]) for name in some]
        for some in (names, ["y"])
    )
    file = folder / "free.onnx"
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(helper.make_graph([node], "g", x, y), opset_imports=[opset]), file)
    return file


def test_axes_a_file_leaves_free_are_fixed_by_the_input_shape(make: Make, tmp_path: Path):
    model = replace(as_model(free_file(tmp_path)), input_shape=(3, 16))
    made = make("int8(samples=8)", model=model, data=None, calibrate=ASKED)
    assert made.inputs[0].shape == (-1, 3, 16)
    assert made.notes["input_shape"] == "sizes that the file leaves free are fixed: x=N,3,16"
    output = onnx.load(made.files["onnx"]).graph.output[0].type.tensor_type.shape.dim
    assert (output[0].dim_param, [dim.dim_value for dim in output[1:]]) == ("n", [3, 16])
    with np.load(made.calibration) as samples:
        assert samples["x"].shape == (8, 3, 16)
    longer = make("", model=replace(model, input_shape=(3, 32)), data=None)
    assert longer.digest != make("", model=model, data=None).digest


def test_an_input_shape_that_a_file_contradicts_is_refused(make: Make, tmp_path: Path):
    free = as_model(free_file(tmp_path))
    for shape in ((4, 16), (3, 16, 1), (48,)):
        with pytest.raises(InvalidInput, match=r"free\.onnx: input 'x' has shape \(3, time\) without the batch, not"):
            make("", model=replace(free, input_shape=shape), data=None)
    fixed = as_model(onnx_file(tmp_path))
    assert "input_shape" not in make("", model=replace(fixed, input_shape=(4,)), data=None).notes
    with pytest.raises(InvalidInput, match=r"has shape \(4\) without the batch, not \(5,\)"):
        make("", model=replace(fixed, input_shape=(5,)), data=None)
    both = replace(as_model(free_file(tmp_path, inputs=2)), input_shape=(3, 16))
    with pytest.raises(InvalidInput, match="--input-shape is for one input, there are x, z"):
        make("", model=both, data=None)


def test_a_file_that_takes_no_input_is_refused(make: Make, tmp_path: Path):
    node = onnx.helper.make_node("Constant", [], ["y"], value_float=1.0)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [output])), tmp_path / "none.onnx")
    with pytest.raises(InvalidInput, match=r"none\.onnx: the graph takes no input"):
        make("", model=as_model(tmp_path / "none.onnx"), data=None)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "link.bin", ""])
def test_external_data_outside_the_folder_is_refused_unread(make: Make, tmp_path: Path, location: str):
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    file = onnx_file(folder, location=location)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(InvalidInput, match="outside the model's folder"):
        make("", model=as_model(file), data=None)


def test_external_data_that_is_missing_or_short_is_refused(make: Make, tmp_path: Path):
    file = onnx_file(tmp_path, location="weights.bin")
    with pytest.raises(InvalidInput, match="no such file beside the model"):
        make("", model=as_model(file), data=None)
    (tmp_path / "weights.bin").write_bytes(bytes(63))
    with pytest.raises(InvalidInput, match=r"which has 63"):
        make("", model=as_model(file), data=None)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000), "half"])
def test_a_file_that_is_no_onnx_model_is_refused_by_name(make: Make, tmp_path: Path, content):
    file = onnx_file(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(InvalidInput, match=r"model\.onnx"):
        make("", model=as_model(file), data=None)


@pytest.mark.parametrize("name", ["missing.onnx", "missing.tflite"])
def test_a_missing_file_is_refused_by_name(make: Make, tmp_path: Path, name: str):
    with pytest.raises(InvalidInput, match="no such file"):
        make("", model=as_model(tmp_path / name), data=None)


def test_real_tflite_files_tell_their_inputs(make: Make, tflite_cases: Path):
    found = {
        file.name: make("", model=resolve(str(file)), data=None).inputs[0] for file in tflite_cases.glob("*.tflite")
    }
    assert found["ad01_int8.tflite"].shape == (1, 640)
    assert found["ad01_int8.tflite"].dtype == "float32", "a session takes real numbers"
    assert found["vww_96_float.tflite"].shape == (1, 96, 96, 3)
    assert found["vww_96_float.tflite"].dtype == "float32"


@pytest.mark.parametrize("cut", [0, 7, 20, 200])
def test_a_truncated_tflite_file_is_refused_by_name(make: Make, tflite_cases: Path, tmp_path: Path, cut: int):
    file = tmp_path / "cut.tflite"
    file.write_bytes((tflite_cases / "ad01_int8.tflite").read_bytes()[:cut])
    with pytest.raises(InvalidInput, match=r"cut\.tflite: truncated"):
        make("", model=as_model(file), data=None)


def test_random_bytes_never_get_further_than_a_refusal(tflite_cases: Path, tmp_path: Path):
    from bench.formats.tflite_file import read_tflite
    from bench.formats.tflite_inputs import declared_inputs

    generator = np.random.default_rng(0)
    whole = bytearray((tflite_cases / "ad01_int8.tflite").read_bytes())
    file = tmp_path / "damaged.tflite"
    for _ in range(300):
        damaged = bytearray(whole)
        for position in generator.integers(8, 4000, 40):
            damaged[position] = generator.integers(256)
        file.write_bytes(damaged)
        with suppress(InvalidInput):
            assert all(item.dtype and item.dims for item in declared_inputs(read_tflite(file), file))


def test_real_onnx_files_tell_their_inputs(make: Make, onnx_cases: Path):
    file = onnx_cases / "version-RFB-320_simplified.onnx"
    made = make("int8(samples=2)", model=resolve(str(file)), data=None, calibrate=ASKED)
    assert made.inputs[0].shape == (1, 3, 240, 320)
    assert len(made.layers) > 50


LOOKS_UP = """
from torch import nn

class LooksUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 8)

    def forward(self, x):
        return self.table(x.long() + 3)

def factory():
    return LooksUp()
"""


def test_a_network_that_fails_on_drawn_inputs_only_is_an_error_that_names_them_and_the_line(tmp_path, monkeypatch):
    (tmp_path / "looks_up.py").write_text(LOOKS_UP)
    monkeypatch.syspath_prepend(tmp_path)
    found = resolve("looks_up:factory", input_shape=(50,))
    with pytest.raises(
        InvalidInput, match=r"looks_up:factory runs on zeros, but not on drawn inputs .*looks_up.py, line"
    ):
        compress(found, parse_recipe("r", ""), data=None, cache=tmp_path, seed=0, progress=lambda *_: None)
