"""The baselines that a search with a table must beat: uniform widths, random networks, and Optuna's sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bench.errors import Unavailable
from bench.search.goal import MINIMIZED
from bench.search.nouns import Choice, Group, whole_choice
from bench.search.strategies.hopeless import find_hopeless, may_be_hopeless
from bench.search.strategies.interface import OVER, Ended, Means, Pruned, Scene, Tried, number, quality_loss
from bench.search.strategies.walk import Walk

MISSES = 50
"""Candidates in a row that are known already, after which the space counts as searched."""
SEARCHED = f"{MISSES} candidates in a row were known"
STARTUP = 6
"""Random trials of Optuna before its model decides."""


def draw_randomly(scene: Scene, means: Means) -> Ended:
    """Networks of the space and families, each as likely."""
    generator = np.random.default_rng(scene.seed)

    def ask() -> tuple[Choice, str]:
        choice = tuple(int(generator.integers(len(group.widths))) for group in scene.space.groups)
        return scene.space.settle(choice), scene.families[int(generator.integers(len(scene.families)))]

    return _try_until_over(scene, means, ask, learn=None)


def sample_with_optuna(scene: Scene, means: Means) -> Ended:
    """Optuna's multi-objective TPE (Ozaki et al. 2022) over widths and families, its constraints the limits.

    Raises `Unavailable` without Optuna.
    """
    try:
        import optuna
    except ImportError as error:
        raise Unavailable(
            f"--strategy optuna: optuna cannot be imported ({error}): pip install 'pressbench[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=scene.seed,
        n_startup_trials=STARTUP,
    )
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    asked: list[Any] = []

    def ask() -> tuple[Choice, str]:
        trial = study.ask()
        asked.append(trial)
        choice = tuple(
            trial.suggest_int(f"rank of {group.layers[0]}" if group.rank else group.layers[0], 0, len(group.widths) - 1)
            for group in scene.space.groups
        )
        return scene.space.settle(choice), trial.suggest_categorical("family", scene.families)

    def learn(one: Tried | Pruned) -> None:
        """`should_prune` takes one objective only. A pruned trial breaks a constraint here: without one, TPE would take it for better
        than each that was measured and misses a limit."""
        trial = asked[-1]
        if isinstance(one, Pruned):
            trial.set_constraint(scene.goal.cost, one.excess)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
        minimized = number(one.row, MINIMIZED.get(scene.goal.minimize, scene.goal.cost))
        if not one.counts or minimized is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        excess = scene.goal.excess(one.over)
        for name in (*scene.goal.limits, *scene.goal.quality):
            trial.set_constraint(name, min(1e9, excess.get(name, 1.0) - 1))  # above 0: not kept
        study.tell(trial, [minimized, min(1e9, quality_loss(one))])

    return _try_until_over(scene, means, ask, learn)


def prune_uniformly(scene: Scene, means: Means) -> Ended:
    """Every group to the same share of its channels, to the border: what a pruning tool does without a search."""
    by_quality = bool(scene.goal.minimize)
    walk = Walk(tightest=by_quality, start=0.75)
    channels = [group for group in scene.space.groups if not group.rank]
    tried = [scene.whole]
    while (share := walk.next()) is not None:
        choice = tuple(_nearest(group, share) for group in scene.space.groups)
        known = next((one for one in tried if one.choice == choice), None)
        if known is None and not means.time_left(1.0):
            return Ended(tried=tuple(tried), why=OVER)
        one = known or means.trial(choice, None, "")
        if known is None:
            tried.append(one)
        walk.add(share, passes=one.fits_quality if by_quality else one.fits_resources)
        if share < min((group.widths[group.kept[0]] / group.whole for group in channels), default=1.0):
            break
    return Ended(tried=tuple(tried), why="the border is known within 6 %")


def _nearest(group: Group, share: float) -> int:
    """The width above 0 whose share of the group's channels is nearest. Ranks stay whole."""
    if group.rank:
        return len(group.widths) - 1
    return min(group.kept, key=lambda place: abs(group.widths[place] / group.whole - share))


def _try_until_over(
    scene: Scene, means: Means, ask: Callable[[], tuple[Choice, str]], learn: Callable[[Tried | Pruned], None] | None
) -> Ended:
    """Tries what `ask` gives, or prunes it; `learn` hears of each, of one that is known already too."""
    known: dict[tuple[Choice, str], Tried | Pruned] = {(whole_choice(scene.space.groups), ""): scene.whole}
    missed, why = 0, SEARCHED
    while missed < MISSES:
        choice, family = ask()
        if (choice, family) not in known:
            if not means.time_left(1.0):
                why = OVER
                break
            known[choice, family] = _try_or_prune(scene, means, choice, family, known.values())
            missed = -1
        missed += 1
        if learn is not None:
            learn(known[choice, family])
    tried = tuple(one for one in known.values() if isinstance(one, Tried))
    return Ended(tried=tried, why=why, pruned=tuple(one for one in known.values() if isinstance(one, Pruned)))


def _try_or_prune(
    scene: Scene, means: Means, choice: Choice, family: str, known: Iterable[Tried | Pruned]
) -> Tried | Pruned:
    tried = [*(one for one in known if isinstance(one, Tried)), *scene.own]
    cost = means.look(choice, family) if may_be_hopeless(family, scene.whole, scene.goal, tried) else None
    hopeless = None if cost is None else find_hopeless(cost, scene.goal, tried)
    if hopeless is None:
        return means.trial(choice, None, family)
    return means.end(choice, family, hopeless.why, hopeless.excess)
