"""Tries everything once, several processes of one thread each."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from .claims import Claim
from .table import LARGE
from .trial import Asked, Found, attempt, code_digest

Key = tuple[Asked, int]
Group = tuple[str, str, int]
"""Model, data set and seed: trials that share an uncompressed network."""


def try_all(
    claims: Iterable[Claim], seeds: Sequence[int], *, processes: int, cache: Path, data_root: str
) -> dict[Key, Found]:
    """Each distinct trial once. A group stays in one process, which trains its network once."""
    groups = _groups(claims, seeds)
    code = code_digest()
    found: dict[Key, Found] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(_try, groups[group], group[2], code, cache, data_root): group for group in groups}
        for done in as_completed(waiting):
            found |= done.result()
            model, dataset, seed = waiting[done]
            print(f"{model} on {dataset}, seed {seed}: {len(done.result())} trials", file=sys.stderr, flush=True)
    return found


def _groups(claims: Iterable[Claim], seeds: Sequence[int]) -> Mapping[Group, list[Asked]]:
    """What takes minutes begins first, so that the processes end together: convolutions on MNIST, large networks."""
    groups: dict[Group, list[Asked]] = {}
    for claim in claims:
        for asked in claim.trials.values():
            for seed in claim.seeds(seeds):
                group = groups.setdefault((asked.model, asked.dataset, seed), [])
                if asked not in group:
                    group.append(asked)

    def turn(item: tuple[Group, list[Asked]]) -> tuple[bool, bool]:
        (model, dataset, _), _ = item
        return (model, dataset) != ("lenet5", "mnist"), model not in LARGE

    return dict(sorted(groups.items(), key=turn))


def _try(trials: Sequence[Asked], seed: int, code: str, cache: Path, data_root: str) -> dict[Key, Found]:
    return {(asked, seed): attempt(asked, seed, code=code, cache=cache, data_root=data_root) for asked in trials}
