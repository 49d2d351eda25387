"""What every session says about precision in the same words.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.types import Precision

NAMES = 8
"""Names that a message lists before it only counts."""
BITS = {"int8": 8, "int16": 16, "float16": 16, "float32": 32}


def find_unpacked(precision: Precision, library: str) -> tuple[str, ...]:
    """The fallback of a file whose kernels multiply in a wider type than its recipe asks for; () of any other.

    `library`: whose kernels.
    """
    asked, delivered = precision.asked, precision.delivered
    if asked not in BITS or BITS.get(delivered, 0) <= BITS[asked]:
        return ()
    return (f"asked for {asked}, {library}'s kernels unpack the weights and multiply in {delivered}",)


def find_stayed_float(precision: Precision) -> tuple[str, ...]:
    """The fallback of a file with layers that stayed float although the recipe does not keep them; () without any."""
    if not precision.stayed_float:
        return ()
    share = f" ({precision.stayed_share:.0%} of the weights)" if precision.stayed_share else ""
    names = list_names(precision.stayed_float)
    return (f"stayed float32 although keep_float does not name them: {names}{share}",)


def judge_kernels(multiplying: Sequence[tuple[str, str]], precision: Precision) -> list[str]:
    """What multiplied in another type than the file asks for, beyond the layers it leaves float.

    `multiplying`: (node, type it multiplied in) of each node that multiplied. Optimizers rename nodes (`x` becomes
    `y_nchwc`), so the number of kernels decides and the names only help.
    """
    narrow = (precision.asked, "int8") if precision.asked in ("float16", "bfloat16") else ("int8",)
    wide = [name for name, kind in multiplying if kind not in narrow]
    left = {*precision.keep_float, *precision.stayed_float}
    if precision.keep_float and not precision.from_file and len(wide) < len(left):
        fewer = len(left) - len(wide)
        return [f"the file leaves {len(left)} layers float, {fewer} of them ran {precision.asked} kernels"]
    if precision.asked in {"float32", "weight_only"} or len(wide) <= len(left):
        return []
    names = [name.removeprefix("InsertedPrecisionFreeCast_") for name in wide]
    unexpected = [name for name in names if name not in left] or names
    kinds = " and ".join(sorted({kind for _, kind in multiplying if kind not in narrow}))
    excess = f"{len(wide) - len(left)} of {len(multiplying)} multiplying nodes ran {kinds} kernels"
    return [f"asked for {precision.asked}, {excess}: {list_names(unexpected)}"]


def list_names(names: Sequence[str], limit: int = NAMES) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
