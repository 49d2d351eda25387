"""What the user names as one side of a comparison -> a deployed file on its bench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.cache import check_writable
from bench.commands.temporary import owned_temporary_files
from bench.compress.program import find_program
from bench.compress.recipe import parse_recipe
from bench.config.suite import MOST, Measure, check_condition, check_seed, check_smallest_effect
from bench.config.target import BackendChoice, Target, load_target
from bench.data.datasets import Dataset, load_data
from bench.errors import InvalidInput, Unsupported, unknown
from bench.line.measure import find_meters
from bench.line.options import fit_recipe
from bench.line.own_models import NOTHING_SAID, InputOptions, check_fit, choose_calibration, describe_inputs
from bench.line.prepare import Prepared, Setting, prepare
from bench.line.stages import load_backend
from bench.line.versus.sides import TURN_S, Side
from bench.line.versus.until import Patience
from bench.line.wording import users_file_named
from bench.models.layouts import lay_out
from bench.models.registry import names_reference, resolve
from bench.reach.environment import lay_out_code, open_environment
from bench.reach.open import Reaches
from bench.records import SMALLEST_EFFECT
from bench.tasks.builtin import CLASSIFICATION
from bench.tasks.own import find_task
from bench.types import Conditions, Model, Progress, Recipe

TIME_S = 60.0
DEFAULT_DATA = "digits"
"""What a reference network is trained on where no data set is named, as of `pressbench compress`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How a network of the user's is read: the options of `pressbench compress`. `dataset`: None for the default."""

    weights: str | None = None
    train: bool = False
    input_shape: tuple[int, ...] = ()
    dataset: str | None = None
    data_root: str | None = None
    calibrate: str | None = None
    task: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What both sides have in common. `target`: "" for stored runs, which have theirs. `said`: of the inputs of both."""

    target: str
    threads: int = 1
    batch: int = 1
    blocks: int = 20
    patience: Patience
    smallest_effect: float = SMALLEST_EFFECT
    cache: Path
    progress: Progress
    said: InputOptions = NOTHING_SAID
    network: Network = field(default_factory=Network)
    layers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One side as the user names it. `recipe`: text of its steps. `python`: of another environment, "" for this one.

    `revision`: of the user's repository, "" for the code as it is.
    """

    title: str
    model: str
    recipe: str = ""
    backend: str | None = None
    python: str = ""
    revision: str = ""


def read_patience(smallest_effect: float, width: float | None, time_s: float | None, launches: int | None) -> Patience:
    """When to stop. Raises `InvalidInput` for a share or a time that cannot be, or for --launches beside another."""
    check_smallest_effect(smallest_effect, "--smallest-effect")
    if launches is not None and (width is not None or time_s is not None):
        raise InvalidInput("--launches is a fixed number: leave it out, or leave --width and --time out")
    if width is not None:
        check_smallest_effect(width, "--width")
    seconds = TIME_S if time_s is None else check_time(time_s)
    return Patience(width=width or smallest_effect / 2, time_s=seconds, launches=launches)


def check_time(seconds: float) -> float:
    """The seconds of --time. Raises `InvalidInput` for those that cannot be."""
    if not 0 < seconds < float("inf"):
        raise InvalidInput(f"--time {seconds:g}: give seconds above 0")
    return seconds


@contextmanager
def open_setting(asked: Asked) -> Iterator[Setting]:
    """Where sides are prepared; its temporary files and ways to the target end with it.

    Raises `InvalidInput` for an unknown target, `Unavailable` for a cache that cannot be written.
    """
    goal = load_target(asked.target)
    check_writable(asked.cache)
    with owned_temporary_files() as folder, Reaches() as reaches:
        yield Setting(
            target=goal,
            cache=asked.cache,
            folder=folder,
            progress=asked.progress,
            measure=Measure(blocks=asked.blocks, warmup_s=0.2, time_s=TURN_S),
            seed=asked.network.seed,
            meters=find_meters(goal),
            reaches=reaches,
            input_data=asked.said.file(),
        )


