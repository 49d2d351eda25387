"""A speed-up is called faster nowhere unless its interval lies beyond the smallest effect."""

from __future__ import annotations

import numpy as np
from fake_records import cost, on, run
from rich.console import Console

from bench.records import PairLaunch
from bench.report.advice import advise
from bench.report.cells import is_faster, make_cells
from bench.report.page.render import render_page
from bench.report.summary import show_figures, summary
from bench.report.table import compute_rows

BASE = on("ort", 1.0, cost=cost(10, 10))


def variant(*speedups: float, **changes):
    """A cell whose launches show these speed-ups, so its interval is around them."""
    rows = [((1000.0, 1000.0 / one, 1000.0 / one, 1000.0),) * 6 for one in speedups]
    compared = tuple(PairLaunch(blocks_ns=blocks) for blocks in rows)
    return on("ort", 0.9, recipe="pruned", pairs=compared, cost=cost(10, 10), **changes)


SLIGHT = (1.005, 1.010, 1.015, 1.008, 1.012)
"""The interval of these is about 1.005 to 1.015: it leaves 1 out and crosses 1.01."""


def test_a_slight_effect_has_an_interval_above_1_and_an_inconclusive_verdict():
    row = compute_rows([BASE, variant(*SLIGHT)])[1]
    assert 1 < row["speedup_low"] < 1.01 < row["speedup_high"]
    assert (row["speedup_verdict"], row["smallest_effect"]) == ("inconclusive", 0.01)


def test_a_slight_effect_is_green_nowhere():
    records = [BASE, variant(*SLIGHT)]
    page = render_page(records, [run()])
    assert "▲ 1.01×" not in page
    assert "? 1.01×" in page
    assert "Keep the baseline on ort" in advise(records)[0]
    delivered = show_figures(compute_rows(records)[1])[1]
    assert (delivered.style, delivered.plain.splitlines()[-1]) == (
        "yellow",
        "inconclusive",
    )  # in words, not only a colour


def test_the_smallest_effect_of_the_record_decides():
    looser, stricter = variant(*SLIGHT, smallest_effect=0.05), variant(*SLIGHT, smallest_effect=0.001)
    assert [cell.verdict for cell in make_cells([looser, stricter])] == ["same", "faster"]
    page = render_page([BASE, looser], [run()])
    assert "the same within 1 % or 5 %, as its run says" in page


def test_a_baseline_has_no_verdict():
    row = compute_rows([BASE])[0]
    assert (row["speedup"], row["speedup_verdict"], row["smallest_effect"]) == (1.0, None, None)


def test_latencies_apart_by_less_than_the_smallest_effect_are_not_faster():
    one, other = make_cells([exact(1.0), exact(1.015)])
    assert is_faster(one, other)
    assert not is_faster(other, one)
    near, far = make_cells([exact(1.0), exact(1.005)])
    assert not is_faster(near, far)
    wide, looser = make_cells([exact(1.0), exact(1.015, smallest_effect=0.02)])
    assert not is_faster(wide, looser)


def exact(milliseconds: float, **changes):
    base = on("ort", milliseconds, **changes)
    same = tuple(int(1e6 * milliseconds) for _ in range(20))
    steady = tuple(type(launch)(samples_ns=same) for launch in base.launches)
    return type(base)(**{name: getattr(base, name) for name in base.__slots__} | {"launches": steady})


def test_the_terminal_shows_the_interval_beside_the_figure():
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(summary([BASE, variant(*SLIGHT)]))
    assert "1.01× (" in console.export_text()


def test_simulated_pairs_never_decide_by_chance():
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(300):
        noise = np.exp(random.normal(0, 0.004, 8))
        (cell,) = make_cells([variant(*noise)])
        wrong += cell.verdict in {"faster", "slower"}
    assert wrong == 0
