"""Laws of the page's dumbbells, drawers and controls."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_records import cost, launches, on, pairs, roofline, run, suite
from numpy.random import default_rng

from bench.cost.roofline.bound import FACT, as_facts
from bench.records import LayerTime
from bench.report.advice import advise_cells
from bench.report.cells import make_cells
from bench.report.page.controls import collect_budgets, describe_cells, make_controls
from bench.report.page.drawers import kind_of, make_drawers, write_command
from bench.report.page.promises import Scale, chart_promises, find_baselines
from bench.report.page.render import render_page
from bench.report.page.samples import draw_samples
from bench.types import Clock, Conditions, LayerCost, Precision, Status

INT8 = Precision(asked="int8", delivered="int8")
RAN = {"stem": 12.0, "tail": 3.0}
"""Layer -> its profiled microseconds."""


def chart(*records):
    return chart_promises(make_cells(records), find_baselines(records))


def with_precision(model="resnet8"):
    found = [cell for cell in suite() if cell.model == model and cell.launches and cell.cost]
    return [replace(one, precision=INT8 if "int8" in one.recipe else Precision(delivered="float32")) for one in found]


def test_quantization_shows_its_own_promises_and_not_once_the_macs():
    rows = {row.cell.record.recipe: row for row in chart(*with_precision())[0].rows}
    assert rows["int8-static"].promised is None
    assert rows["int8-static"].bits_text == "16× fewer bit operations"
    assert rows["int8-static"].sizes == "size: promised 4.00×, delivered 3.39× smaller"
    assert rows["channels50-ft"].promised_text == "promised 3.85×"
    assert rows["channels50-ft"].bits is None


def test_a_cause_stands_beside_every_row_and_a_doubted_cell_says_its_reason():
    records = with_precision()
    rows = chart(*records, replace(records[1], recipe="odd", status=Status.UNTRUSTED, reasons=("throttled",)))[0].rows
    said = {row.cell.record.recipe: row.cause for row in rows}
    assert all(said.values())
    assert said["odd"] == "untrusted: throttled"
    assert said["magnitude50-ft"].startswith("no sparse kernel ran")
    assert said["channels30-ft"] == "no cause is recorded: it has no per-layer times"


def test_places_of_a_scale_are_per_cent_and_stay_on_it():
    scale = Scale(low=0.1, high=10.0)
    assert [scale.place(value) for value in (0.01, 0.1, 1.0, 10.0, 99.0)] == [0.0, 0.0, 50.0, 100.0, 100.0]


def bounded(**changes):
    """A baseline of 20 microseconds and a cell of fewer MACs, both with the roofline of their device."""
    layers = tuple(
        LayerCost(name=name, operator="Conv", macs=macs, output_shape=(1, 8, 2, 2), called=(f"node_{name}",))
        for name, macs in (("stem", 100_000), ("tail", 100))
    )
    profile = tuple(LayerTime(name=f"node_{name}", operator="Conv", mean_us=us, runs=9) for name, us in RAN.items())
    base = {
        "cost": replace(cost(1000, 100_100), layers=layers),
        "profile": profile,
        "facts": {FACT: as_facts(roofline())},
    }
    return on("ort", 0.02, **base, **changes)


def test_a_drawer_has_the_least_time_of_each_layer_beside_the_profiled_and_the_figures_it_rests_on():
    (drawer,) = make_drawers(make_cells([bounded()]), {}, [run()], {})
    part = drawer.parts[0]
    assert part.title == "Least time by layer"
    assert list(part.rows)[:3] == [
        ("stem", "10.0", "arithmetic", "12.0"),
        ("tail", "1.00", "starting it", "3.00"),
        ("the call", "5.00", "", "–"),
    ]
    name, least, _, took = part.rows[-1]
    assert (name, least) == ("the whole inference, p50", "16.0")
    assert float(took) == pytest.approx(20, rel=0.05)
    assert dict(drawer.sources)["roofline"].startswith(
        "float32 10.0 GMAC/s, int8 40.0 GMAC/s, weights of 1 KiB 10.0 GB/s"
    )
    assert "Least time by layer" in render_page([bounded()], [run()])


def test_without_a_roofline_a_drawer_says_nothing_of_one():
    (drawer,) = make_drawers(make_cells([replace(bounded(), facts={})]), {}, [run()], {})
    assert all(part.title != "Least time by layer" for part in drawer.parts)
    assert "roofline" not in dict(drawer.sources)


def test_the_roofline_of_the_record_is_the_cause_where_it_rules():
    tiny = tuple(replace(layer, macs=100) for layer in bounded().cost.layers)
    cell = bounded(recipe="half", pairs=pairs(default_rng(0), 0.02, 1.01))
    cell = replace(cell, cost=replace(cost(1000, 25_000), layers=tiny), launches=launches(default_rng(0), 0.01))
    for facts, said in ((cell.facts, "call overhead: 100 % of the least time"), ({}, "multiplying layers take")):
        (row,) = chart(bounded(), replace(cell, facts=facts))[0].rows
        assert row.cause.startswith(said)


def test_a_drawer_says_how_to_measure_its_cell_again():
    one = run(request={"target": "cpu", "suite": "smoke", "recipes": [], "launches": 3, "data": "it's.npz"})
    cell = on("ort", 1.0, recipe="half", recipe_text="channels(amount=0.5)", conditions=Conditions(batch=8))
    assert write_command(cell, one) == (
        "pressbench run --target cpu --suite smoke --dataset 'it'\"'\"'s.npz' --launches 3 "
        "--model lenet5 --recipe half --backend ort --batch 8 --threads 1"
    )
    assert "--recipe 'channels(amount=0.5)'" in write_command(cell, None)
    assert "--model my.onnx" in write_command(cell, run(request={"models": ["my.onnx"]}))
    asked = {
        "target": "cpu",
        "data": "",
        "models": ["nets/a.onnx", "nets/lenet5"],
        "input_shape": [3, 8, 8],
        "inputs": ["x=N,3", "y=N,4"],
        "time_s": 2.5,
        "tags": ["lab"],
        "fleet": "f.toml",
        "each": True,
        "train": False,
    }
    assert write_command(cell, run(request=asked)) == (
        "pressbench run --dataset '' --input-shape 3,8,8 --input x=N,3 --input y=N,4 --time 2.5 --fleet f.toml --tag lab --each "
        "--model nets/lenet5 --recipe half --backend ort --batch 8 --threads 1"
    )


def test_a_drawer_has_time_beside_cost_and_the_baseline():
    records = with_precision()
    found = make_drawers(make_cells(records), find_baselines(records), [run()], {1: "because"})
    static = next(one for one in found if one.cell.record.recipe == "int8-static")
    assert [(kind.name, kind.share) for kind in static.kinds] == [("convolution", 100.0)]
    assert static.kinds[0].before != "–"
    assert found[1].cause == "because"
    assert [part.title for part in static.parts] == ["Memory by phase"]
    assert dict(static.figures)["speed-up"].endswith("▲ faster")
    assert len(static.nodes) == 12


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("QLinearConv", "convolution"),
        ("Fully Connected (NC, F32) GEMM", "matrix product"),
        ("DynamicQuantizeLinear", "number types"),
        ("ReorderOutput", "layout"),
        ("QLinearAdd", "element by element"),
        ("TopK", "other"),
    ],
)
def test_operators_of_all_runtimes_have_a_kind(operator, kind):
    assert kind_of(operator) == kind


def test_a_histogram_says_what_lies_beyond_it_and_a_simulated_cell_has_none():
    found = draw_samples(on("ort", 1.0, launches=launches(default_rng(0), 1.0)))
    assert found is not None
    assert found.text.startswith("1200 samples of 3 launches; medians ")
    assert "12 lie beyond" in found.text
    assert all(x >= 0 and 0 <= y <= 70 and height <= 70 for x, y, _, height in found.bars)
    assert draw_samples(on("hls", 1.0, clock=Clock.SIMULATED)) is None


def test_controls_offer_what_can_change_something_and_budgets_fill_them():
    records = [
        on("ort", 1.0, budget={"latency_p50_ms": 2.0, "latency_p99_ms": 0.001}),
        on("litert", 0.5, recipe="x", pairs=pairs(default_rng(0), 1.0, 2.0), budget={"latency_p50_ms": 2.0}),
    ]
    cells = make_cells(records)
    controls = make_controls(cells)
    assert [choice.id for choice in controls.choices] == ["backend"]
    assert "energy" not in [limit.id for limit in controls.limits]
    assert collect_budgets(cells) == {"cpu": {"latency": 2.0}}
    first, second = describe_cells(cells, advise_cells(cells))
    assert (first["keeps"], second["keeps"]) == (False, True)  # no control limits the p99
