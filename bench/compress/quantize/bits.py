"""How many bits each layer gets: the fewest for its multiplications that hold the score.

An integer program chooses by the loss that each layer's bits cost by themselves, as Yao et al. 2021, HAWQ-V3, arXiv:2011.10680. What it
chooses is judged whole, and then loses what single bits it can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from bench.errors import CellFailed

Bits = Mapping[str, int]
"""Layer -> bits of it."""

Rises = Mapping[str, Mapping[int, float]]
"""Layer -> bits that it may have -> how much the loss rises where only this layer has them; 0 with the most bits."""

CLOSE = 0.004
"""Two allocations whose costs differ by less, of the dearest one, are not told apart."""
SOLVE_S = 60.0
TIE = 1e-6
"""Weight of the cost beside the loss: of allocations with one loss, the cheapest is taken."""


def fewest_bits(rises: Rises, macs: Mapping[str, int], fits: Callable[[Bits], bool]) -> dict[str, int]:
    """The bits of each layer, with few bits for each multiplication; none of them can go any more without the others.

    `fits`: whether the network does well enough with these bits. With the most bits of each layer it does. It is asked for about
    as many allocations as the range of costs has halves down to `CLOSE`, then once for each single bit that may go.

    Raises `CellFailed` where the solver finds nothing in time.
    """
    best = {name: max(row) for name, row in rises.items()}
    low, whole = _cost({name: min(row) for name, row in rises.items()}, macs), _cost(best, macs)
    high, failed = whole, list[Bits]()
    while high - low > CLOSE * whole:
        middle = (low + high) / 2
        asked = allocate(rises, macs, middle)
        if asked in failed or not fits(asked):
            failed.append(asked)
            low = middle
        else:
            best, high = asked, _cost(asked, macs)
    return take_off(best, rises, macs, fits)


def allocate(rises: Rises, macs: Mapping[str, int], most: float) -> dict[str, int]:
    """The bits of least total rise whose cost is at most `most`: the sum of multiplications times bits.

    Raises `CellFailed` where the solver finds nothing in time.
    """
    choices = [(name, bits) for name, row in rises.items() for bits in row]
    costs = np.array([_cost({name: bits}, macs) for name, bits in choices])
    losses = np.array([max(0.0, rises[name][bits]) for name, bits in choices])
    one_each = np.array([[float(name == layer) for name, _ in choices] for layer in rises])
    found = milp(
        losses / max(losses.max(), 1e-30) + TIE * costs / costs.max(),
        integrality=np.ones(len(choices)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(costs / most, -np.inf, 1)],
        options={"time_limit": SOLVE_S},
    )
    if found.x is None:
        raise CellFailed(f"the bits of the layers were not found in {SOLVE_S:g} s: {found.message}")
    return {choices[place][0]: choices[place][1] for place in np.flatnonzero(found.x > 0.5)}


def take_off(start: Bits, rises: Rises, macs: Mapping[str, int], fits: Callable[[Bits], bool]) -> dict[str, int]:
    """Fewer bits, a layer's next fewer at a time: first those by which the loss rises least for each multiplied bit.

    A layer whose next bits do not fit is left as it is.
    """
    bits = dict(start)
    fewer = {name: sorted((one for one in row if one < bits[name]), reverse=True) for name, row in rises.items()}

    def price(name: str) -> tuple[float, str]:
        """Names settle what is equal."""
        saved = max(macs[name], 1) * (bits[name] - fewer[name][0])
        return (rises[name][fewer[name][0]] - rises[name][bits[name]]) / saved, name

    while open_ := [name for name, rest in fewer.items() if rest]:
        name = min(open_, key=price)
        asked = {**bits, name: fewer[name][0]}
        if fits(asked):
            bits = asked
            fewer[name].pop(0)
        else:
            fewer[name].clear()
    return bits


def _cost(bits: Bits, macs: Mapping[str, int]) -> float:
    return float(sum(max(macs[name], 1) * count for name, count in bits.items()))
