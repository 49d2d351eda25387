"""Images in folders by class: FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, read as they are asked for.

FOLDER/val/CLASS/*.png may lie beside them: the images that a search chooses with.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from bench.config.grammar import Call, Value
from bench.data.arrays import describe_overlap
from bench.data.parts import Array, Choice, Hash, Part
from bench.errors import InvalidInput, unknown

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = {".png", ".jpg", ".jpeg"}
CHANNELS = {"1": 1, "L": 1, "RGB": 3, "P": 3}
"""Pillow's modes that are read -> channels; others lose something: 16 bits, transparency, CMYK."""
TRANSPARENT = ("LA", "RGBA", "PA")
TURNED = "Orientation"
"""The EXIF tag of a photograph whose rows are not stored from the top down."""
NAMES_SHOWN = 10
END_BYTES = 4096
"""Of an image: what differs between two of one size. Their beginnings may be one header."""
TEST_SHARE = 0.2
SPLIT_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """How images become inputs. `size`: the shorter side is resized to it and the middle is cut out; 0: as they are.

    `mean` and `std`: of each channel, of values from 0 to 1. `channels`: 0 for those of the images.
    """

    folder: Path
    size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImagePart(Part):
    """Images on disk with the label of each. `shape`: (channels, height, width)."""

    files: tuple[Path, ...]
    labels: Array
    options: ImageOptions
    shape: tuple[int, int, int] = field(default=(0, 0, 0))

    def __len__(self) -> int:
        return len(self.files)

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """float32 (samples, channels, height, width), 0 to 1 without mean and std. Raises `InvalidInput` for a damaged
        image."""
        numbers = np.arange(len(self.files))[chosen]
        images = np.empty((len(numbers), *self.shape), np.float32)
        for place, number in enumerate(numbers):
            images[place] = _read(self.files[number], self.shape, self.options)
        if self.options.mean:
            images -= np.array(self.options.mean, np.float32)[:, None, None]
        if self.options.std:
            images /= np.array(self.options.std, np.float32)[:, None, None]
        return (images,)

    def targets(self, chosen: Choice) -> Array:
        """int64 labels (samples,): the place of the class in the sorted names."""
        labels: Array = self.labels[chosen]
        return labels

    def digest_into(self, digest: Hash) -> None:
        """Content and label of every file, and how it is read."""
        digest.update(repr((self.shape, self.options.size, self.options.mean, self.options.std)).encode())
        for file, label in zip(self.files, self.labels, strict=True):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size} {content} {label}".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """The parts, the names of the classes by label, and how the folder was split where it was."""

    train: ImagePart
    test: ImagePart
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    validation: ImagePart | None = None


def parse_images(call: Call) -> ImageOptions:
    """Of `images(folder='...', size=96, mean=(...), std=(...), channels=3)`. Raises `InvalidInput` naming the argument."""
    given = dict(call.arguments)
    for key in given:
        if key not in ("folder", "size", "mean", "std", "channels"):
            raise unknown("argument of images", key, ["folder", "size", "mean", "std", "channels"])
    folder = given.get("folder")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        raise InvalidInput(f"images(folder={folder!r}): name a folder that exists")
    size, channels = given.get("size", 0), given.get("channels", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or channels not in (0, 1, 3):
        raise InvalidInput(f"images(size={size!r}, channels={channels!r}): size is in pixels, channels is 1 or 3")
    mean, std = (_numbers(key, given.get(key, ())) for key in ("mean", "std"))
    if any(value == 0 for value in std):
        raise InvalidInput("images(std=...): no deviation may be 0")
    return ImageOptions(folder=Path(folder), size=size, mean=mean, std=std, channels=int(channels))


def read_image_folder(options: ImageOptions) -> ImageSet:
    """Raises `InvalidInput` for folders without classes or with others to test than to train, files that are not images,
    and images of several sizes."""
    folder = options.folder
    parts = [folder / name for name in ("train", "test") if (folder / name).is_dir()]
    if len(parts) == 1:
        raise InvalidInput(f"{folder}: has {parts[0].name}/ only; give both train/ and test/, or neither")
    found = _list(parts[0] if parts else folder)
    names, chosen = tuple(sorted(found)), dict[str, list[Path]]()
    notes = [_describe_labels(folder, names)]
    if len(names) < 2:
        raise InvalidInput(f"{folder}: {len(names)} class; wanted at least two folders of images, one for each class")
    if parts:
        tested = _list(parts[1])
        _check_classes(parts, found, tested)
        if (folder / "val").is_dir():
            chosen = _list(folder / "val")
            if not chosen or {*chosen} - {*found}:
                odd = ", ".join(map(repr, sorted({*chosen} - {*found})[:NAMES_SHOWN])) or "no class at all"
                raise InvalidInput(
                    f"{folder / 'val'} has {odd}: give it folders of classes of {parts[0]}, or remove it"
                )
            notes += [f"{folder}: a search chooses with val/; nothing else uses it"]
        notes += [f"{folder}: {name}/ is not used" for name in _folders(folder) if name not in ("train", "test", "val")]
    else:
        found, tested = _split(found, folder)
        numbers = [sum(map(len, each.values())) for each in (found, tested)]
        split = f"split by class with seed {SPLIT_SEED}, {numbers[0]} images to train and {numbers[1]} to test"
        notes += [f"{folder} has no train/ and test/: {split}"]
    every = [file for each in (found, tested, chosen) for files in each.values() for file in files]
    shape, turned = _shape(every, options)
    if turned:
        notes += [f"{folder}: {turned} images are read as stored, not turned as their EXIF {TURNED} says"]
    for key, values in (("mean", options.mean), ("std", options.std)):
        if values and len(values) != shape[0]:
            raise InvalidInput(f"images({key}=...): {len(values)} numbers for {shape[0]} channels")
    train, test, validation = (_part(each, names, options, shape) for each in (found, tested, chosen))
    notes += describe_overlap(str(folder), _count_copies(train.files, test.files), len(test))
    return ImageSet(
        train=train, test=test, class_names=names, notes=tuple(notes), validation=validation if chosen else None
    )


def _numbers(key: str, value: Value) -> tuple[float, ...]:
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values):
        raise InvalidInput(f"images({key}={value!r}): one number for each channel")
    return tuple(float(one) for one in values if one is not None)


def _describe_labels(folder: Path, names: tuple[str, ...]) -> str:
    """Which label each class has: networks trained elsewhere may have another order."""
    shown = ", ".join(f"{label} {name}" for label, name in enumerate(names[:NAMES_SHOWN]))
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{folder}: labels of its classes, whose names are sorted as text: {shown}{more}"


def _check_classes(parts: list[Path], trained: Iterable[str], tested: Iterable[str]) -> None:
    train, test = set(trained), set(tested)
    for extra, place, other in ((test - train, parts[1], parts[0]), (train - test, parts[0], parts[1])):
        if extra:
            shown = ", ".join(map(repr, sorted(extra)[:NAMES_SHOWN]))
            some = f"class {shown} is" if len(extra) == 1 else f"classes {shown} are"
            raise InvalidInput(f"{place}: {some} not in {other}; both need a folder of every class")


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list(folder: Path) -> dict[str, list[Path]]:
    """Class -> its images, sorted. Hidden files do not count."""
    found: dict[str, list[Path]] = {}
    lying = (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    if stray := sorted(path for path in lying if path.suffix.lower() in SUFFIXES):
        raise InvalidInput(f"{stray[0]} lies in no folder of a class ({len(stray)} such); move it into one, or out")
    for place in (folder / name for name in _folders(folder)):
        files = sorted(path for path in place.iterdir() if not path.name.startswith("."))
        if odd := [path for path in files if path.suffix.lower() not in SUFFIXES or not path.is_file()]:
            raise InvalidInput(f"{odd[0]} is not a .png or .jpg ({len(odd)} such in {place}); move it out")
        if not files:
            raise InvalidInput(f"{place} holds no image; remove it, or give the class images")
        found[place.name] = files
    return found


def _split(found: dict[str, list[Path]], folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    generator = np.random.default_rng(SPLIT_SEED)
    train, test = {}, {}
    for name, files in found.items():
        if len(files) < 2:
            raise InvalidInput(f"{folder / name} holds one image; at least two are needed to train and to test")
        order = generator.permutation(len(files))
        held = max(1, round(TEST_SHARE * len(files)))
        test[name] = [files[number] for number in sorted(order[:held])]
        train[name] = [files[number] for number in sorted(order[held:])]
    return train, test


def _part(
    found: dict[str, list[Path]], names: tuple[str, ...], options: ImageOptions, shape: tuple[int, int, int]
) -> ImagePart:
    files = tuple(file for name in names for file in found.get(name, ()))
    labels = np.repeat(np.arange(len(names)), [len(found.get(name, ())) for name in names])
    return ImagePart(files=files, labels=labels, options=options, shape=shape)


def _count_copies(train: tuple[Path, ...], test: tuple[Path, ...]) -> int:
    """How many files to test with have the content of one to train with. Whole files are read where size and end are alike."""
    sizes = {file: file.stat().st_size for file in (*train, *test)}

    def read_end(file: Path) -> int:
        with file.open("rb") as opened:
            opened.seek(max(0, sizes[file] - END_BYTES))
            return hash((sizes[file], opened.read()))

    for look in (sizes.__getitem__, read_end, lambda file: hash(file.read_bytes())):
        ours, theirs = ({file: look(file) for file in part} for part in (train, test))
        both = {*ours.values()} & {*theirs.values()}
        train, test = (tuple(file for file, seen in part.items() if seen in both) for part in (ours, theirs))
    return len(test)


def _shape(files: list[Path], options: ImageOptions) -> tuple[tuple[int, int, int], int]:
    """(channels, height, width) of every image, from their headers, and how many say that they are to be turned."""
    first: dict[tuple[int, int, int], Path] = {}
    seen: Counter[tuple[int, int, int]] = Counter()
    turned = 0
    for file in files:
        mode, width, height, lies = _header(file)
        turned += lies
        if mode not in CHANNELS and not (options.channels and mode in TRANSPARENT):
            remedy = "transparency is lost" if mode in TRANSPARENT else "convert it first"
            if mode in TRANSPARENT:
                remedy += f": where it means nothing, write images(folder={str(options.folder)!r}, channels=3)"
            raise InvalidInput(f"{file} has mode {mode}; wanted 8 bits, grey or colour: {remedy}")
        side = (options.size, options.size) if options.size else (height, width)
        shape = (options.channels or CHANNELS[mode], *side)
        first.setdefault(shape, file)
        seen[shape] += 1
    if len(seen) > 1:
        (most, _), (odd, _) = seen.most_common(2)
        sizes = "" if len({shape[1:] for shape in seen}) == 1 else f"size={min(most[1:])}, "
        raise InvalidInput(
            f"{first[odd]} has (channels, height, width) {odd}, most images {most}: "
            f"write images(folder={str(options.folder)!r}, {sizes}channels={most[0]})"
        )
    return next(iter(seen)), turned


def _header(file: Path) -> tuple[str, int, int, bool]:
    """Mode, `A` at its end where a colour means transparency, width, height, and whether it is stored turned."""
    from PIL import ExifTags, Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            mode = _mode(image)  # before EXIF is asked for: that may load the image, and then this is not known
            clear = "A" if "transparency" in image.info and not image.mode.endswith("A") else ""
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
            return mode + clear, image.width, image.height, turned
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"{file} is not a readable image: {error}") from None


def _mode(image: ImageFile) -> str:
    """The mode, `;16` behind it where Pillow drops the lower 8 of 16 bits: it calls colours of 16 bits RGB too."""
    raw = str(image.tile[0].args) if image.tile else ""
    return f"{image.mode};16" if ";16" in raw and ";16" not in image.mode else image.mode


def _read(file: Path, shape: tuple[int, int, int], options: ImageOptions) -> Array:
    from PIL import Image

    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            loaded = image.convert("L" if shape[0] == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"{file} is damaged: {error}") from None
    if options.size:
        scale = options.size / min(loaded.size)
        width, height = (max(options.size, round(side * scale)) for side in loaded.size)
        left, top = (width - options.size) // 2, (height - options.size) // 2
        resized = loaded.resize((width, height), Image.Resampling.BILINEAR)
        loaded = resized.crop((left, top, left + options.size, top + options.size))
    values = np.asarray(loaded, np.float32) / np.float32(255)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
