"""What is claimed, by whom, what is tried here, and what the result must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any, Literal

from bench.models.catalogue import MODELS

from .trial import Asked, Found

Tried = Mapping[str, Found]
"""What one seed found, by the names of a claim's trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One figure of a claim: its value for each seed, and what the mean over the seeds must be.

    `value` is given what a seed found, by the names of the claim's trials.
    `must` None: shown beside the published figure, no condition. `published` "": no paper says.
    """

    figure: str
    value: Callable[[Mapping[str, Any]], float]
    must: Literal["at most", "at least", "above"] | None = None
    limit: float = 0.0
    unit: str = "points"
    published: str = ""

    def holds(self, mean: float) -> bool:
        """Whether a mean is what is asked for."""
        if self.must is None:
            return True
        exact = round(mean, 9)  # 0.985 - 0.982 is 0.003 and a little in floating point
        if self.must == "above":
            return exact > self.limit
        return exact <= self.limit if self.must == "at most" else exact >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`trials`: name -> what is tried; the claim is reached when every bound holds. `note`: what to read it with.

    `chosen_on`: seeds whose test accuracies chose a setting of the recipe; they cannot judge it any more.
    """

    title: str
    source: str
    trials: Mapping[str, Asked]
    bounds: tuple[Bound, ...]
    note: str = ""
    chosen_on: frozenset[int] = frozenset()

    def seeds(self, asked: Sequence[int]) -> tuple[int, ...]:
        """As many as are asked: those, and the next ones in place of the seeds it was chosen on."""
        fresh = (seed for seed in count(max(asked) + 1) if seed not in self.chosen_on)
        kept = [seed for seed in asked if seed not in self.chosen_on]
        return (*kept, *islice(fresh, len(asked) - len(kept)))


def rise(name: str, tried: Tried) -> float:
    """Points of error more than the network's own baseline."""
    return 100 * (tried[name].reference_accuracy - tried[name].accuracy)


def error(name: str, tried: Tried) -> float:
    """Percent of the test set that is wrong."""
    return 100 * (1 - tried[name].accuracy)


def baseline_error(name: str, tried: Tried) -> float:
    """Percent of the test set that the uncompressed network gets wrong."""
    return 100 * (1 - tried[name].reference_accuracy)


def accuracy(name: str, tried: Tried) -> float:
    """Percent of the test set that is right."""
    return 100 * tried[name].accuracy


def gain(better: str, worse: str, tried: Tried) -> float:
    """Points of accuracy that the first has over the second, of the same seed."""
    return 100 * (tried[better].accuracy - tried[worse].accuracy)


def fewer(name: str, tried: Tried) -> float:
    """How many times fewer values that are not zero, biases counted."""
    return tried[name].params / tried[name].nonzero_params


def smaller(name: str, tried: Tried) -> float:
    """How many times smaller the entropy-coded file is than the network's values in float32."""
    coded = tried[name].entropy_bytes
    assert coded is not None, f"{name}: the recipe gives no entropy-coded file"
    return 4 * tried[name].params / coded


def kilobytes(name: str, tried: Tried) -> float:
    """Size of the entropy-coded file, thousands of bytes."""
    coded = tried[name].entropy_bytes
    assert coded is not None, f"{name}: the recipe gives no entropy-coded file"
    return coded / 1000


def han_2015(model: str, title: str, recipe: str, before: str, after: str) -> Claim:
    """12 times fewer weights."""
    return Claim(
        title=f"{title}: 12 times fewer weights",
        source="Han et al. 2015, Learning both Weights and Connections, arXiv:1506.02626, table 1",
        trials={"pruned": Asked(model=model, recipe=recipe)},
        bounds=(
            Bound(figure="error of the baseline", value=partial(baseline_error, "pruned"), unit="%", published=before),
            Bound(figure="error after pruning", value=partial(error, "pruned"), unit="%", published=after),
            Bound(figure="rise of the error", value=partial(rise, "pruned"), must="at most", limit=0.3),
            Bound(
                figure="fewer weights",
                value=partial(fewer, "pruned"),
                must="at least",
                limit=12,
                unit="times",
                published="12",
            ),
        ),
    )


def deep_compression(model: str, title: str, recipe: str, *, times: float, errors: tuple[str, str], kb: str) -> Claim:
    """Pruning, shared weights, Huffman coding."""
    return Claim(
        title=f"{title}: a file {times:g} times smaller",
        source="Han et al. 2016, Deep Compression, arXiv:1510.00149, table 1",
        trials={"coded": Asked(model=model, recipe=recipe)},
        bounds=(
            Bound(
                figure="error of the baseline", value=partial(baseline_error, "coded"), unit="%", published=errors[0]
            ),
            Bound(figure="error after compression", value=partial(error, "coded"), unit="%", published=errors[1]),
            Bound(figure="rise of the error", value=partial(rise, "coded"), must="at most", limit=0.3),
            Bound(figure="file", value=partial(kilobytes, "coded"), unit="kB", published=kb),
            Bound(
                figure="smaller file",
                value=partial(smaller, "coded"),
                must="at least",
                limit=times,
                unit="times",
                published=f"{times:g}",
            ),
        ),
        note="The entropy-coded file holds every value of the network, including biases in float32 and all tables.",
    )


