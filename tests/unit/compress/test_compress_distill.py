"""Distillation: the loss is the one the papers write, the teacher is the one named, what helps to train is not exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_network import Small, context_of, digest, run, settled, small_data, train_small
from torch import nn

from bench.compress.export import export, layer_weights
from bench.compress.interface import Context, Network
from bench.compress.recipe import parse_recipe
from bench.compress.train.distill import distillation_loss
from bench.compress.train.features import attention_loss, feature_loss, last_features
from bench.errors import InvalidInput, Unsupported
from bench.models.training.predict import accuracy, predict
from bench.tasks.builtin import BUILT_IN, CLASSIFICATION


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(0)
    module = Small()
    train_small(module, epochs=25)
    return module


@pytest.fixture
def context(teacher: nn.Module, tmp_path: Path) -> Context:
    return context_of(teacher, tmp_path)


def far(network: Network, teacher: nn.Module) -> float:
    """Root mean square distance of the logits from the teacher's on the test set."""
    x = small_data().test.x[0]
    return float(np.sqrt(np.mean((predict(network.module, (x,)) - predict(teacher, (x,))) ** 2)))


def loss_of(mine, teacher, labels, *, alpha, temperature, task=CLASSIFICATION):
    return distillation_loss(task, lambda x: x, (mine,), labels, teacher=teacher, alpha=alpha, temperature=temperature)


def test_outputs_that_are_not_scores_are_compared_as_they_are():
    mine, teacher, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [3.0]]), torch.tensor([1.0, 1.0])
    found = loss_of(mine, teacher, targets, alpha=0.25, temperature=4.0, task=BUILT_IN["regression"])
    assert float(found) == pytest.approx(0.25 * 0.5 + 0.75 * (0.25 + 1.0) / 2)


def test_the_soft_loss_of_a_mask_is_a_mean_over_places():
    torch.manual_seed(0)
    mine, teacher, masks = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    rows = [values.movedim(1, -1).reshape(-1, 3) for values in (mine, teacher)]
    found = loss_of(mine, teacher, masks, alpha=0.5, temperature=2.0, task=BUILT_IN["segmentation"])
    torch.testing.assert_close(found, loss_of(*rows, masks.reshape(-1), alpha=0.5, temperature=2.0))


def test_the_soft_loss_of_a_mask_is_the_same_where_the_classes_are_last():
    torch.manual_seed(0)
    mine, teacher, masks = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long)
    how = {"alpha": 0.3, "temperature": 2.0, "task": BUILT_IN["segmentation"]}
    for several in (slice(None), slice(0, 1)):  # one channel is one logit
        first = (values[:, several] for values in (mine, teacher))
        last = (values[:, several].movedim(1, -1) for values in (mine, teacher))
        torch.testing.assert_close(loss_of(*last, masks, **how), loss_of(*first, masks, **how))


@pytest.mark.parametrize("ends", [(True, True), (True, False), (False, True)])
def test_probabilities_are_compared_as_the_scores_before_their_softmax(ends):
    torch.manual_seed(0)
    both, labels = [3 * torch.randn(6, 5) for _ in range(2)], torch.arange(6) % 5
    found = [scores.softmax(1) if end else scores for scores, end in zip(both, ends, strict=True)]
    how = {"alpha": 0.3, "temperature": 4.0}
    torch.testing.assert_close(loss_of(*found, labels, **how), loss_of(*both, labels, **how))


def test_the_loss_is_the_formula_written_out_number_by_number():
    mine, teachers, labels, alpha, t = [[1.0, -2.0, 0.5]], [[0.3, 0.1, -4.0]], [2], 0.3, 4.0
    p = np.exp(np.array(teachers[0]) / t) / sum(np.exp(np.array(teachers[0]) / t))
    q = np.exp(np.array(mine[0]) / t) / sum(np.exp(np.array(mine[0]) / t))
    hard = -np.log(np.exp(mine[0][labels[0]]) / sum(np.exp(value) for value in mine[0]))
    soft = sum(p[i] * np.log(p[i] / q[i]) for i in range(3))
    expected = alpha * hard + (1 - alpha) * t * t * soft
    found = loss_of(torch.tensor(mine), torch.tensor(teachers), torch.tensor(labels), alpha=alpha, temperature=t)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_a_mean_over_the_batch_and_zero_soft_loss_means_agreement():
    torch.manual_seed(0)
    mine, teachers, labels = torch.randn(6, 5), torch.randn(6, 5), torch.arange(6) % 5
    whole = loss_of(mine, teachers, labels, alpha=0.4, temperature=3.0)
    parts = [
        loss_of(mine[i : i + 1], teachers[i : i + 1], labels[i : i + 1], alpha=0.4, temperature=3.0) for i in range(6)
    ]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    shifted = mine + 7.0  # softmax does not see a constant
    assert float(loss_of(mine, shifted, labels, alpha=0.0, temperature=3.0)) == pytest.approx(0, abs=1e-5)


