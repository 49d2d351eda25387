"""Each task's loss and score are their formulas, targets that do not fit are refused, and users' errors are theirs."""

from __future__ import annotations

import numpy as np
import pytest
import task_networks
import torch
from torch.nn import functional as F

from bench.data.datasets import load_data
from bench.errors import InvalidInput
from bench.tasks.builtin import BUILT_IN, IGNORED
from bench.tasks.own import find_task
from bench.tasks.scoring import GROUPS, measure_score

CLASSIFY, MULTILABEL, REGRESS, SEGMENT = (
    BUILT_IN[name] for name in ("classification", "multilabel", "regression", "segmentation")
)


def test_a_classification_is_scored_by_its_accuracy():
    scores, labels = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), torch.tensor([0, 1, 1])
    assert CLASSIFY.score(scores, labels) == pytest.approx(2 / 3)
    assert CLASSIFY.score(torch.tensor([0, 1, 0]), labels) == pytest.approx(2 / 3)
    torch.testing.assert_close(CLASSIFY.loss(scores, labels), F.cross_entropy(scores, labels))


def test_labels_are_scored_by_the_mean_of_their_average_precisions():
    logits = torch.tensor([[2.0, -1.0, 0.0], [1.0, 3.0, 0.0], [0.0, -2.0, 0.0], [-1.0, 1.0, 0.0]])
    wanted = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    first = (1 / 1 + 2 / 3) / 2  # positives at ranks 1 and 3; the last label has none and is left out
    assert MULTILABEL.score(logits, wanted) == pytest.approx((first + 1.0) / 2)
    assert MULTILABEL.score(logits.sigmoid(), wanted) == pytest.approx((first + 1.0) / 2)
    assert MULTILABEL.score(logits, torch.zeros(4, 3)) == 0.0


def test_one_label_is_scored_and_large_logits_keep_their_order():
    wanted = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    assert MULTILABEL.score(torch.tensor([[500.0], [450.0], [400.0], [-1.0]]), wanted) == 1.0
    assert MULTILABEL.score(torch.tensor([[450.0], [500.0], [400.0], [-1.0]]), wanted) == 0.5
    assert MULTILABEL.score(torch.zeros(4, 1), wanted) == 0.25


def test_a_regression_compares_n_by_1_with_n_and_never_broadcasts():
    outputs, targets = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.0, 3.0, 2.0])
    assert REGRESS.score(outputs, targets) == pytest.approx((5 / 3) ** 0.5)
    assert float(REGRESS.loss(outputs, targets)) == pytest.approx(5 / 3)
    with pytest.raises(InvalidInput, match=r"output of \(2,\) a sample does not answer targets of \(\)"):
        REGRESS.loss(torch.zeros(3, 2), targets)


def test_a_segmentation_is_scored_over_all_places_together_without_those_left_out():
    masks = torch.tensor([[[0, 1], [1, IGNORED]], [[2, 2], [0, 0]]])
    answers = torch.tensor([[[0, 1], [0, 1]], [[2, 2], [0, 1]]])
    scores = F.one_hot(answers, 3).movedim(-1, 1).float()
    per_class = [2 / 4, 1 / 3, 2 / 2]  # intersections over unions of the seven places that count
    assert SEGMENT.score(scores, masks) == pytest.approx(sum(per_class) / 3)
    assert SEGMENT.score(scores.movedim(1, -1), masks) == pytest.approx(sum(per_class) / 3)
    assert SEGMENT.score(answers, masks) == pytest.approx(sum(per_class) / 3)


def test_one_channel_is_the_logit_of_class_one():
    logits, masks = torch.randn(2, 1, 3, 3), torch.randint(0, 2, (2, 3, 3))
    wanted = F.binary_cross_entropy_with_logits(logits[:, 0], masks.float())
    torch.testing.assert_close(SEGMENT.loss(logits, masks), wanted)
    assert SEGMENT.score(100 * (masks[:, None] - 0.5), masks) == 1.0