def make_side(variant: Variant, asked: Asked, setting: Setting) -> Side:
    """The deployed file of a variant on its bench; environments of their own are checked before anything is made.

    Raises `InvalidInput` for names that do not exist, a backend that only simulates, or an environment that is not one;
    `Unavailable` where an environment lacks the runtime; and what preparing raises.
    """
    goal = setting.target
    choice = choose_backend(goal, variant.backend)
    session = load_backend(choice.name).session
    if session is None:
        raise InvalidInput(f"backend {choice.title} estimates instead of measuring: nothing to compare")
    title, reach = variant.title, None
    if variant.python:
        if goal.reach != "local":
            raise InvalidInput(f"--python: environments are of this machine, and target {goal.name} is elsewhere")
        module = session.partition(":")[0]
        environment = open_environment(variant.python, module, lay_out_code(module, setting.folder / f"code-{module}"))
        title, reach = f"{variant.title} ({environment.describe()})", environment.reach
    prepared = prepare_variant(variant, choice, asked, setting)
    assert prepared.bench is not None
    if prepared.bench.reach.counts:
        raise Unsupported(f"target {goal.name} counts instructions and times nothing: nothing to compare")
    bench = replace(prepared.bench, reach=reach) if reach else prepared.bench
    return Side(bench=bench, artifact=prepared.artifact, title=title)


def prepare_variant(variant: Variant, choice: BackendChoice, asked: Asked, setting: Setting) -> Prepared:
    """The variant compressed and compiled."""
    goal, network = setting.target, asked.network
    data = load_network_data(variant.model, network, asked.cache)
    steps, _ = fit_recipe(parse_recipe("asked", variant.recipe), choice, goal.reach)
    recipe = steps if steps.steps else Recipe(name="baseline")
    setting = replace(
        setting,
        data=data,
        data_asked=network.dataset is not None,
        calibrate=choose_calibration(network.calibrate or "", asked.said.file(), [recipe]),
    )
    conditions = Conditions(batch=asked.batch, threads=asked.threads, device=goal.first_device)
    with users_file_named(setting.cache, variant.model):
        return prepare(find_network(variant.model, data, asked), recipe, choice, conditions, setting)


def find_network(text: str, data: Dataset | None, asked: Asked) -> Model:
    """The model that a text names, with what is said of its inputs. Raises as `pressbench compress` does."""
    network = asked.network
    check_seed(network.seed, "--seed")
    for key in MOST:
        check_condition(key, [getattr(asked, key)], f"--{key}")
    weights = Path(network.weights) if network.weights else None
    found = resolve(text, data, input_shape=network.input_shape or None, weights=weights, train=network.train)
    (found,) = describe_inputs([find_program(found, asked.cache)], asked.said, network.dataset or "")
    if network.train and not found.train:
        raise InvalidInput(f"--train trains the network of package.module:function, not {found.name}: leave it out")
    found = lay_out(found, data, network.seed)
    if data is not None and network.dataset:
        check_fit(found, data, network.seed)
    return found


def load_network_data(model: str, network: Network, cache: Path) -> Dataset | None:
    """The data set named, or the default of a reference network; None without one."""
    name = (DEFAULT_DATA if names_reference(model) else "") if network.dataset is None else network.dataset
    root = Path(network.data_root) if network.data_root else None
    task = find_task(network.task or CLASSIFICATION.text)
    return load_data(name, root, task=task, cache=cache) if name else None


def choose_backend(target: Target, backend: str | None) -> BackendChoice:
    """The backend of that name, or the target's first. Raises `InvalidInput` that lists those there are."""
    if backend is None:
        return target.backend[0]
    known: Mapping[str, BackendChoice] = {choice.title: choice for choice in target.backend}
    if backend not in known:
        raise unknown(f"backend of target {target.name}", backend, known)
    return known[backend]