def test_the_attention_loss_is_the_distance_of_normalised_maps():
    torch.manual_seed(0)
    mine, teachers = torch.randn(2, 3, 2, 2), torch.randn(2, 5, 2, 2)
    expected = 0.0
    for sample in range(2):
        maps = []
        for values in (mine[sample].numpy(), teachers[sample].numpy()):
            summed = (values**2).sum(0).ravel()
            maps.append(summed / np.sqrt((summed**2).sum()))
        expected += ((maps[0] - maps[1]) ** 2).sum() / 2
    assert float(attention_loss(mine, teachers)) == pytest.approx(expected, rel=1e-5)
    assert float(attention_loss(mine, 3 * mine)) == pytest.approx(0, abs=1e-6)


def test_the_hint_loss_is_half_the_mean_squared_difference_after_the_projection(teacher):
    student = settled()
    x = torch.from_numpy(small_data().train.x[0][:4])
    with feature_loss("hint", student, teacher, ("conv", "pointwise"), (x,), seed=0) as watched:
        weight, bias = watched.parameters
        assert weight.shape == (12, 8, 1, 1)
        student(x)
        teacher(x)
        projected = torch.einsum("oc,nchw->nohw", weight[:, :, 0, 0], student.conv(x)) + bias.reshape(1, -1, 1, 1)
        inner = torch.relu(teacher.depthwise(torch.relu(teacher.bn(teacher.conv(x)))))
        expected = 0.5 * (projected - teacher.pointwise(inner)).square().mean()
        torch.testing.assert_close(watched.value(), expected)
    assert not any(module._forward_hooks for net in (student, teacher) for module in net.modules())


def test_features_are_taken_at_the_last_convolution_or_hidden_layer(teacher):
    assert last_features(teacher, (torch.zeros(2, 1, 8, 8),)) == "pointwise"
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    assert last_features(mlp, (torch.zeros(2, 1, 8, 8),)) == "1"
    with pytest.raises(Unsupported, match="no hidden layer"):
        last_features(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), (torch.zeros(2, 1, 8, 8),))


def test_a_distilled_student_comes_nearer_to_its_teacher_than_one_trained_alone(teacher, context):
    start, other = Network(module=teacher), replace(context, seed=5)
    alone, distilled = (
        run(f"student(model='small_network:factory') + {train}epochs=20, learning_rate=0.01)", start, other)
        for train in ("finetune(", "distill(alpha=0.1, ")
    )
    assert far(distilled, teacher) < 0.7 * far(alone, teacher)


@pytest.mark.parametrize("features", ["none", "hint", "attention"])
def test_a_pruned_student_learns_while_its_masks_hold(features, teacher, context):
    start = Network(module=teacher)
    pruned = run("prune(amount=0.8, skip=['fc2'])", start, context)
    distilled = run(f"distill(epochs=15, features='{features}')", pruned, context)
    assert "fc1.weight" in distilled.masks
    for name, mask in distilled.masks.items():
        assert torch.all(distilled.module.get_parameter(name)[mask == 0] == 0)
    data = small_data()
    before, after = (accuracy(predict(net.module, (data.test.x[0],)), data.test.y) for net in (pruned, distilled))
    assert after > before


def test_shared_weights_stay_shared_and_still_learn(teacher, context):
    clusters = (torch.arange(768) % 5).reshape(16, 48)
    shared = Network(module=teacher, clusters={"fc1.weight": clusters})
    distilled = run("distill(epochs=2)", shared, context).module.fc1.weight.detach()
    values = [distilled[clusters == cluster] for cluster in range(5)]
    assert all(len(value.unique()) == 1 for value in values)
    assert len(distilled.unique()) == 5


def test_a_student_with_fewer_channels_is_drawn_to_wider_features_by_a_projection_that_is_not_exported(
    teacher, context
):
    narrow = run("channels(amount=0.5)", Network(module=teacher), context)
    plain = run("distill(epochs=1)", narrow, context)
    hinted = run("distill(epochs=1, features='hint', beta=10)", narrow, context)
    assert digest(hinted.module) != digest(plain.module)
    assert {name: value.shape for name, value in hinted.module.state_dict().items()} == {
        name: value.shape for name, value in narrow.module.state_dict().items()
    }
    graph = onnx.load_from_string(export(hinted.module, context.example).onnx).graph
    assert set(layer_weights(graph)) == {"conv", "depthwise", "pointwise", "fc1", "fc2"}