def test_a_batch_of_masks_that_are_left_out_everywhere_has_no_loss_and_a_gradient_of_zero():
    scores = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = SEGMENT.loss(scores, torch.full((2, 4, 4), IGNORED))
    assert float(loss.detach()) == 0.0
    assert not torch.autograd.grad(loss, scores)[0].any()


@pytest.mark.parametrize("channels", [3, 1])
def test_a_mask_of_a_class_that_the_network_does_not_score_is_refused(channels):
    masks, classes = torch.full((2, 4, 4), IGNORED), max(2, channels)
    masks[0, 0, 0] = classes
    for use in (SEGMENT.loss, SEGMENT.score):
        with pytest.raises(InvalidInput, match=f"label {classes}, the network scores {classes} classes"):
            use(torch.zeros(2, channels, 4, 4), masks)


@pytest.mark.parametrize(
    ("task", "shape", "axis"),
    [(CLASSIFY, (6, 5), 1), (SEGMENT, (6, 5, 3, 4), 1), (SEGMENT, (6, 3, 4, 5), -1)],
)
def test_the_loss_of_probabilities_and_its_gradient_are_those_of_the_scores_before_the_softmax(task, shape, axis):
    torch.manual_seed(0)
    scores = (3 * torch.randn(shape)).requires_grad_()
    places = [size for place, size in enumerate(shape) if place != axis % len(shape)]
    targets = torch.randint(0, 5, places)
    plain, ended = task.loss(scores, targets), task.loss(scores.softmax(axis), targets)
    torch.testing.assert_close(ended, plain)
    torch.testing.assert_close(torch.autograd.grad(ended, scores)[0], torch.autograd.grad(plain, scores)[0])


@pytest.mark.parametrize(("task", "targets"), [(SEGMENT, (6, 3, 4)), (MULTILABEL, (6, 5))])
def test_the_loss_of_probabilities_and_its_gradient_are_those_of_the_logits_before_the_sigmoid(task, targets):
    torch.manual_seed(0)
    logits = (3 * torch.randn((6, 1, 3, 4) if task is SEGMENT else (6, 5))).requires_grad_()
    wanted = torch.randint(0, 2, targets)
    wanted = wanted if task is SEGMENT else wanted.float()
    plain, ended = task.loss(logits, wanted), task.loss(logits.sigmoid(), wanted)
    torch.testing.assert_close(ended, plain, rtol=1e-5, atol=1e-5)
    before, after = (torch.autograd.grad(loss, logits)[0] for loss in (plain, ended))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)


def test_the_mask_of_one_probability_is_class_one_from_a_half_on():
    masks = torch.randint(0, 2, (2, 3, 3))
    assert SEGMENT.score(0.3 + 0.4 * masks[:, None], masks) == 1.0
    assert SEGMENT.score(torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3).long()) == 1.0


