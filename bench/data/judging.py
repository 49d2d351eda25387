"""The inputs that judge a network, in one file: test samples, their corruptions, and those of another data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench.data.parts import Array, Part
from bench.data.shift import SHIFTS, Corrupt, survey
from bench.device.stored import Spool, Stored, new_npz, open_stored, rows_at_once
from bench.inputs.layout import FIRST, LAST, turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """Which samples judge: those of `test`, their corruptions with this `seed` if `shifts`, and those of `other`.

    `channels_last`: images are (N, H, W, C), and get the corruptions that they would get as (N, C, H, W).
    """

    test: Part
    shifts: bool = False
    channels_last: bool = False
    seed: int = 0
    other: Part | None = None


def store_judges(judges: Judges, file: Path) -> tuple[Stored, ...]:
    """An array for each input, in an .npz that is written if it is not there. Reads every sample once, piece by piece.

    Corruptions are made of one input of images. The file appears whole or not at all.
    """
    if not file.exists():
        begun = file.with_name(f"{file.stem}.part")
        _write(judges, begun)
        begun.rename(file)
    stored = open_stored(file)
    return tuple(stored[str(place)] for place in range(len(stored)))


def _write(judges: Judges, file: Path) -> None:
    clean = _read(judges.test)
    further = _read(judges.other) if judges.other else []
    starts = SHIFTS.values() if judges.shifts else ()
    to, back = (FIRST, LAST) if judges.channels_last else ("", "")
    whole = survey(turn(piece, to) for piece in clean[0]) if judges.shifts else None
    with new_npz(file) as writer:
        for place, spool in enumerate(clean):
            corrupted = [_corrupt(start(whole, judges.seed), spool, to, back) for start in starts if whole]
            pieces: Iterable[Array] = chain(spool, *corrupted, *further[place : place + 1])
            count = len(judges.test) * (1 + len(corrupted)) + (len(judges.other) if judges.other else 0)
            assert spool.dtype is not None
            writer.add(str(place), (count, *spool.shapes[0][1:]), spool.dtype, pieces)


def _corrupt(corrupt: Corrupt, pieces: Iterable[Array], to: str, back: str) -> Iterator[Array]:
    """The corrupted pieces: turned to a layout for it, and back."""
    return (turn(corrupt(turn(piece, to)), back) for piece in pieces)


def _read(part: Part) -> list[Spool]:
    """A spool for each input, in pieces."""
    sample = part.inputs(slice(0, 1))
    spools = [Spool() for _ in sample]
    step = rows_at_once(sum(one.nbytes for one in sample))
    for chunk in part.chunks(step):
        for spool, array in zip(spools, part.inputs(chunk), strict=True):
            spool.add(array)
    return spools
