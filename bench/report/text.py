"""Numbers as text: three digits, a unit, and a dash for a missing one."""

from __future__ import annotations

from html import escape
from math import floor, log10

NONE = "–"
BYTE_UNITS = ("B", "KiB", "MiB", "GiB")


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits with thousands separated; powers of ten below 0.0001 and from a million on."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:,.{decimals}f}"


def count(value: float | None) -> str:
    """Parameters or MACs: 12.5 M."""
    if value is None:
        return NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def size(value: float | None) -> str:
    """Bytes in binary units: 1.50 MiB."""
    if value is None:
        return NONE
    amount, unit = float(value), 0
    while abs(amount) >= 1024 and unit < len(BYTE_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{number(amount) if unit else f'{amount:.0f}'} {BYTE_UNITS[unit]}"


def with_unit(value: float, unit: str) -> str:
    """A figure of a history. `unit`: what is after a comma (a clock, a meter) is left out."""
    return size(value) if unit == "bytes" else f"{number(value)} {unit.partition(',')[0]}"


def percent(value: float | None) -> str:
    """A fraction as a percentage with two decimals."""
    return NONE if value is None else f"{100 * value:z.2f} %"


def short_percent(value: float) -> str:
    """A fraction as a percentage with the decimals it needs: 1 %, 2.5 %."""
    return f"{100 * value:g} %"


def percent_of(part: float, whole: float) -> str:
    """A share to the whole percent; "under 1 %" for a share that would round to 0."""
    share = 100 * part / whole
    return "under 1 %" if 0 < share < 1 else f"{share:.0f} %"


def signed(value: float | None, unit: str = "") -> str:
    """A change, with its sign."""
    return NONE if value is None else f"{value:+z.2f}{unit}".replace("-", "−")


def times(value: float | None) -> str:
    """A factor: 1.72×."""
    return NONE if value is None else f"{number(value)}×"


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval, or "" where there is none. Both ends have the same decimals; a narrow interval has one more."""
    if low is None or high is None:
        return ""
    digits = 4 if high - low < 0.02 * abs(high) else 3
    if not 1e-4 <= abs(high) < 1e6:
        return f"{number(low)}–{number(high)}"
    decimals = max(0, digits - 1 - floor(log10(abs(high))))
    return f"{low:z,.{decimals}f}–{high:z,.{decimals}f}"


def escape_name(name: str) -> str:
    """A name for a plot, escaped: Plotly reads some HTML tags in text. It decodes no quotes, so they stay."""
    return escape(name, quote=False)
