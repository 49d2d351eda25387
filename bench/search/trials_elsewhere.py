"""The cells of a search on a Dask cluster: a worker derives a candidate from its own plan, as the search does, and makes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.compress.recipe import parse_recipe
from bench.line.cell import RunState
from bench.line.cluster import Called, Cluster, check_found, open_cluster
from bench.line.plan import Plan, PlannedCell, plan_recipe
from bench.line.run import Surroundings
from bench.search.backends import find_one
from bench.search.plans import for_trials


@contextmanager
def open_workers(around: Surroundings, plan: Plan) -> Iterator[Any]:
    """A client of the cluster; None without one. Raises as `open_cluster`."""
    if not around.cluster:
        yield None
        return
    with open_cluster(around.cluster, plan, around.cache) as client:
        yield client


def send(
    client: Any, cells: Sequence[PlannedCell], state: RunState, note: Callable[[str], None], *, trials: bool
) -> None:
    """Has what the state makes ready be made by the cluster, `cells` at once. `trials`: with validation samples."""

    def call(cell: PlannedCell) -> Called:
        said = {"name": cell.recipe.name, "text": cell.recipe.text, "key": cell.key, "trials": trials}
        place = {"backend": cell.backend.title, "threads": cell.conditions.threads}
        return find_candidate, json.dumps({**said, **place})

    state.make_ready = Cluster(client, cells, state, note, call).take


def find_candidate(plan: Plan, text: str) -> tuple[Plan, PlannedCell]:
    """Runs on a worker: the cell of a candidate, and its plan. Raises `InvalidInput` where it is not the host's."""
    said = json.loads(text)
    plan = find_one(for_trials(plan) if said["trials"] else plan, said["backend"], said["threads"])
    base = plan.cells[0]
    cell = base if said["key"] == base.key else plan_recipe(plan, base, parse_recipe(said["name"], said["text"]))
    return plan, check_found(cell, said["key"])
