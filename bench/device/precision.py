"""What every session says about precision in the same words.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.types import Precision

NAMES = 8
"""Names that a message lists before it only counts."""


def find_stayed_float(precision: Precision) -> tuple[str, ...]:
    """The fallback of a file with layers that stayed float although the recipe does not keep them; () without any."""
    if not precision.stayed_float:
        return ()
    share = f" ({precision.stayed_share:.0%} of the weights)" if precision.stayed_share else ""
    names = list_names(precision.stayed_float)
    return (f"stayed float32 although keep_float does not name them: {names}{share}",)


def list_names(names: Sequence[str], limit: int = NAMES) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
