"""Networks of no plain shape: tied weights, layers called twice or never, transposed, written in another order than run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import context_of, settled
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.interface import Network
from bench.compress.pipeline import apply_steps
from bench.compress.prune.weight_criteria import saliency
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, Unsupported


class Tied(nn.Module):
    """`first` and `second` have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x.flatten(1))))))


class Odd(nn.Module):
    """The output is written first, `again` is called twice, `unseen` never: its weight is read."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 4)
        self.stem, self.again, self.unseen = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x.flatten(1)))
        x = F.relu(self.again(F.relu(self.again(x))))
        return self.head(F.linear(x, self.unseen.weight))


class Up(nn.Module):
    """Transposed convolutions, one of them grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.grouped = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(F.relu(self.up(F.relu(self.stem(x))))).mean((2, 3)))


class Attending(nn.Module):
    """Attention whose `in_proj_weight` no layer holds, an embedding, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 8, 8))
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2) + self.place
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Masked(nn.Module):
    """Causal attention over the rows of an image, with a mask of infinities."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.register_buffer("mask", torch.full((8, 8), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        scores = self.query(x) @ self.key(x).transpose(1, 2) + self.mask
        return self.head((scores.softmax(-1) @ x).mean(1))


def run(text: str, module: nn.Module, folder: Path) -> Network:
    return apply_steps(Network(module=module), parse_recipe("r", text).steps, context_of(module, folder), "odd", {})


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


