"""The training loop: seeded to the byte, keeps what it is told to keep, caches what follows from the same things."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import bench.models
import bench.tasks
from bench.data.datasets import Dataset, load_data
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.models.catalogue import Training
from bench.models.copies import duplicate
from bench.models.factory import build
from bench.models.registry import resolve
from bench.models.training import trained_networks
from bench.models.training.batchnorm import settle
from bench.models.training.constraints import Constraints
from bench.models.training.fit import Objective, Schedule, cross_entropy, fit
from bench.models.training.predict import accuracy, predict
from bench.models.training.trained_networks import train_or_load


def quiet(_label, _fraction):
    pass


def blobs(seed=0, count=240):
    """Three well separated clouds, 6 features."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = (rng.standard_normal((count, 6)) * 0.3 + np.eye(3, 6)[y] * 3).astype(np.float32)
    return Dataset(name="blobs", train=ArrayPart((x,), y), test=ArrayPart((x[:60],), y[:60]), classes=3)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


SCHEDULE = Schedule(epochs=3, learning_rate=0.01, batch=32)
QUIET = {"seed": 5, "progress": quiet}
ONE_STEP = Schedule(epochs=1, learning_rate=0.1, batch=32, optimizer="sgd")
"""On 32 examples."""


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_learns_and_returns_falling_losses(optimizer):
    module, data = net(), blobs()
    losses = fit(module, data, replace(SCHEDULE, epochs=12, learning_rate=0.05, optimizer=optimizer), **QUIET)
    assert len(losses) == 12
    assert losses[-1] < 0.1 * losses[0]
    assert accuracy(predict(module, (data.test.x[0],)), data.test.y) > 0.98
    assert not module.training


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    results = []
    for seed in (5, 5, 6):
        module = nn.Sequential(net(), nn.Dropout(0.0))
        module[0].append(nn.Dropout(0.3))
        fit(module, blobs(), SCHEDULE, **{**QUIET, "seed": seed})
        results.append(flat(module))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit(net(3), blobs(), SCHEDULE, **QUIET)
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_small_network_gives_the_same_bytes_on_any_number_of_cores():
    results, seen, before = [], [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        module = net()
        fit(module, blobs(), SCHEDULE, **QUIET, after_step=lambda _: seen.append(torch.get_num_threads()))
        results.append((flat(module), torch.get_num_threads()))
    torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert [after for _, after in results] == [1, 2]
    assert set(seen) == {1}


def test_masked_weights_are_zero_after_every_step():
    module, seen = net(), []
    mask = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    before = module[0].weight.detach().clone()
    fit(
        module,
        blobs(),
        replace(SCHEDULE, weight_decay=0.1),
        **QUIET,
        constraints=Constraints(masks={"0.weight": mask}),
        after_step=lambda m: seen.append(m[0].weight[mask == 0].abs().max().item()),
    )
    assert len(seen) == 3 * (240 // 32)
    assert max(seen) == 0.0
    assert (module[0].weight[mask == 1] != before[mask == 1]).all()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_shared_weights_stay_equal_and_the_rest_free(optimizer):
    module = net()
    clusters = torch.randint(-1, 4, (8, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for index in range(4):
            module[0].weight[clusters == index] = 0.1 * (index - 2)
    before = module[0].weight.detach().clone()
    shared = Constraints(clusters={"0.weight": clusters})
    fit(module, blobs(), replace(SCHEDULE, optimizer=optimizer), **QUIET, constraints=shared)
    weight = module[0].weight.detach()
    centroids = [weight[clusters == index].unique() for index in range(4)]
    assert [len(values) for values in centroids] == [1, 1, 1, 1]
    assert all(abs(float(values) - 0.1 * (index - 2)) > 1e-6 for index, values in enumerate(centroids))
    assert len(weight[clusters == -1].unique()) == int((clusters == -1).sum())
    assert (weight != before).all()


def test_a_centroids_gradient_is_the_sum_over_its_members():
    """One plain SGD step moves a centroid by the learning rate times the summed gradient (Han et al. 2016, eq. 3)."""
    module, data = net(), blobs(count=32)
    clusters = torch.zeros(8, 6, dtype=torch.int64)
    with torch.no_grad():
        module[0].weight.fill_(0.05)
    x, y = torch.from_numpy(data.train.x[0]), torch.from_numpy(data.train.y)
    (gradient,) = torch.autograd.grad(F.cross_entropy(module(x), y), [module[0].weight])
    fit(
        module,
        data,
        ONE_STEP,
        **QUIET,
        constraints=Constraints(clusters={"0.weight": clusters}),
    )
    step = 0.1 * 1.9  # Nesterov's first step: gradient times (1 + momentum)
    assert float(module[0].weight[0, 0].detach()) == pytest.approx(0.05 - step * float(gradient.sum()), rel=1e-4)


def test_a_masked_weight_has_no_part_in_its_clusters_value():
    """A recipe may prune what it shared: the zeros must not draw the others to them."""
    module, mask = net(), torch.ones(8, 6)
    mask[::2] = 0
    with torch.no_grad():
        module[0].weight.copy_(0.5 * mask)
    data = blobs()
    fit(
        module,
        data,
        Schedule(epochs=1, learning_rate=1e-9),
        **QUIET,
        constraints=Constraints(masks={"0.weight": mask}, clusters={"0.weight": torch.zeros(8, 6, dtype=torch.int64)}),
    )
    assert module[0].weight[mask == 1].detach().numpy() == pytest.approx(0.5, abs=1e-4)
    assert len(module[0].weight[mask == 1].unique()) == 1


def test_one_number_in_two_layers_is_one_cluster():
    """Its value moves by the learning rate times the gradient summed over both layers."""
    module, data = net(), blobs(count=32)
    clusters = {name: torch.full_like(p, 7, dtype=torch.int64) for name, p in module.named_parameters() if p.dim() > 1}
    assert len(clusters) == 2
    with torch.no_grad():
        for name in clusters:
            module.get_parameter(name).fill_(0.05)
    x, y = torch.from_numpy(data.train.x[0]), torch.from_numpy(data.train.y)
    weights = [module.get_parameter(name) for name in clusters]
    gradients = torch.autograd.grad(F.cross_entropy(module(x), y), weights)
    total = sum(float(gradient.sum()) for gradient in gradients)
    fit(
        module,
        data,
        ONE_STEP,
        **QUIET,
        constraints=Constraints(clusters=clusters),
    )
    values = torch.cat([module.get_parameter(name).detach().reshape(-1) for name in clusters]).unique()
    assert len(values) == 1
    assert float(values) == pytest.approx(0.05 - 0.1 * 1.9 * total, rel=1e-4)


def test_masks_and_clusters_hold_together():
    module = net()
    mask = torch.ones(8, 6)
    mask[:, 0] = 0
    clusters = torch.zeros(8, 6, dtype=torch.int64)
    clusters[mask == 0] = -1
    both = Constraints(masks={"0.weight": mask}, clusters={"0.weight": clusters})
    fit(module, blobs(), SCHEDULE, **QUIET, constraints=both)
    assert (module[0].weight[:, 0] == 0).all()
    assert len(module[0].weight[:, 1:].unique()) == 1


def test_a_loss_of_ones_own_and_its_parameters_are_trained():
    projection, calls = nn.Linear(3, 1), []
    before = projection.weight.detach().clone()

    def loss(module, x, y):
        calls.append(module.training)
        return F.mse_loss(projection(module(*x)).squeeze(1), y.float())

    objective = Objective(loss=loss, parameters=list(projection.parameters()))
    fit(net(), blobs(), SCHEDULE, **QUIET, objective=objective)
    assert all(calls)
    assert (projection.weight != before).all()


def test_frozen_parameters_stay():
    module = net()
    module[0].weight.requires_grad_(requires_grad=False)
    before = module[0].weight.detach().clone()
    fit(module, blobs(), SCHEDULE, **QUIET)
    assert torch.equal(module[0].weight, before)


def test_a_network_that_ends_in_a_softmax_learns_as_it_does_without():
    plain, ended = net(), nn.Sequential(net(), nn.Softmax(dim=1))
    losses = [fit(module, blobs(), SCHEDULE, **QUIET) for module in (plain, ended)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    torch.testing.assert_close(flat(ended), flat(plain), rtol=1e-2, atol=1e-3)


class TrainsSilently(nn.Sequential):
    """Its `train` returns nothing, as in mmdetection, and it keeps its features."""

    def train(self, mode=True):
        super().train(mode)

    def forward(self, x):
        self.features = self[0](x)
        return self[2](self[1](self.features))


def test_a_network_whose_train_returns_nothing_is_trained_and_can_be_copied():
    module = TrainsSilently(*net())
    before = flat(module)
    fit(module, blobs(), SCHEDULE, **QUIET)
    assert not module.training
    assert not torch.equal(flat(module), before)
    assert torch.equal(flat(duplicate(module)), flat(module))


class DropsByChance(nn.Sequential):
    """Draws from Python and numpy while it trains, as layer drop does."""

    def forward(self, x):
        kept = not self.training or random.random() + np.random.rand() > 1  # noqa: NPY002
        return super().forward(x if kept else 0 * x)


def test_what_a_network_draws_from_python_and_numpy_in_training_is_seeded():
    found = []
    for seed in (5, 5, 6):
        module = DropsByChance(*net())
        fit(module, blobs(), SCHEDULE, seed=seed, progress=quiet)
        found.append(flat(module))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


class WithoutGradient(nn.Sequential):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class WithAuxiliary(nn.Sequential):
    """Gives a second head's scores while it trains, as GoogLeNet does."""

    def forward(self, x):
        scores = super().forward(x)
        return (scores, scores) if self.training else scores


class WantsTargets(nn.Sequential):
    def forward(self, x, y=None):
        return nn.functional.cross_entropy(super().forward(x), y) if self.training else super().forward(x)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            WithoutGradient,
            Unsupported,
            r"^training: the loss has no gradient.*no_grad.*argmax; take that out of forward",
        ),
        (
            WithAuxiliary,
            InvalidInput,
            r"^training, in training mode: task classification judges one output, and the network gives 2",
        ),
        (
            WantsTargets,
            InvalidInput,
            r"^training: the network in training mode raised TypeError.*test_models_train\.py, line",
        ),
    ],
)
def test_a_network_that_cannot_train_is_refused_with_the_reason(kind, error, message):
    with pytest.raises(error, match=message):
        fit(kind(*net()), blobs(), SCHEDULE, **QUIET)


def test_a_network_trains_where_gradients_were_switched_off_by_its_file():
    module = net()
    with torch.no_grad():
        losses = fit(module, blobs(), SCHEDULE, **QUIET)
    assert losses[-1] < losses[0]


def test_a_network_that_is_all_frozen_is_refused_with_the_remedy():
    frozen = net().requires_grad_(requires_grad=False)
    projection = Objective(loss=cross_entropy(), parameters=[torch.zeros(1, requires_grad=True)])
    for module, objective in ((frozen, None), (frozen, projection), (nn.Flatten(), None)):
        with pytest.raises(
            Unsupported, match=r"training: no parameter .* requires_grad is False .*\.requires_grad_\(\)"
        ):
            fit(module, blobs(), SCHEDULE, **QUIET, objective=objective)


def test_a_loss_that_explodes_is_said():
    with pytest.raises(InvalidInput, match="lower the learning rate"):
        fit(net(), blobs(), replace(SCHEDULE, learning_rate=1e30, optimizer="sgd"), **QUIET)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"batch": 0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidInput, match="training needs"):
        replace(SCHEDULE, **wrong)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(InvalidInput, match="known: adam, sgd"):
        replace(SCHEDULE, optimizer="lion")


def test_progress_runs_from_0_to_1():
    seen = []
    fit(net(), blobs(), SCHEDULE, seed=5, progress=lambda label, fraction: seen.append((label, fraction)), label="mine")
    assert [fraction for _, fraction in seen] == sorted(fraction for _, fraction in seen)
    assert (seen[0], seen[-1]) == (("mine", 0.0), ("mine", 1.0))


def test_fewer_examples_than_a_batch_still_train():
    module = net()
    fit(module, blobs(count=12), replace(SCHEDULE, batch=64), **QUIET)
    assert not torch.equal(flat(module), flat(net()))


def test_convolutions_come_back_contiguous():
    data = load_data("digits", None)
    small = replace(data, train=ArrayPart((data.train.x[0][:64],), data.train.y[:64]))
    module = build(resolve("resnet8(width=0.25)", data), 0)
    fit(module, small, replace(SCHEDULE, epochs=1), **QUIET)
    assert all(p.is_contiguous() for p in module.parameters())


def test_prediction_does_not_depend_on_the_batch_and_keeps_the_mode():
    module, data = net().train(), blobs()
    outputs = predict(module, (data.test.x[0],), batch=7)
    assert module.training
    np.testing.assert_allclose(outputs, predict(module, (data.test.x[0],), batch=60), rtol=1e-5)


def test_accuracy_is_the_share_of_right_answers():
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [0.5, 0.4]])
    assert accuracy(logits, np.array([0, 1, 1, 1])) == 0.5


