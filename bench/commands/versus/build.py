"""Builds one side from the user's code at another revision, in a process of its own: `python -m bench.commands.versus.build FOLDER`.

The process stands in the files of that revision. It reads `order.json` in FOLDER, compiles into the shared cache, and writes
`built.json` beside it: what it made, or why it could not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from bench.commands.versus.sides import Asked, Network, Variant, choose_backend, make_side, open_setting
from bench.device.board.parent import end_with_parent
from bench.device.job import Cooling
from bench.errors import CellFailed, InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.line.measure import Bench
from bench.line.own_models import InputOptions
from bench.line.prepare import Setting
from bench.line.versus.kept import find_kept, keep
from bench.line.versus.sides import Side
from bench.line.versus.until import Patience
from bench.own_code import LIBRARIES
from bench.reach.process import kill_group
from bench.types import Conditions, TensorSpec

LIMIT_S = 3600
ORDER, BUILT, FEED = "order.json", "built.json", "feed.npz"
KINDS: Mapping[str, type[PressbenchError]] = {
    kind.__name__: kind for kind in (InvalidInput, Unsupported, Unavailable, CellFailed)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build. `repository`: top of the user's working tree, from which nothing may be imported."""

    target: str
    threads: int
    batch: int
    cache: Path
    said: InputOptions
    network: Network
    variant: Variant
    repository: Path
    checkout: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was made, or `error` of the class `kind`. `feed`: whether a batch to time lies beside it."""

    digest: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    output_axes: Mapping[str, int | None] = field(default_factory=dict)
    feedback: tuple[tuple[str, str], ...] = ()
    session: str = ""
    feed: bool = False
    error: str = ""
    kind: str = ""


def build_side(order: Order, folder: Path, stand: Path, setting: Setting) -> Side:
    """The side that a process standing in `stand` builds. `folder`: new, for its order and what it makes.

    Raises what building raises, `CellFailed` where the process dies.
    """
    folder.mkdir(parents=True)
    (folder / ORDER).write_bytes(TypeAdapter(Order).dump_json(order))
    run_builder(folder, stand, place_on_path(order.repository, order.checkout))
    try:
        built = TypeAdapter(Built).validate_json((folder / BUILT).read_bytes())
    except (OSError, ValueError) as error:
        raise CellFailed(f"building it left no answer: {error}") from None
    if built.error:
        raise KINDS.get(built.kind, CellFailed)(built.error.replace(f"{order.checkout}/", ""))
    return take_side(order, built, folder, setting)


def run_builder(folder: Path, stand: Path, path: Sequence[str]) -> None:
    """The process, to its end. Raises `CellFailed` with the end of what it said where it dies or hangs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    log = folder / "stderr.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.commands.versus.build", str(folder)],
            cwd=stand,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise CellFailed(f"building it was stopped: no end after {LIMIT_S} s") from None
        finally:
            kill_group(process)
    if code:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise CellFailed(f"building it ended with exit code {code}" + (f": {said[-1]}" if said else ""))


def place_on_path(repository: Path, checkout: Path) -> list[str]:
    """The folders to import from: those in the user's working tree become those of the revision; pressbench stays."""
    own = Path(__file__).resolve().parents[3]
    found = []
    for text in filter(None, sys.path):
        place = Path(text).absolute()
        if LIBRARIES & set(place.parts):
            continue
        if place.is_relative_to(repository) and place != own:
            found.append(str(checkout / place.relative_to(repository)))
    given = [text for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    outside = [text for text in given if not Path(text).absolute().is_relative_to(repository)]
    return list(dict.fromkeys([*found, *outside, str(own)]))


def take_side(order: Order, built: Built, folder: Path, setting: Setting) -> Side:
    """What was built, kept from the cache, on a bench of this process."""
    goal, kept = setting.target, setting.folder / "kept"
    choice = choose_backend(goal, order.variant.backend)
    if missing := keep(kept, setting.cache, [built.digest]):
        raise CellFailed(missing[built.digest])
    conditions = Conditions(batch=order.batch, threads=order.threads, device=goal.first_device)
    bench = Bench(
        reach=setting.reaches.find(goal, conditions.device),
        session=built.session,
        conditions=conditions,
        measure=setting.measure,
        options=choice.options,
        meters=setting.meters,
        feed=folder / FEED if built.feed else None,
        inputs=built.inputs,
        output_axes=built.output_axes,
        feedback=built.feedback,
        seed=setting.seed,
        pin=goal.pin,
        cooling=Cooling(limit_s=goal.cool_down_s, ceiling_c=goal.ceiling_c),
        settings=goal.settings.as_job(),
    )
    return Side(bench=bench, artifact=find_kept(kept, built.digest), title=order.variant.title)


def build(order: Order, folder: Path) -> Built:
    """The side, compiled into the cache; its batch to time in `folder`."""
    asked = Asked(
        target=order.target,
        threads=order.threads,
        batch=order.batch,
        patience=Patience(width=0.01),
        cache=order.cache,
        progress=lambda _what, _done: None,
        said=order.said,
        network=order.network,
    )
    with open_setting(asked) as setting:
        side = make_side(order.variant, asked, setting)
        check_origin(order)
        bench = side.bench
        if bench.feed:
            shutil.copyfile(bench.feed, folder / FEED)
        return Built(
            digest=side.artifact.digest,
            inputs=bench.inputs,
            output_axes=bench.output_axes,
            feedback=bench.feedback,
            session=bench.session,
            feed=bench.feed is not None,
        )


def check_origin(order: Order) -> None:
    """Raises `InvalidInput` where the model's code, or what it imports, is not that of the revision."""
    module = order.variant.model.partition(":")[0]
    origin = Path(getattr(sys.modules.get(module), "__file__", None) or "/").resolve()
    if not origin.is_relative_to(order.checkout.resolve()):
        raise InvalidInput(
            f"{module} is imported from {origin}, not from the revision: stand in the folder of the repository that "
            "holds it, or put that folder on PYTHONPATH"
        )
    for name, loaded in list(sys.modules.items()):
        file = Path(getattr(loaded, "__file__", None) or "/").resolve()
        ours = name.partition(".")[0] in ("bench", "backends", "targets")
        if file.is_relative_to(order.repository) and not LIBRARIES & set(file.parts) and not ours:
            raise InvalidInput(f"{name} is imported from the working tree ({file}), not from the revision")


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: `built.json` says what was made, or why not."""
    end_with_parent()
    folder = Path(arguments[0])
    order = TypeAdapter(Order).validate_json((folder / ORDER).read_bytes())
    try:
        built = build(order, folder)
    except PressbenchError as error:
        built = Built(error=str(error), kind=type(error).__name__)
    (folder / BUILT).write_text(json.dumps(asdict(built)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