@pytest.mark.parametrize("criterion", ["l1", "random", "taylor", "hessian", "activation"])
@pytest.mark.parametrize("step", ["prune(amount=0.5", "iterative(to=0.5, steps=2"])
def test_tied_weights_are_counted_and_pruned_once(step: str, criterion: str, tmp_path: Path):
    found = run(f"{step}, criterion='{criterion}')", seeded(Tied), tmp_path)
    zeros = sum(int((parameter == 0).sum()) for parameter in found.module.parameters() if parameter.dim() > 1)
    assert abs(zeros - (64 * 64 + 4 * 64) / 2) <= 1
    assert found.notes["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert found.module.first.weight is found.module.second.weight


@pytest.mark.parametrize(
    "step",
    [
        "prune(amount=0.5",
        "threshold(value=0.01",
        "nm(n=2, m=4",
        "iterative(to=0.5, steps=1",
        "sensitivity(max_drop_pp=50.0",
        "share(bits=2",
        "hashed(ratio=0.5",
        "ternary(epochs=1",
        "binary(epochs=1",
    ],
)
def test_a_layer_left_out_is_not_changed_by_one_that_has_its_weight(step: str, tmp_path: Path):
    for left, changed in (("first", "second"), ("second", "first")):
        with pytest.raises(Unsupported, match=rf"{changed!r} and {left!r} have one weight tensor.*skip leaves out"):
            run(f"{step}, skip=({left!r},))", seeded(Tied), tmp_path)
        if step.startswith(("ternary", "binary")):  # they take no `only`
            continue
        with pytest.raises(Unsupported, match=rf"{changed!r} and {left!r} have one weight tensor.*only leaves out"):
            run(f"{step}, only=({changed!r},))", seeded(Tied), tmp_path)


def test_layers_of_one_weight_are_left_out_or_changed_together(tmp_path: Path):
    before = seeded(Tied).first.weight
    without = run("prune(amount=0.5, skip=('first', 'second'))", seeded(Tied), tmp_path)
    assert torch.equal(without.module.first.weight, before)
    only = run("prune(amount=0.5, only=('first', 'second'))", seeded(Tied), tmp_path)
    assert list(only.masks) == ["first.weight"]


def test_tied_weights_are_hashed_by_one_hash_and_stay_so(tmp_path: Path):
    found = run("hashed(ratio=0.1) + finetune(epochs=1)", seeded(Tied), tmp_path)
    assert len(found.module.first.weight.unique()) <= 410
    assert set(found.notes["hashed"]) == {"first.weight", "head.weight"}


@pytest.mark.parametrize("step", ["qat(epochs=1)", "mixed_int8", "binary(epochs=1)", "ternary(epochs=1)"])
def test_tied_weights_are_rounded_together(step: str, tmp_path: Path):
    found = run(step, seeded(Tied), tmp_path)
    assert found.module.first.weight is found.module.second.weight


def test_tied_weights_are_not_replaced_since_they_would_remain(tmp_path: Path):
    found = run("lowrank(rank_ratio=0.3)", seeded(Tied), tmp_path)
    assert set(found.notes["factorized"]) == {"head"}
    assert "another layer's" in found.notes["not_factorized"]["second"]


@pytest.mark.parametrize(
    "step", ["prune(amount=0.5)", "finetune(epochs=1)", "lowrank(rank_ratio=0.5)", "share(bits=2)", "qat(epochs=1)"]
)
def test_a_mask_of_infinities_is_not_taken_for_weights_that_a_step_broke(step: str, tmp_path: Path):
    module = seeded(Masked)
    found = run(step, module, tmp_path)
    assert torch.equal(found.module.mask, module.mask)


def test_a_step_that_breaks_weights_is_named_also_beside_a_mask_of_infinities(tmp_path: Path):
    with pytest.raises(InvalidInput, match=r"finetune\(epochs=1, learning_rate=1e\+30\)"):
        run("prune(amount=0.5) + finetune(epochs=1, learning_rate=1e30)", seeded(Masked), tmp_path)


def test_a_student_may_bring_a_mask_of_infinities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.models.factory.load_factory", lambda _path: Masked)
    found = run("student(model='test_compress_odd_networks:Masked') + prune(amount=0.5)", settled(), tmp_path)
    assert isinstance(found.module, Masked)


def test_activation_names_a_layer_whose_input_it_cannot_see(tmp_path: Path):
    with pytest.raises(Unsupported, match=r"no input of layer 'unseen'.*skip=\('unseen',\)"):
        run("prune(amount=0.5, criterion='activation')", seeded(Odd), tmp_path)
    assert run("prune(amount=0.2, criterion='activation', skip=('unseen',))", seeded(Odd), tmp_path).masks


def test_the_root_mean_square_of_two_calls_is_over_both(tmp_path: Path):
    module = seeded(Odd)
    context = context_of(module, tmp_path)
    assert context.data is not None
    with torch.no_grad():
        first = F.relu(module.stem(torch.from_numpy(context.data.train.x[0]).flatten(1)))
        both = torch.cat([first, F.relu(module.again(first))])
    score = saliency(module, {"again": module.again}, "activation", context)["again"]
    wanted = module.again.weight.detach().abs() * both.square().mean(0).sqrt()
    torch.testing.assert_close(score, wanted)


def test_the_ends_are_those_that_run_first_and_last(tmp_path: Path):
    assert set(run("binary(epochs=1, float_ends=True)", seeded(Odd), tmp_path).notes["weight_bits"]) == {
        "again",
        "unseen",
    }


def test_n_of_m_goes_along_the_inputs_of_transposed_convolutions_too(tmp_path: Path):
    found = run("nm(n=1, m=4)", seeded(Up), tmp_path)
    kept = found.module.up.weight.reshape(2, 4, -1) != 0
    assert bool((kept.sum(1) == 1).all())
    assert found.notes["nm"] == {"1:4": ["stem", "grouped"]}, "a group of three inputs has no four neighbours"


def test_weights_pruned_before_are_not_among_the_n_that_are_kept(tmp_path: Path):
    found = run("prune(amount=0.5) + nm(criterion='random')", seeded(Tied), tmp_path)
    before = run("prune(amount=0.5)", seeded(Tied), tmp_path).module.first.weight.reshape(-1, 4) != 0
    after = found.module.first.weight.reshape(-1, 4) != 0
    assert torch.equal(after.sum(1), before.sum(1).clamp(max=2))


def test_the_sparsity_noted_is_that_of_the_network_at_the_end(tmp_path: Path):
    found = run("prune(amount=0.5) + neurons(amount=0.5)", seeded(Tied), tmp_path)
    weights = torch.cat([layer.weight.flatten() for layer in found.module.modules() if isinstance(layer, nn.Linear)])
    assert found.notes["sparsity"] == pytest.approx(float((weights == 0).float().mean()), abs=1e-6)


@pytest.mark.parametrize("text", ["prune(amount=0.5)", "share(bits=2)", "ternary(epochs=1, float_ends=False)"])
def test_weights_that_no_step_knows_are_named(text: str, tmp_path: Path) -> None:
    """192 + 64 of 388 parameters."""
    said = run(text, Attending(), tmp_path).notes["outside_layers"]
    assert said == (
        "66% of the parameters are outside convolutions and linear layers and stay as they are: "
        "place, attention.in_proj_weight"
    )


@pytest.mark.parametrize(("text", "module"), [("prune(amount=0.5)", Tied()), ("finetune(epochs=1)", Attending())])
def test_nothing_is_told_where_nothing_is_left(text: str, module: nn.Module, tmp_path: Path) -> None:
    assert "outside_layers" not in run(text, module, tmp_path).notes


@pytest.mark.parametrize(
    "text", ["prune(amount=0.5)", "prune(amount=0.5, criterion='taylor')", "threshold(value=0.1)", "regularize()"]
)
def test_a_network_without_layers_is_refused_by_the_steps_that_need_some(text: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has no convolution and no linear layer here that holds its weight"):
        run(text, nn.Sequential(nn.Flatten(), nn.LayerNorm(64)), tmp_path)