def test_scores_that_are_no_probabilities_stay_and_one_that_vanished_gives_no_infinite_loss():
    labels = torch.tensor([0, 1])
    for scores in (torch.tensor([[0.5, 0.5], [0.6, 0.5]]), torch.tensor([[1.5, -0.5], [0.5, 0.5]])):
        assert torch.equal(CLASSIFY.loss(scores, labels), F.cross_entropy(scores, labels))
    vanished = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    loss = CLASSIFY.loss(vanished, labels)
    (gradient,) = torch.autograd.grad(loss, vanished)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        (MULTILABEL, np.zeros(3), r"shape \(3,\); wanted \(N, labels\)"),
        (MULTILABEL, np.full((3, 2), 2), "other values than 0 and 1"),
        (REGRESS, np.array([1.0, np.nan]), "NaN or infinite"),
        (REGRESS, np.array(["a"]), "wanted numbers"),
        (REGRESS, np.zeros((0, 2)), "at least one sample"),
        (SEGMENT, np.zeros((2, 4, 4)), "wants whole numbers"),
        (SEGMENT, np.zeros(4, int), "wants whole numbers"),
        (SEGMENT, np.full((2, 4, 4), -1), "label -1"),
    ],
)
def test_targets_of_another_kind_are_refused(task, targets, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        task.take_targets(targets, "set.npz: y_train")
    assert "set.npz: y_train" in str(caught.value)


def test_masks_of_0_and_255_hold_one_label_and_are_refused(tmp_path):
    masks = 255 * np.random.default_rng(0).integers(0, 2, (128, 8, 8))
    file = task_networks.write(tmp_path / "masks.npz", np.zeros((128, 1, 8, 8), np.float32), masks)
    with pytest.raises(InvalidInput, match=r"masks.npz: y_train has no label but 0 beside 255.*number it from 0"):
        load_data(file, task=SEGMENT)
    with pytest.raises(InvalidInput, match="y_train has no label beside 255"):
        SEGMENT.check_part([np.full((2, 8, 8), 255)], "y_train")


def test_a_label_that_the_network_has_no_score_for_is_named():
    masks = torch.tensor([[[0, 1], [IGNORED, 3]]])
    for use in (SEGMENT.loss, SEGMENT.score):
        with pytest.raises(
            InvalidInput, match="a mask has label 3, the network scores 3 classes: number the labels from 0 to 2"
        ):
            use(torch.zeros(1, 3, 2, 2), masks)
    with pytest.raises(InvalidInput, match="label 3, the network scores 2 classes"):
        SEGMENT.loss(torch.zeros(1, 1, 2, 2), masks)


def test_another_number_of_labels_than_of_logits_is_named():
    with pytest.raises(InvalidInput, match=r"no logit for each of \(3,\) labels"):
        MULTILABEL.loss(torch.zeros(2, 4), torch.zeros(2, 3))


def test_targets_come_in_the_type_that_the_loss_takes():
    assert SEGMENT.take_targets(np.zeros((2, 1, 4, 4), np.uint8), "y").shape == (2, 4, 4)
    assert MULTILABEL.take_targets(np.array([[True, False]]), "y").dtype == np.float32
    assert REGRESS.take_targets(np.zeros(3), "y").dtype == np.float32


def test_several_outputs_need_a_task_of_the_users_own():
    with pytest.raises(InvalidInput, match=r"the network gives 2: write a task of your own"):
        CLASSIFY.loss((torch.zeros(1, 2), torch.zeros(1, 2)), torch.tensor([0]))


@pytest.mark.parametrize(
    ("task", "before", "after", "drop"),
    [(CLASSIFY, 0.9, 0.88, 2.0), (REGRESS, 2.0, 2.5, 25.0), (REGRESS, 0.0, 0.0, 0.0), (REGRESS, 2.0, 1.0, -50.0)],
)
def test_a_drop_is_in_points_of_a_fraction_and_else_in_per_cent(task, before, after, drop):
    assert task.drop(before, after) == pytest.approx(drop)
    assert REGRESS.drop(0.0, 1.0) == float("inf")


@pytest.mark.parametrize("name", ["Huber", "make_task", "Stepping"])
def test_a_users_task_is_a_class_or_a_function(name):
    task = find_task(f"task_networks:{name}")
    outputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])
    assert (task.kind.name, task.kind.unit, task.kind.higher_is_better) == ("mean absolute error", "points", False)
    assert task.score(outputs, targets) == 1.0
    assert float(task.loss(outputs, targets)) == pytest.approx(0.75)
    assert len(task.identity()) == 2


def test_what_a_users_task_imports_from_its_folder_is_part_of_its_identity(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "losing.py").write_text("def lose(outputs, targets):\n    return (outputs - targets).abs().mean()\n")
    (tmp_path / "judging_task.py").write_text(
        "from losing import lose\n\n\nclass Task:\n    loss = score = staticmethod(lose)\n"
    )
    task = find_task("judging_task:Task")
    before = task.identity()
    assert task.identity() == before
    (tmp_path / "losing.py").write_text("def lose(outputs, targets):\n    return (outputs - targets).square().mean()\n")
    assert task.identity() != before


