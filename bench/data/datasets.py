"""Data sets by name: one reader for each source, the same checks for all.

A new source is one function that returns `Arrays`, and one line in `_read`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.config.grammar import parse_call
from bench.data.arrays import Arrays, check_values, count_classes, describe_overlap, make_parts
from bench.data.digits import read_digits
from bench.data.idx_files import read_idx_set
from bench.data.image_folders import ImageOptions, parse_images, read_image_folder
from bench.data.npy_folders import is_npy_folder, read_npy_folder
from bench.data.npz_sets import read_npz_set
from bench.data.own_sets import read_own_set
from bench.data.parts import Part, Unseen
from bench.data.turned import Turned
from bench.errors import InvalidInput
from bench.own_code import is_import_path
from bench.tasks.base import Task
from bench.tasks.builtin import CLASSIFICATION

IDX_NAMES = ("mnist", "fashion-mnist")
NAMED_SETS = ("digits", *IDX_NAMES)
"""Sets whose name says what they hold."""


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: the digest of 188 MB is computed once and kept
class Dataset:
    """A data set for one task, `name` being the text it is loaded by.

    Inputs are float32, (N, C, H, W) or (N, H, W, C) for images (0..1 for the built-in sets, as they come for a float .npz),
    (N, C, L) for windows of L samples or (N, features); or whole numbers such as token ids. Targets are what the task
    takes: int64 labels (N,) from 0 to classes-1 for a classification. `classes`: 0 for every other task.
    `input_names`: names of the inputs where the source has any. `notes`: what was chosen for the user. `validation`:
    samples to choose with, where the source has any. `class_names`: by label, where the source names its classes.
    """

    name: str
    train: Part
    test: Part
    classes: int
    task: Task = CLASSIFICATION
    input_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    validation: Part | None = None
    class_names: tuple[str, ...] = ()
    _turned: dict[tuple[str, ...], Dataset] = field(default_factory=dict, repr=False)

    def laid_out(self, layouts: tuple[str, ...]) -> Dataset:
        """The data set whose inputs are turned to these layouts (`bench.inputs.layout`); itself where none is."""
        if not any(layouts):
            return self
        if layouts not in self._turned:
            train, test = (Turned(part, layouts) for part in (self.train, self.test))
            validation = self.validation and Turned(self.validation, layouts)
            self._turned[layouts] = replace(self, train=train, test=test, validation=validation, _turned={})
        return self._turned[layouts]

    @cached_property
    def sample(self) -> tuple[np.ndarray, ...]:
        """The first sample to train with: an array for each input, (1, ...). It has the shapes and types of all."""
        return self.train.inputs(slice(0, 1))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, without the batch."""
        return tuple(int(size) for size in self.sample[0].shape[1:])

    @cached_property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one sample's target."""
        return tuple(int(size) for size in self.train.targets(slice(0, 1)).shape[1:])

    @cached_property
    def to_train_with(self) -> Dataset:
        """Without the samples to test and to choose with: what steps of recipes get."""
        return replace(self, test=Unseen(), validation=None, _turned={})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what to train and to test with, and of the task where it is not classification; the name plays no part."""
        return self._digest(self.train, self.test)

    @cached_property
    def training_digest(self) -> str:
        """As `digest`, without what to test with: training knows no more than this."""
        return self._digest(self.train)

    def _digest(self, *parts: Part) -> str:
        digest = hashlib.sha256(str(self.classes).encode())
        for part in parts:
            part.digest_into(digest)
        if not self.task.labels:
            digest.update("".join(self.task.identity()).encode())
        return digest.hexdigest()


def load_data(
    name: str, root: Path | None = None, *, task: Task = CLASSIFICATION, cache: Path | None = None
) -> Dataset:
    """The data set called `digits`, `mnist`, `fashion-mnist`, or the .npz file or folder at the path `name`.

    idx.gz files are looked for in `root`, `root/<name>` and `root/data/<name>`. An .npz, or a folder of .npy, holds
    x_train, y_train, x_test, y_test: inputs (N, C, H, W), (N, C, L) or (N, features), uint8 (divided
    by 255), float (kept as is) or other whole numbers (token ids), without NaN; targets are what the task takes.
    x_val and y_val may be beside them: what a search chooses with.
    Any other folder, and images(folder=...), holds images by class. `package.module:function` gives samples, which are
    kept in the folder `cache` where they have no index.

    Raises `InvalidInput`: unknown name, missing or damaged file, wrong shapes or values; names file and key.
    """
    if name.startswith("images("):
        return _load_images(name, parse_images(parse_call(name)), task)
    if Path(name).is_dir() and name not in NAMED_SETS and not is_npy_folder(Path(name)):
        return _load_images(name, ImageOptions(folder=Path(name)), task)
    given = read_own_set(name, cache) if is_import_path(name) else _read(name, root)
    train, test, *rest = make_parts(given, task)
    overlap = describe_overlap(given.place, check_values(train, test, *rest), len(test))
    task.check_part((train.targets(chunk) for chunk in train.chunks()), f"{given.place}: y_train")
    for part, key in zip((test, *rest), ("y_test", "y_val"), strict=False):
        task.check_scored((part.targets(chunk) for chunk in part.chunks()), f"{given.place}: {key}")
    return Dataset(
        name=name,
        train=train,
        test=test,
        classes=count_classes(given.place, train, test, *rest) if task.labels else 0,
        task=task,
        input_names=given.names if given.named else (),
        notes=(*given.notes, *overlap),
        validation=rest[0] if rest else None,
    )


def _load_images(name: str, options: ImageOptions, task: Task) -> Dataset:
    if not task.labels:
        raise InvalidInput(f"{options.folder}: images by class are for classification, not for task {task.text}")
    found = read_image_folder(options)
    return Dataset(
        name=name,
        train=found.train,
        test=found.test,
        classes=len(found.class_names),
        notes=found.notes,
        validation=found.validation,
        class_names=found.class_names,
    )


def _read(name: str, root: Path | None) -> Arrays:
    if name == "digits":
        return read_digits()
    if name in IDX_NAMES:
        return read_idx_set(name, root)
    if name.endswith(".npz"):
        return read_npz_set(Path(name))
    if is_npy_folder(Path(name)):
        return read_npy_folder(Path(name))
    raise InvalidInput(
        f"unknown data set {name!r} (known: digits, {', '.join(IDX_NAMES)}, a path ending in .npz, a folder of images "
        "by class or of .npy, or package.module:function)"
    )
