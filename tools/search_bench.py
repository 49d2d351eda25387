"""Compares the strategies of `pressbench search` with equal time: `make search-bench`.

Each strategy searches the same network on the same target, for the least latency within a drop, on each seed; on an FPGA for
the least LUTs. Printed are the winner on the test set, the hypervolume of all trials on the validation split, and the table's
error. The default is one seed of ResNet-8 on the digits, about 15 minutes on two idle cores; the issue's figures need
`--dataset fashion-mnist --seeds 0 1 2 --networks 50` and hours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.commands.progress import watching
from bench.commands.search.command import search_best
from bench.compress.pipeline import open_network
from bench.data.datasets import load_data
from bench.errors import InvalidInput, PressbenchError
from bench.line.plan import Request
from bench.line.run import plan_run
from bench.paths import cache_folder
from bench.search.asked import Asked
from bench.search.plans import for_trials
from bench.search.prediction import board
from bench.search.steps import THEN
from bench.search.strategies.interface import UNTRUSTED
from bench.search.strategies.known import STRATEGIES, WITHOUT_FAMILIES

WORST_LOSS = 5.0
"""Percentage points at which the hypervolume ends; on the other axis it ends at the uncompressed cost."""


def _read() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.search_bench", description=__doc__)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--backend", default="ort")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", default="../shared", help="folder of downloaded data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--seconds", type=float, default=160.0, help="of each search")
    parser.add_argument("--max-drop", type=float, help="points of accuracy; 0.5, where there is a data set")
    parser.add_argument("--then", help=f"steps of every candidate, the same for all; {THEN}, where there is a data set")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument(
        "--samples", type=int, default=0, help="train with the first so many samples of the data set; 0: all"
    )
    parser.add_argument(
        "--choose-with",
        type=int,
        default=0,
        help="with --samples: validate with the next so many; 0: with a fifth of them",
    )
    parser.add_argument(
        "--pool",
        type=int,
        default=1,
        help="with --samples: images shrunk by means of so many pixels a side, as for an FPGA",
    )
    parser.add_argument("--out", type=Path, help="file that gets each search's answer as a line of JSON")
    parser.add_argument("--networks", type=int, default=board.CHECKED, help="random networks that check the table")
    options = parser.parse_args()
    if options.choose_with and not options.samples:
        parser.error("--choose-with: it counts the samples behind those of --samples; give both")
    if options.pool < 1 or (options.pool > 1 and not options.samples):
        parser.error("--pool: from 1 up, and together with --samples")
    if options.dataset:
        options.max_drop = 0.5 if options.max_drop is None else options.max_drop
        options.then = THEN if options.then is None else options.then
    return options


def main() -> None:
    """Runs what is asked for. Exits with 1 where a search ended with an error."""
    options = _read()
    board.CHECKED = options.networks
    found: dict[tuple[int, str], Mapping[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="pressbench-search-bench-") as folder:
        if options.samples:
            options.dataset = _shorten(options, Path(folder))
        for seed in options.seeds:
            request = _request(options, seed, Path(folder))
            _train(request)
            for strategy in options.strategies:
                found[seed, strategy] = _search(options, request, strategy, Path(folder) / f"{seed}-{strategy}")
                print(_line(seed, strategy, found[seed, strategy]), flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps({"seed": seed, "strategy": strategy, **found[seed, strategy]}) + "\n")
    print("\n".join(_compare(options.seeds, found)))
    if any("error" in answer for answer in found.values()):
        sys.exit(1)


def _shorten(options: argparse.Namespace, folder: Path) -> str:
    """A file with the first samples of the training set, those after them to choose with, and all of the test set."""
    data, count = load_data(options.dataset, Path(options.data)), options.samples
    if count + options.choose_with > len(data.train):
        raise InvalidInput(
            f"--samples {count} --choose-with {options.choose_with}: {options.dataset} has {len(data.train)}"
        )
    path = folder / f"{Path(options.dataset).stem}-{count}-{options.choose_with}-{options.pool}.npz"
    parts = {"train": (data.train, slice(count)), "test": (data.test, slice(None))}
    if data.validation is not None:
        parts["val"] = (data.validation, slice(None))
    if options.choose_with:
        parts["val"] = (data.train, slice(count, count + options.choose_with))
    arrays: dict[str, Any] = {}
    for name, (part, chosen) in parts.items():
        (images,), arrays[f"y_{name}"] = part.inputs(chosen), part.targets(chosen)
        arrays[f"x_{name}"] = _pool(images, options.pool)
    np.savez(path, **arrays)
    return str(path)


def _pool(images: NDArray[Any], side: int) -> NDArray[Any]:
    """Images (samples, channels, height, width) by means of blocks of `side` x `side` pixels; what is over is cut off."""
    if side == 1:
        return images
    if images.ndim != 4 or min(images.shape[2:]) < side:
        raise InvalidInput(
            f"--pool {side}: samples of shape {images.shape[1:]} are not images of that many pixels a side"
        )
    height, width = (size // side for size in images.shape[2:])
    cut = images[:, :, : height * side, : width * side]
    blocks = cut.reshape(*images.shape[:2], height, side, width, side)
    return np.asarray(blocks.mean((3, 5)), images.dtype)


def _request(options: argparse.Namespace, seed: int, folder: Path) -> Request:
    suite = folder / f"seed-{seed}.toml"
    suite.write_text(f"name = 'search-bench'\nmodels = [{json.dumps(options.model)}]\nseed = {seed}\n")
    return Request(
        target=options.target,
        suite=str(suite),
        models=(options.model,),
        recipes=("baseline",),
        backends=(options.backend,),
        data=options.dataset,
        data_root=options.data,
    )


def _train(request: Request) -> None:
    """Trains the uncompressed network of trials and of finalists before any clock runs, which the first strategy would pay for."""
    cache = cache_folder(os.environ)
    plan = plan_run(request, cache)
    for one in (for_trials(plan), plan):
        (cell,) = one.cells
        open_network(cell.model, data=cell.data, cache=cache, seed=one.suite.seed, progress=lambda *_: None)


def _search(options: argparse.Namespace, request: Request, strategy: str, results: Path) -> Mapping[str, Any]:
    asked = Asked(
        request=request,
        max_drop=options.max_drop,
        time_s=options.seconds,
        then=options.then,
        strategy=strategy,
        families=() if strategy in WITHOUT_FAMILIES else tuple(options.family),
    )
    began = time.monotonic()
    try:
        with watching(sys.stderr) as watch:
            done = search_best(
                asked, results=results, url=None, resume=False, cache=cache_folder(os.environ), watch=watch
            )
    except PressbenchError as error:
        return {"error": str(error)}
    answer = done.answer
    assert isinstance(answer, dict)
    return {**answer, "seconds": time.monotonic() - began}


def _speedup(answer: Mapping[str, Any]) -> float:
    """Of the winner on the test set, interleaved with the uncompressed network (on an FPGA: how much smaller it is); 1
    where nothing was better."""
    finals, cost = answer.get("finals") or [], answer["cost"]
    return float(finals[0][cost] / finals[1][cost]) if len(finals) > 1 and finals[1][cost] else 1.0


def hypervolume(answer: Mapping[str, Any]) -> float:
    """Share of the rectangle from no cost and no loss to the reference point that the trials dominate, 0 to 1."""
    trials, cost = answer["trials"], answer["cost"]
    whole = float(trials[0][cost])
    usable = [
        (one[cost] / whole, max(0.0, one["quality_loss"]) / WORST_LOSS)
        for one in trials
        if one["status"] not in UNTRUSTED and one[cost] and one["quality_loss"] is not None
    ]
    area, floor = 0.0, 1.0
    for x, y in sorted(point for point in usable if max(point) <= 1):
        area += max(0.0, floor - y) * (1 - x)
        floor = min(floor, y)
    return area


def _line(seed: int, strategy: str, answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return f"seed {seed}, {strategy}: {answer['error']}"
    drop = answer["finals"][1]["quality_loss"] if len(answer["finals"]) > 1 else 0.0
    text = (
        f"seed {seed}, {strategy}: {len(answer['trials']) - 1} trials, {len(answer['pruned'])} pruned, winner {_speedup(answer):.2f} times as fast or small, loss "
        f"{drop:.3g} on the test set, hypervolume {hypervolume(answer):.3f}, "
        f"{answer['seconds']:.0f} s; {answer['ended']}"
    )
    if (table := answer["predictor"]) is not None:
        text += f"; table error {_percent(table['median_error'])} (median), {_percent(table['worst_error'])} (worst)"
    return text


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _compare(seeds: Sequence[int], found: Mapping[tuple[int, str], Mapping[str, Any]]) -> list[str]:
    lines = []
    for seed in seeds:
        ours = found.get((seed, "widths"))
        for other in ("uniform", "macs", "random", "optuna"):
            theirs = found.get((seed, other))
            if not ours or not theirs or "error" in ours or "error" in theirs:
                continue
            volumes = [hypervolume(one) for one in (ours, theirs)]
            lines.append(
                f"seed {seed}: widths against {other}: {_speedup(ours) / _speedup(theirs):.2f} times as fast; hypervolume "
                f"{volumes[0]:.3f} against {volumes[1]:.3f}"
            )
    return lines


if __name__ == "__main__":
    main()