QUICK = Training(small_epochs=2, batch=64)


def counted(model, data, cache, seed=0, training=QUICK):
    """The network and whether it was trained just now."""
    steps = []
    module = train_or_load(
        model, data, cache=cache, seed=seed, progress=lambda _label, fraction: steps.append(fraction), training=training
    )
    return module, bool(steps)


def test_a_network_is_trained_once_and_then_read_back_to_the_bit(tmp_path, digits):
    model = resolve("resnet8(width=0.25)", digits)
    (first, fresh), (second, again) = counted(model, digits, tmp_path), counted(model, digits, tmp_path)
    assert (fresh, again) == (True, False)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert not second.training
    assert len(list((tmp_path / "models").iterdir())) == 1


def test_another_seed_setting_data_or_network_is_trained_anew(tmp_path, digits):
    model = resolve("lenet300_100(width=0.05)", digits)
    assert counted(model, digits, tmp_path)[1]
    less = replace(digits, train=ArrayPart((digits.train.x[0][:640],), digits.train.y[:640]))
    assert counted(model, digits, tmp_path, seed=1)[1]
    assert counted(model, digits, tmp_path, training=replace(QUICK, learning_rate=0.01))[1]
    assert counted(model, less, tmp_path)[1]
    assert counted(resolve("lenet300_100(width=0.06)", digits), digits, tmp_path)[1]
    assert not counted(model, digits, tmp_path)[1]


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:-10], lambda raw: b"\0" * len(raw)])
def test_a_damaged_cache_file_is_trained_again(tmp_path, digits, damage):
    model = resolve("lenet300_100(width=0.05)", digits)
    counted(model, digits, tmp_path)
    (file,) = (tmp_path / "models").glob("*/weights.safetensors")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert counted(model, digits, tmp_path)[1]
    assert load_file(file).keys()
    assert file.read_bytes() == whole


