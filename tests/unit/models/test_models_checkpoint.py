"""A checkpoint fills the network exactly or not at all, and never runs code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.errors import InvalidInput
from bench.models.checkpoint import load_weights


class Bomb:
    """Its pickle creates a file when it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    "form", ["safetensors", "pt", "nested", "without counters", "module.", "model.", "module._orig_mod."]
)
def test_weights_come_back_to_the_bit(tmp_path, form):
    source, target = network(1), network(2)
    state = source.state_dict()
    if form == "safetensors":
        save_file(state, tmp_path / "w.safetensors")
    elif form == "nested":
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    elif form.endswith("."):  # DataParallel's and Lightning's
        torch.save({"state_dict": {form + key: value for key, value in state.items()}}, tmp_path / "w.ckpt")
    elif form == "without counters":
        torch.save({key: value for key, value in state.items() if "tracked" not in key}, tmp_path / "w.pt")
    else:
        torch.save(state, tmp_path / "w.pt")
    load_weights(target, next(tmp_path.glob("w.*")))
    assert same(source, target)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_another_width_keep_their_values(tmp_path, kind):
    state, target = {key: value.to(kind) for key, value in network(1).state_dict().items()}, network(2)
    torch.save({"state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert all(torch.equal(value.to(kind), state[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("wrap", ["torch", "pickle", "inside a dict"])
def test_a_pickle_with_code_is_refused_and_its_code_never_runs(tmp_path, wrap):
    path, target = tmp_path / "evil.pt", tmp_path / "executed"
    if wrap == "torch":
        torch.save(Bomb(target), path)
    elif wrap == "inside a dict":
        torch.save({**network().state_dict(), "extra": Bomb(target)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(InvalidInput, match=r"evil\.pt"):
        load_weights(network(), path)
    assert not target.exists()
    torch.load(path, weights_only=False) if wrap != "pickle" else pickle.loads(path.read_bytes())
    assert target.exists(), "the bomb is a dud: this test proves nothing"


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(network(), tmp_path / "module.pt")
    with pytest.raises(InvalidInput, match="refused"):
        load_weights(network(), tmp_path / "module.pt")


def test_torchscript_is_refused_without_the_advice_to_run_it(tmp_path, recwarn):
    torch.jit.save(torch.jit.trace(network(), torch.zeros(1, 1, 8, 8)), tmp_path / "script.pt")
    before = len(recwarn)
    with pytest.raises(InvalidInput, match=r"script\.pt is TorchScript.*state_dict"):
        load_weights(network(), tmp_path / "script.pt")
    assert len(recwarn) == before


def test_an_empty_checkpoint_has_a_reason(tmp_path):
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InvalidInput, match=r"not a readable state dict: \w+"):
        load_weights(network(), tmp_path / "empty.pt")


def averaged(state):
    return {"n_averaged": torch.tensor(3), **{f"module.{key}": value for key, value in state.items()}}


@pytest.mark.parametrize(
    "change",
    [
        averaged,
        lambda s: {"state_dict": averaged(s), "step": 3},
        lambda s: {key.replace("0.", "0._orig_mod."): value for key, value in s.items()},
    ],
    ids=["AveragedModel", "AveragedModel in a file of a trainer", "one layer compiled"],
)
def test_what_torch_adds_to_a_state_dict_is_left_out(tmp_path, change):
    source, target = network(1), network(2)
    torch.save(change(source.state_dict()), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(source, target)


def test_weights_of_eight_bit_floats_are_loaded_as_the_numbers_that_they_are(tmp_path):
    source, target = network(1), network(2)
    small = {k: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    save_file(small, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(target.state_dict()["0.weight"], small["0.weight"].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "3.bias"}, r"lacks 3\.bias"),
        (lambda s: {**s, "7.weight": torch.ones(1)}, r"besides 7\.weight"),
        (lambda s: {**s, "3.bias": torch.ones(4)}, r"3\.bias has shape \(4,\), wanted \(3,\)"),
        (lambda s: {**s, "3.bias": torch.full((3,), float("nan"))}, r"3\.bias holds NaN"),
        (lambda s: {"module." + k: v for k, v in s.items() if k != "3.bias"}, r"lacks 3\.bias; has besides nothing"),
        (lambda s: {"other." + k + "x": v for k, v in s.items()}, r"besides other\.0"),
        (
            lambda s: {**s, "3.weight": (s["3.weight"] * 127).to(torch.int8)},
            r"3\.weight holds int8, the network float32",
        ),
        (lambda s: {**s, "3.bias": s["3.bias"] + 1j}, r"3\.bias holds complex64, the network float32"),
        (lambda s: {**s, "1.num_batches_tracked": torch.tensor(0.5)}, "holds float32, the network int64"),
        (lambda s: {"model": s, "model_ema": {k: v * 0 for k, v in s.items()}}, r"several sets .*\(model, model_ema\)"),
        (lambda s: {"state_dict": s, "ema": {"module." + k: v for k, v in s.items()}}, r"several sets"),
        (
            lambda s: {"model": s, "ema": {"module": s, "updates": 1}},
            r"several sets .*\(model, ema\.module\).*\['model'\]",
        ),
        (lambda s: {"last": {"state_dict": s}, "best": {"state_dict": s}}, r"\['last'\]\['state_dict'\]"),
        (lambda s: {"model": s, "average": averaged(s)}, r"several sets .*\(model, average\)"),
        (lambda s: {**s, "note": "text"}, "note is not a tensor"),
        (lambda _: {}, "a state dict"),
        (lambda _: [torch.ones(1)], "holds list"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(tmp_path, change, message):
    target, untouched = network(2), network(2)
    torch.save(change(network(1).state_dict()), tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match=message):
        load_weights(target, tmp_path / "w.pt")
    assert same(target, untouched)


def masked(value=-torch.inf, place=2):
    module = nn.Linear(3, 3)
    mask = torch.zeros(3)
    mask[place] = value
    module.register_buffer("mask", mask)
    return module


def test_infinities_that_the_networks_own_tensor_has_too_are_loaded(tmp_path):
    source, target = masked(), masked()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(source, target)


@pytest.mark.parametrize(
    ("given", "own"),
    [
        (masked(), masked(0.0)),
        (masked(torch.inf), masked()),
        (masked(place=1), masked()),
        (masked(torch.nan), masked()),
        (masked(torch.nan), masked(torch.nan)),
    ],
    ids=["finite", "other sign", "other place", "NaN", "NaN in both"],
)
def test_other_infinities_and_nan_are_refused(tmp_path, given, own):
    torch.save(given.state_dict(), tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match="mask holds NaN or infinite values"):
        load_weights(own, tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"\0" * 50, b"\xff" * 64])
def test_a_damaged_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=name):
        load_weights(network(), tmp_path / name)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InvalidInput, match=r"w\.pt"):
        load_weights(network(), path)


def test_other_suffixes_and_missing_files_are_named(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"read from \.safetensors"):
        load_weights(network(), tmp_path / "w.h5")
    with pytest.raises(InvalidInput, match="does not exist"):
        load_weights(network(), tmp_path / "w.pt")


class Tied(nn.Module):
    """The output layer has the weights of the embedding, as language models do."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("left_out", ["", "head.weight", "embedding.weight"])
def test_a_tensor_of_two_names_may_be_there_under_one_of_them(tmp_path, left_out):
    source, target = Tied(1), Tied(2)
    if left_out:
        kept = {key: value for key, value in source.state_dict().items() if key != left_out}
        save_file(kept, tmp_path / "w.safetensors")
    else:
        torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, next(tmp_path.glob("w.*")))
    assert same(source, target)


def test_two_values_of_one_tensor_are_refused(tmp_path):
    target, untouched = Tied(2), Tied(2)
    state = Tied(1).state_dict()
    torch.save({**state, "head.weight": state["head.weight"] + 1}, tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match=r"embedding\.weight and head\.weight differ.*one tensor for both"):
        load_weights(target, tmp_path / "w.pt")
    assert same(target, untouched)