def test_a_users_own_step_is_taken():
    inputs = (torch.tensor([[1.0], [2.0]]),)
    assert float(find_task("task_networks:Stepping").step(lambda x: x, inputs, inputs[0][:, 0])) == pytest.approx(
        0.5 * 0.01**2, rel=1e-3
    )


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("Raising", "loss", r"loss of task_networks:Raising raised IndexError: .*task_networks\.py, line \d+\)"),
        ("Nonsense", "score", r"score of task_networks:Nonsense \(.*task_networks\.py\) returned Tensor; one finite"),
        ("NotANumber", "score", r"returned nan; one finite number"),
        ("Vector", "loss", r"returned a tensor of shape \(2,\); a tensor with one number"),
    ],
)
def test_a_users_mistake_is_named_with_their_file(name, part, message):
    task = find_task(f"task_networks:{name}")
    with pytest.raises(InvalidInput, match=message):
        getattr(task, part)(torch.zeros(2, 1), torch.zeros(2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regresion", "unknown task 'regresion'; did you mean 'regression'"),
        ("task_networks:NO_TASK", "is int: a Task has loss"),
        ("task_networks:mlp", "gives Sequential: a Task has loss"),
        ("task_networks:nowhere", "unknown Task of task_networks 'nowhere'"),
        ("no_such_module:Task", "cannot be imported"),
    ],
)
def test_what_is_not_a_task_is_refused(text, message):
    with pytest.raises(InvalidInput, match=message):
        find_task(text)


def test_a_score_keeps_what_its_interval_needs():
    generator = np.random.default_rng(0)
    outputs, targets = generator.random((50, 1)).astype(np.float32), generator.random(50).astype(np.float32)
    found = measure_score(REGRESS, [outputs], targets)
    assert len(found.without) == GROUPS
    kept = np.arange(50) % GROUPS != 3
    assert found.without[3] == pytest.approx(np.sqrt(np.mean((outputs[kept, 0] - targets[kept]) ** 2)), rel=1e-5)
    assert measure_score(REGRESS, [outputs[:1]], targets[:1]).without == ()


def test_the_networks_of_the_examples_fit_their_data(tmp_path):
    from bench.data.datasets import load_data

    for name, (network, make, shape) in task_networks.KINDS.items():
        data = load_data(make(tmp_path), task=BUILT_IN[name])
        outputs = network()(torch.from_numpy(data.train.inputs(slice(0, 4))[0]))
        assert data.input_shape == shape
        assert BUILT_IN[name].explain_misfit(tuple(outputs.shape[1:]), data.target_shape) == ""


@pytest.mark.parametrize(
    ("task", "train", "test", "said"),
    [
        ("multilabel", np.eye(4)[np.arange(8) % 4], np.zeros((3, 4)), "y_test is all 0"),
        ("segmentation", np.arange(32).reshape(8, 2, 2) % 2, np.full((3, 2, 2), 255), "y_test has no label but 255"),
    ],
)
def test_targets_to_test_of_which_no_score_counts_any_are_refused(task, train, test, said, tmp_path):
    """Their score would be 0, as that of a network that is always wrong."""
    file = tmp_path / "set.npz"
    np.savez(file, x_train=np.ones((8, 4)), y_train=train, x_test=np.ones((3, 4)), y_test=test)
    with pytest.raises(InvalidInput, match=f"set.npz: {said}"):
        load_data(str(file), task=BUILT_IN[task])


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.arange(8) * 1e300, "y_train holds values beyond float32: scale them"),
        (
            1_700_000_000 + np.arange(8),
            "y_train has values from 1.7e.09 to 1.7e.09, which float32 holds in steps of 128",
        ),
    ],
)
def test_targets_of_a_regression_that_float32_cannot_hold_are_refused(targets, said, tmp_path):
    """They were infinite, or all the same."""
    file = tmp_path / "set.npz"
    np.savez(file, x_train=np.ones((8, 4)), y_train=targets, x_test=np.ones((3, 4)), y_test=targets[:3] * 0)
    with pytest.raises(InvalidInput, match=said):
        load_data(str(file), task=BUILT_IN["regression"])


def test_targets_of_a_regression_that_are_all_the_same_are_taken(tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, x_train=np.ones((8, 4)), y_train=np.full(8, 0.5), x_test=np.ones((3, 4)), y_test=np.zeros(3))
    assert load_data(str(file), task=BUILT_IN["regression"]).train.targets(slice(None)).tolist() == [0.5] * 8
