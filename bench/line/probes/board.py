"""How small networks are made and timed quickly on a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compress.recipe import parse_recipe
from bench.config.target import BackendChoice
from bench.line.measure import Bench, look_quickly, pairs_with_first
from bench.line.prepare import Setting
from bench.models.registry import resolve
from bench.records import PairLaunch
from bench.types import Artifact, Backend, Conditions, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """How files are made and timed on the target. `identity`: device, runtime, its version, options and conditions.

    `build` compiles an ONNX file as the text of a recipe says, "" as it is. `compare` runs the first file in turns with
    each of the others, in one process.
    """

    identity: Json
    build: Callable[[Path, str], Artifact]
    compare: Callable[[Artifact, Sequence[Artifact]], Sequence[PairLaunch]]


def make_board(
    identity: Json, backend: Backend, choice: BackendChoice, conditions: Conditions, bench: Bench, setting: Setting
) -> Board:
    """The board of a backend. `bench`: of any file of it, for the way to the target."""

    def build(file: Path, recipe: str) -> Artifact:
        stages = setting.stages
        source = stages.compress(
            resolve(str(file), None),
            parse_recipe("probe" if recipe else "baseline", recipe),
            data=None,
            cache=setting.cache,
            seed=setting.seed,
            progress=setting.progress,
            batch=conditions.batch,
            calibrate=setting.calibrate,
        )
        return stages.compile(backend, source, conditions, choice.options, setting.cache)

    def compare(first: Artifact, others: Sequence[Artifact]) -> Sequence[PairLaunch]:
        return pairs_with_first(look_quickly(bench), first, others)

    return Board(identity=identity, build=build, compare=compare)
