"""The options of an FPGA target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from backends.hls.tool import Limits
from bench.errors import InvalidInput
from bench.types import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the target, checked; as `backends.hls.compile.HlsBackend` explains them."""

    clock_mhz: float = 200.0
    reuse_factor: int = 1
    adders_per_stage: int = 5
    rtl_limit: int = 40_000
    estimate_limit: int = 40_000
    tool_s: float = 300.0
    tool_gib: float = 6.0
    family: str = "xc7"
    strategy: str = "Latency"
    io_type: str = "io_parallel"
    keep: str = ""
    toggles: bool = False

    @property
    def limits(self) -> Limits:
        """What one tool may take."""
        return Limits(seconds=self.tool_s, memory_bytes=int(self.tool_gib * 2**30))


def read_options(options: Mapping[str, Scalar]) -> Options:
    """The options of the target, or their defaults. Raises `InvalidInput` naming the one that is not a number above 0.

    A limit may be 0: nothing is within it.
    """
    found: dict[str, Any] = {}
    for field in fields(Options):
        usual, value = field.default, options.get(field.name, field.default)
        if isinstance(usual, str):
            found[field.name] = str(value)
            continue
        if isinstance(usual, bool):
            if not isinstance(value, bool):
                raise InvalidInput(f"option {field.name}: true or false, found {value!r}")
            found[field.name] = value
            continue
        least = 0 if field.name.endswith("_limit") else 1e-9
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
            raise InvalidInput(f"option {field.name}: a number above 0, found {value!r}")
        found[field.name] = int(value) if isinstance(usual, int) else float(value)
    return Options(**found)
