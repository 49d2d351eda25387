"""The line that says what to ship follows from trusted figures only."""

from __future__ import annotations

import re

import numpy as np
from fake_records import cost, on, pairs
from markupsafe import escape

from bench.records import Quality
from bench.report.advice import advise, advise_cells
from bench.report.cells import make_cells
from bench.report.page.headlines import write_headlines
from bench.report.page.render import render_page
from bench.types import Clock, Status

BASE = {"cost": cost(10_000, 1_000_000)}


def variant(backend: str, recipe: str, milliseconds: float, speedup: float, **changes):
    compared = pairs(np.random.default_rng(1), milliseconds * speedup, speedup)
    return on(backend, milliseconds, **{"recipe": recipe, "pairs": compared, **BASE, **changes})


def quality(accuracy: float) -> Quality:
    return Quality(samples=450, accuracy=accuracy)


def test_the_fastest_variant_within_the_drop_is_shipped():
    lines = advise(
        [
            on("ort", 1.0, **BASE),
            variant("ort", "int8", 0.5, 2.0, quality=quality(0.895)),
            variant("ort", "half", 0.25, 4.0, quality=quality(0.70)),
        ]
    )
    assert len(lines) == 1
    assert "Ship: int8 on ort" in lines[0]
    assert "2.0" in lines[0]
    assert "accuracy \N{MINUS SIGN}0.50 pp" in lines[0]


def test_of_a_baseline_that_guesses_it_is_said_that_accuracies_say_nothing():
    guesses = on("ort", 1.0, **BASE, quality=quality(0.1), reasons=("answers at chance on my.npz: why",))
    (line,) = advise([guesses, variant("ort", "half", 0.25, 4.0, quality=quality(0.1))])
    assert "Ship: half on ort" in line
    assert "its accuracy says nothing: baseline on ort answers at chance" in line
    (kept,) = advise([guesses, variant("ort", "half", 2.0, 0.5, quality=quality(0.1))])
    assert "Keep the baseline on ort" in kept
    assert "answers at chance" in kept


def test_the_runner_up_and_the_interval_of_the_drop_stand_beside():
    judged = Quality(samples=450, labelled=450, lost=3, gained=1, accuracy=0.8955)
    (line,) = advise(
        [
            on("ort", 1.0, **BASE),
            variant("ort", "int8", 0.5, 2.0, quality=judged, cost=cost(10_000, 1_000_000, keep=(1, 1, 0.25))),
            variant("ort", "half", 0.7, 1.4, quality=quality(0.9)),
        ]
    )
    assert re.search(
        r"Ship: int8 on ort, 2\.0.× faster, 3\...× smaller, accuracy −0\.45 ± \d\.\d\d pp; runner-up: half", line
    )


def test_a_baseline_is_kept_for_the_reason_that_the_fastest_may_not_be_shipped():
    (line,) = advise([on("ort", 1.0, **BASE), variant("ort", "half", 0.25, 4.0, quality=quality(0.70))])
    assert "half on ort loses 20.0 pp of accuracy (at most 1 pp)" in line
    (line,) = advise([on("ort", 1.0, **BASE), variant("ort", "wild", 0.25, 4.0, status=Status.UNTRUSTED)])
    assert "wild on ort is untrusted" in line


def test_the_targets_own_budget_of_accuracy_is_the_limit():
    allowed = {"budget": {"accuracy_drop_pp": 25.0}}
    records = [on("ort", 1.0, **BASE, **allowed), variant("ort", "half", 0.25, 4.0, quality=quality(0.7), **allowed)]
    assert "Ship: half on ort" in advise(records)[0]


def test_a_looser_limit_ships_what_loses_more():
    records = [on("ort", 1.0, **BASE), variant("ort", "half", 0.25, 4.0, quality=quality(0.70))]
    assert "Keep the baseline on ort" in advise(records)[0]
    assert "Ship: half on ort" in advise(records, max_drop_pp=25)[0]


def test_what_is_not_trusted_or_over_a_budget_is_never_advised():
    fast = {"quality": quality(0.9)}
    records = [
        on("ort", 1.0, **BASE),
        variant("ort", "fallback", 0.2, 5.0, status=Status.UNTRUSTED, reasons=("asked for int8",), **fast),
        variant("ort", "big", 0.3, 3.3, reasons=("over the memory budget: 9 of 5 bytes",), **fast),
        variant("ort", "unsure", 0.4, 2.5, status=Status.INCONCLUSIVE, reasons=("a limit",), **fast),
    ]
    assert "Keep the baseline on ort" in advise(records)[0]


def test_a_variant_that_is_not_shown_to_be_faster_does_not_replace_its_baseline():
    records = [on("ort", 1.0, **BASE), variant("ort", "share", 0.999, 1.0, quality=quality(0.9))]
    (line,) = advise(records)
    assert "Keep the baseline on ort" in line
    assert "not told apart from share on ort" in line


def test_runtimes_compete_and_an_unlabelled_model_says_so():
    unlabelled = {"quality": Quality(samples=16)}
    (line,) = advise(
        [
            on("ort", 1.0, **BASE, **unlabelled),
            on("litert", 0.8, **BASE, **unlabelled),
            variant("litert", "int8", 0.3, 2.7, **unlabelled),
        ]
    )
    assert "Ship: int8 on litert" in line
    assert "its accuracy is not known" in line


def test_nothing_is_advised_without_a_trusted_cell_or_from_simulated_time():
    skipped = on("ort", 1.0, status=Status.UNTRUSTED, reasons=("throttled",), **BASE)
    assert "Nothing can be advised" in advise([skipped, variant("ort", "int8", 0.5, 2, status=Status.UNTRUSTED)])[0]
    assert (
        advise([on("vela", 1.0, clock=Clock.SIMULATED), variant("vela", "int8", 0.5, 2, clock=Clock.SIMULATED)]) == []
    )


def test_a_baseline_alone_needs_no_advice():
    assert advise([on("ort", 1.0, **BASE)]) == []


def test_the_pages_headline_is_the_terminals_line():
    records = [on("ort", 1.0, **BASE), variant("ort", "half", 0.25, 4.0, quality=quality(0.9))]
    (card,) = write_headlines(advise_cells(make_cells(records)))
    assert [f"{card.model} ({card.where}): {card.advice}"] == advise(records)
    assert escape(card.advice) in render_page(records, [])


def test_a_model_without_a_trusted_variant_has_its_advice_on_the_page_too():
    records = [on("ort", 1.0, status=Status.UNTRUSTED, **BASE), variant("ort", "x", 0.2, 5.0, status=Status.UNTRUSTED)]
    (card,) = write_headlines(advise_cells(make_cells(records)))
    assert card.advice.startswith("Nothing can be advised")
    assert card.verdict == "none"