def up_to_30(model: str, dataset: str, shares: Sequence[float] = (0.1, 0.2, 0.3)) -> Claim:
    """The folklore about little pruning, one shot and without any training after it."""
    trials = {f"{share:.0%}": f"prune(amount={share})" for share in shares}
    return Claim(
        title=f"{model} on {dataset}: up to 30 % pruning costs under 0.3 points",
        source="said of every network since Han et al. 2015. Here: one shot, by magnitude, with no training afterwards",
        trials={share: Asked(model=model, recipe=recipe, dataset=dataset) for share, recipe in trials.items()},
        bounds=tuple(
            Bound(figure=f"rise of the error at {share}", value=partial(rise, share), must="at most", limit=0.3)
            for share in trials
        ),
    )


def thirty_trained(model: str, dataset: str) -> Claim:
    """The same share of each layer (Han's thresholds are per layer) and after it the training the network had itself.

    As many epochs as on a data set as small as digits, at the same rate where that was Adam's, as fine-tuning is.
    """
    own = MODELS[model.partition("(")[0]].training
    rate = f", learning_rate={own.learning_rate}" if own.optimizer == "adam" else ""
    train = f"finetune(epochs={own.small_epochs}{rate})"
    recipes = {"pruned": f"prune(amount=0.3, scope='layer') + {train}", "unpruned": train}
    return Claim(
        title=f"{model} on {dataset}: 30 % pruning and fine-tuning cost under 0.3 points",
        source="Han et al. 2015, arXiv:1506.02626, section 3",
        trials={name: Asked(model=model, recipe=recipe, dataset=dataset) for name, recipe in recipes.items()},
        bounds=(
            Bound(figure="error of the baseline", value=partial(baseline_error, "pruned"), unit="%"),
            Bound(figure="rise of the error", value=partial(rise, "pruned"), must="at most", limit=0.3),
            Bound(figure="rise from the same training without pruning", value=partial(rise, "unpruned")),
        ),
        note="What the unpruned network gains or loses in the same training is not due to pruning.",
    )


def int8(model: str, dataset: str, epochs: int) -> Claim:
    """Eight bits, calibrated and trained."""
    return Claim(
        title=f"{model} on {dataset}: int8 within 0.5 points of float32, training no worse",
        source="Jacob et al. 2018, arXiv:1712.05877; accuracy of the int8 file in ONNX Runtime",
        trials={
            "static": Asked(model=model, recipe="int8()", dataset=dataset),
            "qat": Asked(model=model, recipe=f"qat(epochs={epochs})", dataset=dataset),
        },
        bounds=(
            Bound(figure="rise of the error, static", value=partial(rise, "static"), must="at most", limit=0.5),
            Bound(figure="rise of the error, trained", value=partial(rise, "qat"), must="at most", limit=0.5),
            Bound(
                figure="trained over static, paired", value=partial(gain, "qat", "static"), must="at least", limit=-0.1
            ),
        ),
        note=(
            '"No worse" allows 0.1 points, a fifth of what int8 may cost. Both files give the same answer for nearly every '
            "image, and a few images of ten thousand are noise of the test set. On digits one image is 0.22 points."
        ),
    )


def few_bits(title: str, source: str, recipe: str) -> Claim:
    """Weights of one or two bits, trained."""
    return Claim(
        title=f"LeNet-300-100, {title} weights: above 95 %",
        source=source,
        trials={"bits": Asked(model="lenet300_100", recipe=recipe)},
        bounds=(
            Bound(figure="accuracy", value=partial(accuracy, "bits"), must="above", limit=95.0, unit="%"),
            Bound(figure="rise of the error", value=partial(rise, "bits")),
        ),
    )


def distillation(model: str, student: str, training: str, soft: str, *, chosen_on: frozenset[int], note: str) -> Claim:
    """The same student, the same seed, the same epochs and learning rate, with the teacher and without."""
    start = f"student(model='{student}')"
    return Claim(
        title=f"A student of {model} a tenth its size learns more with its teacher than without",
        source="Hinton et al. 2015, arXiv:1503.02531",
        trials={
            "untaught": Asked(model=model, recipe=f"{start} + finetune({training})"),
            "distilled": Asked(model=model, recipe=f"{start} + distill({training}, {soft})"),
            "teacher": Asked(model=model, recipe=""),
        },
        bounds=(
            Bound(figure="error without the teacher", value=partial(error, "untaught"), unit="%"),
            Bound(figure="error with the teacher", value=partial(error, "distilled"), unit="%"),
            Bound(figure="gain of the teacher, paired", value=partial(gain, "distilled", "untaught"), must="above"),
            Bound(
                figure="smaller student",
                value=lambda tried: tried["teacher"].params / tried["distilled"].params,
                must="at least",
                limit=10,
                unit="times",
            ),
        ),
        note=note,
        chosen_on=chosen_on,
    )
