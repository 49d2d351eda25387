"""A part whose images are turned to the layout that a network takes, as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from bench.data.parts import Array, Choice, Hash, Part
from bench.inputs.layout import turn


@final
@dataclass(frozen=True, slots=True, eq=False)
class Turned(Part):
    """The samples of a part; `layouts`: of each input, "" as it is."""

    part: Part
    layouts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.part)

    def inputs(self, chosen: Choice) -> tuple[Array, ...]:
        """Those of the part, turned."""
        given = self.part.inputs(chosen)
        return tuple(turn(array, layout) for array, layout in zip(given, self.layouts, strict=True))

    def targets(self, chosen: Choice) -> Array:
        """Those of the part."""
        return self.part.targets(chosen)

    def chunks(self, rows: int = 0) -> Iterator[slice]:
        """Those of the part."""
        return self.part.chunks(rows) if rows else self.part.chunks()

    def digest_into(self, digest: Hash) -> None:
        """That of the part, and the layouts."""
        self.part.digest_into(digest)
        digest.update(repr(self.layouts).encode())
