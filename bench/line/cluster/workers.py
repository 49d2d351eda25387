"""The workers of a cluster: they are found, and checked before anything is made or measured."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

import bench
from bench.cache import check_writable, key
from bench.compress.cache_key import PACKAGES, code_digests
from bench.errors import InvalidInput, Unavailable
from bench.line.plan import Plan, find_boards
from bench.line.stages import load_backend
from bench.paths import cache_at
from bench.plugins import installed_version
from bench.reach.open import is_elsewhere
from bench.reach.ssh.address import VARIABLE, parse_address
from bench.shared_cache import find_shared, find_url

LOCAL = "local:"
INTERNET = (socket.AF_INET, socket.AF_INET6)
CONNECT_S = 10.0
REMEDY = "pip install 'pressbench[cluster]'"


@contextmanager
def open_cluster(where: str, plan: Plan, cache: Path) -> Iterator[Any]:
    """A client of the cluster at `where`, whose workers fit the plan and share the cache.

    Raises as `connect`, and `InvalidInput` for workers of another version, that cannot use the cache, or that run where
    the cells are measured.
    """
    if is_local(where):
        check_place(plan, {f"{where} of this machine": name_this_host()})
    with connect(where) as client:
        if not is_local(where):
            check_workers(client, where, plan, cache)
        yield client


@contextmanager
def connect(where: str) -> Iterator[Any]:
    """A client of the scheduler at `where`, as tcp://host:8786, or of N processes of this machine, as local:4.

    Raises `Unavailable` without Dask or a scheduler.
    """
    try:
        distributed: Any = import_module("distributed")  # its calls have no types
    except ImportError as error:
        raise Unavailable(f"--cluster: distributed cannot be imported ({error}): {REMEDY}") from error
    if is_local(where):
        with distributed.LocalCluster(
            n_workers=read_count(where), threads_per_worker=1, processes=True, dashboard_address=None
        ) as own, distributed.Client(own, set_as_default=False) as client:  # fmt: skip
            yield client
        return
    try:
        client = distributed.Client(where, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"--cluster {where}: no scheduler answers: {error}; start one with `dask scheduler`"
        ) from error
    with client:
        yield client


def is_local(where: str) -> bool:
    """Whether it is processes of this machine."""
    return where.startswith(LOCAL)


def read_count(where: str) -> int:
    """The N of local:N. Raises `InvalidInput`."""
    count = where.removeprefix(LOCAL)
    if not count.isdecimal() or not 1 <= int(count) <= (os.cpu_count() or 1) * 4:
        raise InvalidInput(f"--cluster {where}: a number of processes from 1 to 4 for each core, as local:4")
    return int(count)


def check_workers(client: Any, where: str, plan: Plan, cache: Path) -> None:
    """Raises as `open_cluster`."""
    place = find_url(cache) or str(cache.resolve())
    with show_probe(cache, place) as probe:
        found = ask_workers(client, where, partial(describe_worker, place, probe), versions())
    for worker, facts in found.items():
        if facts["blind"]:
            raise InvalidInput(f"--cluster {where}: worker {worker} cannot use the cache {place}: {facts['blind']}")
    check_place(plan, {worker: facts["host"] for worker, facts in found.items()})


def ask_workers(
    client: Any, where: str, describe: Callable[[], Mapping[str, Any]], ours: Mapping[str, str]
) -> Mapping[str, Mapping[str, Any]]:
    """What every worker says of itself, by its name; its `versions` are `ours`.

    Raises `Unavailable` without workers, and `InvalidInput` for one of another version.
    """
    found: Mapping[str, Any] = client.run(describe, on_error="return")
    if not found:
        raise Unavailable(f"--cluster {where}: the scheduler has no workers; start one with `dask worker {where}`")
    for worker, facts in found.items():
        if isinstance(facts, BaseException):  # of code that is not there
            raise InvalidInput(
                f"--cluster {where}: worker {worker} has another pressbench, which says {type(facts).__name__}: {facts}: "
                "install the same"
            )
        theirs = facts["versions"]
        differs = [f"{name} {theirs.get(name)}, here {has}" for name, has in ours.items() if theirs.get(name) != has]
        if differs:
            raise InvalidInput(f"--cluster {where}: worker {worker} has {'; '.join(differs)}: install the same")
    return found


def check_place(plan: Plan, workers: Mapping[str, Collection[str]]) -> None:
    """Raises `InvalidInput` for a worker on a machine whose times are measured. `workers`: name -> what its host is called."""
    if not any(load_backend(cell.backend.name).session is not None for cell in plan.cells):
        return
    for device in find_devices(plan):
        called = name_host(device)
        for worker, names in workers.items():
            if called & set(names):
                raise InvalidInput(
                    f"--cluster: worker {worker} runs on {device}, which target {plan.target.name} measures: it would "
                    "disturb every time. Start workers elsewhere, or leave --cluster out"
                )


def find_devices(plan: Plan) -> list[str]:
    """The hosts that a plan measures. A phone has no host of its own: it hangs on the one that measures it."""
    if not is_elsewhere(plan.target):
        return [socket.gethostname()]
    targets = [board.target for board in find_boards(plan.request)] or [plan.target]
    asked = os.environ.get(VARIABLE, "").strip()
    return [parse_address(text, target.name).host for target in targets if (text := target.host or asked)]


def name_host(host: str) -> set[str]:
    """The names and addresses of a host, as `leave_out_loopback` has them."""
    found = {host.lower()}
    with suppress(OSError):
        found |= {str(known[4][0]) for known in socket.getaddrinfo(host, None)}
    return leave_out_loopback(found)


def name_this_host() -> list[str]:
    """What this machine is called, and its addresses."""
    cards = psutil.net_if_addrs().values()
    addresses = {card.address.partition("%")[0] for cards_of in cards for card in cards_of if card.family in INTERNET}
    return sorted(leave_out_loopback({socket.gethostname().lower(), socket.getfqdn().lower(), *addresses}))


def leave_out_loopback(names: Collection[str]) -> set[str]:
    """The other names and addresses: what answers on loopback may be a tunnel to any machine."""
    return {name for name in names if name != "localhost" and not name.startswith(("127.", "::1"))}


@contextmanager
def show_probe(cache: Path, place: str) -> Iterator[str]:
    """A file of the cache that workers must see meanwhile, by its name. Raises `Unavailable` where a URL takes none."""
    shared = find_shared(cache)
    if shared is None:
        probe = cache / f".cluster-{uuid.uuid4().hex}"
        probe.touch()
        try:
            yield probe.name
        finally:
            probe.unlink()
        return
    shared.check()
    if shared.trouble:
        raise Unavailable(f"--cluster: {shared.trouble}: workers and host need {place} to share what they make")
    with shared.probe() as name:
        yield name


def describe_worker(place: str, probe: str) -> dict[str, Any]:
    """Runs on a worker: its versions and host, and why it cannot use the shared cache; "" if it can."""
    return {"versions": versions(), "host": name_this_host(), "blind": find_blind(place, probe)}


def find_blind(place: str, probe: str) -> str:
    """Why this machine cannot use the cache of another, in which a probe lies; "" if it can."""
    try:
        cache = cache_at(place, os.environ)
        shared = find_shared(cache)
        if shared is None and not (cache / probe).exists():
            return (
                "it does not see the folder. Share it under one path and name it in PRESSBENCH_CACHE, or name a URL in "
                "PRESSBENCH_CACHE_URL"
            )
        check_writable(cache)
        if shared is None or shared.trouble:
            return shared.trouble if shared else ""
        return "" if shared.sees(probe) else "another place answers to this URL here"
    except Exception as error:  # noqa: BLE001 - the host says it, whatever it is
        return f"{type(error).__name__}: {error}"


def versions() -> dict[str, str]:
    """What decides the bytes of a network and the names of files, besides the runtimes of its backends."""
    return {
        "pressbench": bench.__version__,
        "Python": ".".join(map(str, sys.version_info[:2])),
        **{name: installed_version(name) for name in PACKAGES},
        "code": key(code=code_digests(()))[:12],
    }