def test_an_interrupted_training_leaves_no_file(tmp_path, digits):
    def interrupt(_label, fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    model = resolve("lenet300_100(width=0.05)", digits)
    with pytest.raises(KeyboardInterrupt):
        train_or_load(model, digits, cache=tmp_path, seed=0, progress=interrupt, training=QUICK)
    assert not list(tmp_path.rglob("*.*"))


def test_a_users_weights_are_used_as_they_are(tmp_path, digits):
    source = build(resolve("lenet5", digits), 9)
    save_file(source.state_dict(), tmp_path / "mine.safetensors")
    module, fresh = counted(resolve("lenet5", digits, weights=tmp_path / "mine.safetensors"), digits, tmp_path)
    assert not fresh
    assert torch.equal(flat(module), flat(source))


def test_a_model_of_another_data_set_is_refused(tmp_path, digits):
    with pytest.raises(Unsupported, match="does not fit data set 'digits'"):
        counted(resolve("resnet8"), digits, tmp_path)


@pytest.mark.parametrize("name", ["resnet18(size=32)", "densenet121(size=32)", "autoencoder"])
def test_without_data_the_outputs_of_a_deep_network_stay_sane(tmp_path, name):
    model = resolve(name)
    module, fresh = counted(model, None, tmp_path)
    outputs = predict(module, (np.random.default_rng(0).standard_normal((4, *model.input_shape)).astype(np.float32),))
    assert not fresh
    assert 1e-4 < outputs.std() < 1e3
    again, _ = counted(model, None, tmp_path)
    assert torch.equal(flat(module), flat(again))


def test_settling_leaves_weights_and_momentum_alone():
    module = build(resolve("resnet8"), 0)
    before = flat(module)
    settle(module, (3, 32, 32), 0)
    assert torch.equal(flat(module), before)
    assert module.bn.momentum == 0.1
    assert not module.bn.training
    assert float(module.bn.running_mean.abs().max()) > 0


def test_label_smoothing_raises_the_floor_of_the_loss():
    module, data = net(), blobs()
    fit(module, data, replace(SCHEDULE, epochs=20, learning_rate=0.05), **QUIET)
    x, y = torch.from_numpy(data.train.x[0]), torch.from_numpy(data.train.y)
    smooth, plain = (float(loss(module, (x,), y).detach()) for loss in (cross_entropy(0.1), cross_entropy()))
    assert smooth > plain + 0.1


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return FACTOR * self.fc(x.flatten(1))
"""


def test_an_edited_layer_of_a_users_network_is_trained_anew(tmp_path, monkeypatch, digits):
    """The factory's file stays as it was: the class of the network lies in another one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "mynetfactory.py").write_text("from mynetlayers import Net\n\ndef make():\n    return Net()\n")
    found = []
    for factor in ("1.0", "2.0", "2.0"):
        (tmp_path / "mynetlayers.py").write_text(NET.replace("FACTOR", factor))
        for name in ("mynetfactory", "mynetlayers"):
            monkeypatch.delitem("sys.modules", name, raising=False)
        found.append(counted(resolve("mynetfactory:make", digits, train=True), digits, tmp_path / "cache")[1])
    assert found == [True, True, False]


@pytest.mark.parametrize(
    "changed",
    [
        "models/training/fit.py",
        "models/training/constraints.py",
        "models/networks/layers.py",
        "models/catalogue.py",
        "models/registry.py",
        "tasks/builtin.py",
    ],
)
def test_changed_code_that_builds_or_trains_networks_trains_them_again(tmp_path, digits, monkeypatch, changed):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in trained_networks.CODE]
    monkeypatch.setattr(trained_networks, "CODE", tuple(copies))
    model, cache = resolve("lenet300_100(width=0.05)", digits), tmp_path / "cache"
    assert [counted(model, digits, cache)[1] for _ in range(2)] == [True, False]
    (tmp_path / changed).write_text((tmp_path / changed).read_text() + "# changed\n")
    assert counted(model, digits, cache)[1]


def test_the_code_of_a_trained_networks_name_is_all_of_models_and_all_of_tasks():
    assert tuple(Path(package.__file__).parent for package in (bench.models, bench.tasks)) == trained_networks.CODE


def test_convolutions_of_volumes_train():
    data = replace(blobs(), train=ArrayPart((np.zeros((64, 1, 2, 3, 4), np.float32),), np.zeros(64, np.int64)))
    module = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.LazyLinear(3))
    module(torch.zeros(1, 1, 2, 3, 4))
    fit(module, data, Schedule(epochs=1, learning_rate=0.01), **QUIET)
    assert module[0].weight.is_contiguous()