def test_hints_bring_the_features_themselves_nearer(teacher, context):
    start = run("student(model='small_network:factory')", Network(module=teacher), replace(context, seed=5))
    plain, drawn = (
        run(f"distill(epochs=20, learning_rate=0.01{more})", start, context).module
        for more in ("", ", features='attention', beta=20")
    )
    x = torch.from_numpy(small_data().test.x[0])

    def distance(module: nn.Module) -> float:
        with torch.no_grad(), feature_loss("attention", module, teacher, ("", ""), (x,), seed=0) as watched:
            module(x)
            teacher(x)
            return float(watched.value())

    assert distance(drawn) < 0.7 * distance(plain)


def test_a_reference_network_teaches_when_it_is_named_and_is_trained_once(teacher, context):
    start = Network(module=settled())
    text = "distill(epochs=1, teacher='lenet300_100(width=0.05)', alpha=0.0)"
    by_other = run(text, start, context)
    stamps = {file: file.stat().st_mtime_ns for file in (context.cache / "models").iterdir()}
    assert len(stamps) == 1
    assert digest(by_other.module) != digest(run("distill(epochs=1, alpha=0.0)", start, context).module)
    run(text, start, context)
    assert {file: file.stat().st_mtime_ns for file in (context.cache / "models").iterdir()} == stamps


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("student(model='small_network:factory')", ["small_network.py"]),
        ("student(model='small_network:prepared')", ["small_network.py"]),
        ("distill(teacher='lenet5(width=0.5)')", ["lenet.py"]),
        ("distill", []),
    ],
)
def test_the_file_of_a_named_network_is_among_what_the_result_follows_from(text, files):
    (step,) = parse_recipe("r", text).steps
    assert [file.name for file in step.sources()] == files


def test_a_network_that_is_not_known_has_no_file_and_is_named():
    (step,) = parse_recipe("r", "student(model='no such thing')").steps
    with pytest.raises(InvalidInput, match="no such thing"):
        step.sources()


def three_outputs() -> nn.Module:
    """A network of three classes where four are wanted."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def test_teachers_and_students_with_other_outputs_are_refused(teacher, context):
    start = Network(module=teacher)
    with pytest.raises(Unsupported, match=r"teacher.*\(3,\).*\(4,\)"):
        run("distill", start, replace(context, teacher=three_outputs().eval()))
    with pytest.raises(InvalidInput, match=r"needs \(2, 4\)"):
        run("distill(teacher='test_compress_distill:three_outputs')", start, context)
    with pytest.raises((InvalidInput, Unsupported), match=r"three_outputs.*\(2, 4\)"):
        run("student(model='test_compress_distill:three_outputs')", start, context)


def test_a_student_comes_first(teacher, context):
    with pytest.raises(Unsupported, match="first step"):
        run("prune(amount=0.5) + student(model='small_network:factory')", Network(module=teacher), context)


def test_a_students_weights_follow_from_the_seed(teacher, context):
    start = Network(module=teacher)
    text = "student(model='lenet5(width=0.1)')"
    first, again, other = (run(text, start, replace(context, seed=seed)).module for seed in (1, 1, 2))
    assert digest(first) == digest(again) != digest(other)
    assert first(*context.example).shape == (2, 4)
    assert run(text, start, replace(context, data=None)).module(*context.example).shape == (2, 4)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("distill(teacher='lenet6')", InvalidInput, r"lenet6.*did you mean 'lenet5'"),
        ("distill(teacher='nowhere.onnx')", InvalidInput, "nowhere.onnx does not exist"),
        ("student(model='lenet6')", InvalidInput, r"lenet6.*did you mean 'lenet5'"),
        ("distill(features='hint', layer='pointwize')", InvalidInput, r"student has no layer 'pointwize'.*pointwise"),
        ("distill(features='hint', layer='fc1', teacher_layer='fc9')", InvalidInput, r"teacher has no layer 'fc9'"),
        ("distill(features='attention', layer='fc1')", Unsupported, r"'fc1' \(16,\).*no places"),
        ("distill(features='hint', layer='conv', teacher_layer='fc1')", Unsupported, "differ in more than channels"),
        ("distill(layer='fc1')", InvalidInput, "features="),
        ("distill(alpha=1.5)", InvalidInput, "alpha must be a number at least 0 and at most 1"),
        ("distill(temperature=0)", InvalidInput, "temperature"),
    ],
)
def test_what_cannot_teach_is_refused_with_the_reason(text, kind, words, teacher, context):
    with pytest.raises(kind, match=words):
        run(text, Network(module=teacher), context)
