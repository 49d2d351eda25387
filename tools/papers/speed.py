"""How long compression itself takes: steps that neither train nor search, on ResNet-8."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import torch
from safetensors.torch import save_model
from threadpoolctl import threadpool_limits

from bench.compress.pipeline import compress, reference
from bench.compress.recipe import parse_recipe
from bench.data.datasets import Dataset, load_data
from bench.models.registry import resolve
from bench.types import Model

from .claims import Bound, Claim
from .page import Settled, settle
from .trial import Asked

LIMIT_S = 5.0
RECIPES = (
    "prune(amount=0.5)",
    "prune(amount=0.5, criterion='taylor')",
    "prune(amount=0.5, criterion='hessian')",
    "threshold(value=0.01)",
    "nm(n=2, m=4)",
    "channels(amount=0.5)",
    "lowrank(method='svd', rank_ratio=0.5)",
    "lowrank(method='tucker', rank_ratio=0.5)",
    "lowrank(method='cp', rank_ratio=0.5)",
    "share(bits=4)",
    "hashed(ratio=0.25)",
    "int8()",
)
SPEED = Claim(
    title="ResNet-8: a one-shot recipe takes under 5 s",
    source="our own bound, on a trained `resnet8`: the steps, the export and writing into an empty cache",
    trials={text: Asked(model="resnet8", recipe=text, dataset="digits") for text in RECIPES},
    bounds=tuple(
        Bound(figure=f"`{text}`", value=itemgetter(text), must="at most", limit=LIMIT_S, unit="s") for text in RECIPES
    ),
    note=(
        "Processor time of one thread: the wall time on an otherwise idle core. The first recipe of each round "
        "includes what the exporter does once in a process."
    ),
)


def one_shots(rounds: Sequence[int], cache: Path) -> Settled:
    """Every recipe once a round, in this process, which does nothing else."""
    torch.set_num_threads(1)
    data = load_data("digits")
    model = resolve("resnet8", data)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        weights = Path(folder) / "resnet8.safetensors"
        module = reference(model, data=data, cache=cache, seed=0, progress=_quiet)
        assert module is not None
        save_model(module, str(weights))
        given = replace(model, weights=weights)
        spent = [_round(given, data, Path(folder) / f"round-{turn}") for turn in rounds]
    return settle(SPEED, spent, {})


def _round(model: Model, data: Dataset, cache: Path) -> dict[str, float]:
    spent = {}
    for text in SPEED.trials:
        recipe = parse_recipe(text, text)
        start = time.process_time()
        compress(model, recipe, data=data, cache=cache, seed=0, progress=_quiet)
        spent[text] = time.process_time() - start
    return spent


def _quiet(_what: str, _share: float) -> None:
    """Nobody watches."""
