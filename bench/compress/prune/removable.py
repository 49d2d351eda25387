"""Which layers can lose channels, found by trying: what a refusal offers instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.compress.prune.channel_groups import MisfitError
from bench.errors import Unsupported

TRIES = 60
"""How many cuts are tried at most to find the layers at fault. Those not tried by then count as at fault."""

Attempt = Callable[[Mapping[str, float], bool], MisfitError | None]
"""(layer -> share that goes, whether this is the cut to offer) -> what is wrong with that cut; None if nothing is."""
Units = list[tuple[str, ...]]
"""Layers tied together, which lose the same channels."""


def refusal(
    error: MisfitError, amounts: Mapping[str, float], others: Mapping[str, float], attempt: Attempt
) -> Unsupported:
    """Says why the cut failed, which layers to leave, and an argument that was tried and works, if one does.

    `others`: further layers of the network, which are tried where none of `amounts` can lose channels.
    """
    bad, part = _find(error, amounts, attempt)
    few = part is not None and len(part) < len(bad)
    if part is None and others:
        fault, few = attempt(others, True), True
        part = others if fault is None else _find(fault, others, attempt)[1]
    some = ", ".join(map(repr, bad[:3])) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    if part is None:
        return Unsupported(f"{error}; at fault: {some}; no layer was found that can lose channels")
    argument = f"only={(*part,)}" if few else f"skip={(*bad,)}"
    return Unsupported(f"{error}; at fault: {some}; tried, and works: {argument}")


def _find(
    fault: MisfitError, amounts: Mapping[str, float], attempt: Attempt
) -> tuple[list[str], Mapping[str, float] | None]:
    """The layers at fault, and the shares of all the others, tried; None if they do not work either."""
    bad = dict.fromkeys(fault.layers)
    while fault.layers:
        part = _without(amounts, bad)
        found = attempt(part, True) if part else MisfitError("nothing is left")
        if found is None:
            return [*bad], part
        fault, bad = found, bad | dict.fromkeys(found.layers)
    units = [unit for unit in fault.units or [(name,) for name in _without(amounts, bad)] if not bad.keys() & {*unit}]
    good = _working(units, amounts, attempt)
    bad |= dict.fromkeys(unit[0] for unit in units if unit not in good)
    part = _without(amounts, bad)
    return [*bad], part if good and attempt(part, True) is None else None


def _without(amounts: Mapping[str, float], bad: Mapping[str, None]) -> Mapping[str, float]:
    return {name: share for name, share in amounts.items() if name not in bad}


def _working(units: Units, amounts: Mapping[str, float], attempt: Attempt) -> Units:
    """The units that can lose channels, all at once. Halves what fails until single units are left."""
    tries = iter(range(TRIES))

    def works(part: Units) -> bool:
        return (
            next(tries, None) is not None
            and attempt({name: amounts[name] for unit in part for name in unit}, False) is None
        )

    def search(part: Units) -> list[Units]:
        if works(part):
            return [part]
        half = len(part) // 2
        return search(part[:half]) + search(part[half:]) if half else []

    half = len(units) // 2
    parts = search(units[:half]) + search(units[half:]) if half else []
    together: Units = []
    for part in parts:
        if not together or works(together + part):
            together = together + part
    return together
