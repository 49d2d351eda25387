"""Laws of the table, the summary and the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from fake_records import MIB, NO_METER, energy, launches, measured, on, pairs, record, run, suite
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from numpy.random import default_rng
from rich.console import Console

from bench.records import Launch, OutputQuality, PairLaunch, Quality
from bench.report.cells import find_front, keep_latest, make_cells
from bench.report.charts.axes import log_axis
from bench.report.charts.label_places import HEIGHT, SIDES, WIDTH, overlaps, place_labels, text_box
from bench.report.charts.legend import make_legend
from bench.report.charts.scatter import draw_accuracy, draw_errors
from bench.report.columns import CSV_COLUMNS
from bench.report.names import label_cells
from bench.report.page import render_page, write_dashboard
from bench.report.summary import summary
from bench.report.table import compute_rows, write_csv
from bench.report.text import count, interval, number, percent, signed, size, times
from bench.stats import latency, ratio
from bench.types import Clock, Conditions, Simulation, Status

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = [column.name for column in CSV_COLUMNS]
HOSTILE = "<script>alert(1)</script>"


def row(**changes):
    return compute_rows([record(**changes)])[0]


def against(base, **changes):
    """The row of a record beside a baseline."""
    first = record(key="base", baseline_key="base", **base)
    return compute_rows([first, record(key="other", baseline_key="base", recipe="other", **changes)])[1]


@pytest.fixture(scope="module")
def page():
    return render_page(suite(), [run()])


def test_a_row_has_exactly_the_columns_in_order():
    assert list(row()) == NAMES


def test_a_cell_that_was_not_measured_has_no_figure_at_all():
    empty = row(status=Status.FAILED, reasons=("killed", "twice"))
    filled = {name for name, value in empty.items() if value is not None}
    assert filled == {
        *("run_id", "started_at", "target", "device", "backend", "backend_version", "model", "weights_from", "data"),
        *("recipe", "batch", "threads", "status", "reason", "clock", "energy_source"),
    }
    assert empty["reason"] == "killed; twice"


def test_the_table_agrees_with_the_statistics_of_the_raw_samples():
    cells = list(measured(default_rng(3), "r"))
    assert len([cell for cell in cells if cell.pairs]) > 3
    for cell, found in zip(cells, compute_rows(cells), strict=True):
        timed = latency(cell.launches, cell.clock)
        assert (found["latency_p50_ms"], found["latency_p99_ms"], found["samples"]) == (
            timed.p50.value,
            timed.p99,
            timed.samples,
        )
        assert found["throughput_per_s"] == pytest.approx(1e3 / timed.p50.value)
    compared = [(cell, found) for cell, found in zip(cells, compute_rows(cells), strict=True) if cell.pairs]
    for cell, found in compared:
        speedup = ratio(cell.pairs).speedup
        assert [found[name] for name in ("speedup", "speedup_low", "speedup_high")] == [
            speedup.value,
            speedup.low,
            speedup.high,
        ]


def test_a_baselines_speedup_is_one_and_so_are_its_bounds_and_its_promise():
    cells = list(measured(default_rng(3), "r"))
    found = [each for each, cell in zip(compute_rows(cells), cells, strict=True) if cell.recipe == "baseline"]
    assert len(found) == 3
    for each in found:
        assert [each[name] for name in ("speedup", "speedup_low", "speedup_high", "promised_speedup")] == [1.0] * 4
        assert (each["compression_ratio"], each["accuracy_drop_pp"]) == (1.0, 0.0)


def test_a_baseline_that_was_not_measured_has_no_speedup():
    assert row(key="base", baseline_key="base", status=Status.FAILED)["speedup"] is None


def test_what_is_relative_is_against_the_own_baseline_of_the_same_run():
    cells = list(measured(default_rng(3), "one"))
    other = [replace(cell, run_id="two", cost=replace(cell.cost, file_bytes=1)) for cell in cells if cell.cost]
    assert compute_rows([*cells, *other])[: len(cells)] == compute_rows(cells)


def test_what_is_relative_is_missing_where_the_baseline_is():
    cells = [cell for cell in measured(default_rng(3), "r") if cell.recipe != "baseline"]
    for found in compute_rows(cells):
        assert (found["compression_ratio"], found["accuracy_drop_pp"], found["promised_speedup"]) == (None, None, None)


def test_the_accuracy_drop_is_in_percentage_points_and_positive_when_worse():
    found = against(
        {"quality": Quality(samples=9, accuracy=0.98)},
        quality=Quality(samples=9, accuracy=0.95, shifted={"blur": 0.5, "contrast": 0.7}),
    )
    assert found["accuracy_drop_pp"] == pytest.approx(3.0)
    assert found["shifted_accuracy"] == pytest.approx(0.6)


def test_throughput_counts_every_sample_of_a_batch():
    found = row(conditions=Conditions(batch=8), launches=launches(default_rng(0), 2.0))
    assert found["throughput_per_s"] == pytest.approx(8e3 / float(found["latency_p50_ms"] or 0))


def test_memory_is_the_median_over_launches_of_growth_not_of_levels():
    found = row(launches=launches(default_rng(0), 1.0, bytes_loaded=3 * MIB))
    assert (found["memory_model_bytes"], found["memory_peak_bytes"]) == (3 * MIB, 7 * MIB)


def test_a_simulated_cell_has_no_latency_unless_the_simulator_models_time():
    emulated = row(clock=Clock.SIMULATED, simulation=Simulation(source="qemu", instructions=7), launches=())
    assert (emulated["latency_p50_ms"], emulated["throughput_per_s"], emulated["instructions"]) == (None, None, 7)
    modelled = row(clock=Clock.SIMULATED, simulation=Simulation(source="vela", latency_ms=15.6, cycles=9))
    assert (modelled["latency_p50_ms"], modelled["latency_mean_ms"], modelled["samples"]) == (15.6, None, None)


def test_samples_of_an_emulated_launch_are_no_latency():
    assert row(clock=Clock.SIMULATED, launches=launches(default_rng(0), 900.0))["latency_p50_ms"] is None


def test_a_device_clock_without_device_samples_gives_no_latency():
    assert row(clock=Clock.DEVICE, launches=(Launch(samples_ns=(5,)),))["latency_p50_ms"] is None


def test_energy_names_its_meter_or_the_reason_there_is_none():
    measuring = row(launches=(Launch(samples_ns=(10**6,), energy=energy(2.0)),))
    assert measuring["energy_per_inference_mj"] == pytest.approx(2.02)
    assert measuring["energy_source"] == "measured:rapl"
    idle = row(launches=(Launch(samples_ns=(10**6,), energy=energy(0.0)),))
    assert idle["energy_per_inference_mj"] is None
    assert str(idle["energy_source"]).startswith("none: below the meter's resolution")
    assert row()["energy_source"] == NO_METER
    assert row(missing={"energy_per_inference_mj": "no RAPL"})["energy_source"] == "none: no RAPL"


def test_meters_are_never_summed_and_the_first_that_gives_a_figure_counts():
    windows = (*energy(0.0, source="measured:board"), *energy(3.0, source="measured:nvml"))
    found = row(launches=(Launch(samples_ns=(10**6,), energy=windows),))
    assert found["energy_source"] == "measured:nvml"
    assert found["energy_per_inference_mj"] == pytest.approx(3.03)


def test_the_csv_reads_back_with_whole_numbers_whole_and_the_missing_empty(tmp_path):
    write_csv(suite(), tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == NAMES
    assert len(found) == len(suite())
    for text, numbers in zip(found, compute_rows(suite()), strict=True):
        for name, value in numbers.items():
            assert text[name] == ("" if value is None else str(value))


def test_a_name_in_the_csv_is_no_formula_of_a_spreadsheet(tmp_path):
    names = ['=HYPERLINK("http://x","y")', "+1", "-1", "@sum", "int8()"]
    write_csv([record(key=name, recipe=name) for name in names], tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as file:
        assert [row["recipe"] for row in csv.DictReader(file)] == [*(f"'{name}" for name in names[:-1]), "int8()"]


def test_no_records_give_a_csv_with_a_header_alone(tmp_path):
    write_csv([], tmp_path / "cells.csv")
    assert (tmp_path / "cells.csv").read_text() == ",".join(NAMES) + "\n"


def test_the_csv_of_a_fixed_run_is_what_it_was(tmp_path):
    """Golden: figures rounded to six digits, for libraries may differ in the last one."""
    cells = [cell for cell in suite() if cell.model != "mobilenetv2(width=0.35)"]
    shortened = [
        {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in each.items()}
        for each in compute_rows(cells)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, NAMES, lineterminator="\n")
    writer.writeheader()
    writer.writerows(shortened)
    assert text.getvalue() == (GOLDEN / "cells.csv").read_text()


def terminal(records, width=100):
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=False)
    console.print(summary(records))
    return console.export_text()


def test_the_summary_says_what_was_promised_and_what_was_delivered():
    text = terminal(suite())
    assert re.search(r"magnitude50-ft.*2\.00×.*\(.*–.*\)", text)
    assert "worker killed by signal 9" in text
    assert "ok, simulated" in text
    assert "the machine changed" not in text


def test_the_summary_warns_of_p50s_that_contradict_what_was_measured_in_turns():
    fast = pairs(np.random.default_rng(0), 1.0, 1.25)
    cells = [on("ort", 1.0), on("ort", 1.1, recipe="int8", pairs=fast), on("ort", 0.8, recipe="float16", pairs=fast)]
    text = " ".join(terminal(cells, 300).split())
    assert "int8: the machine changed since the baseline, so their p50s do not compare" in text
    assert "float16: the machine changed" not in text


def test_the_summary_shows_the_energy_of_an_input_and_where_it_comes_from():
    def with_energy(recipe, found):
        return on("ort", 1.0, recipe=recipe, launches=(Launch(samples_ns=(10**6,) * 9, energy=found),))

    metered = with_energy("baseline", energy(2.0, source="measured:ina3221"))
    guessed, bare = with_energy("int8", energy(1.0, source="modelled:watts")), with_energy("float16", ())
    text = terminal([metered, guessed, bare], 300)
    assert re.search(r"accuracy +mJ +status", text)
    assert re.search(r"baseline .* 2\.02 +\w+", text)
    assert re.search(r"int8 .* 1\.01 ", text)
    assert re.search(r"^ +modelled *$", text, re.MULTILINE)
    assert "mJ: of one input, above idle, measured:ina3221, modelled:watts" in text
    assert "mJ" not in terminal([bare])


def test_the_summary_shows_what_an_emulator_counted_and_on_which_cpu():
    counts = {"cortex-a53": 12_345_678, "cortex-a72": 11_000_000}
    text = terminal(
        [
            record(
                key=name,
                device=f"{name} (QEMU)",
                clock=Clock.SIMULATED,
                conditions=Conditions(device=name),
                simulation=Simulation(source=name, instructions=instructions),
            )
            for name, instructions in counts.items()
        ],
        width=140,
    )
    assert re.search(r"cortex-a53 \(QEMU\).*12\.3 M instructions", text)
    assert re.search(r"cortex-a72 \(QEMU\).*11 M instructions", text)
    assert re.search(r"xcu250.*42 cycles", terminal(suite(), width=140))
    assert "Imagined CPU" not in terminal([record(key="a"), record(key="b", recipe="int8")])


def test_the_summary_says_a_reason_that_cells_of_a_model_share_once_with_their_number():
    broken = [
        record(key=name, recipe=name, status=Status.FAILED, reasons=("its graph has a circle",)) for name in "abc"
    ]
    other = record(key="d", model="other", recipe="a", status=Status.FAILED, reasons=("its graph has a circle",))
    busy = [record(key=name, recipe=name, status=Status.UNTRUSTED, reasons=("too busy",)) for name in "ef"]
    text = terminal([*broken, other, *busy], width=140)
    assert text.count("its graph has a circle") == 2
    assert "lenet5 (3 cells): failed, its graph has a circle" in text
    assert "other / a on ort: failed, its graph has a circle" in text
    assert text.count("too busy") == 2


def test_the_summary_reads_no_markup_in_names():
    assert "[red]evil[/red]" in terminal([record(model="[red]evil[/red]", recipe="[/]")])


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_keeps_every_figure_whole_from_80_columns(width):
    text = terminal(suite()[:9], width)
    assert "…" not in text


def test_the_summary_in_a_narrow_terminal_still_has_its_latencies():
    text = terminal(suite()[:9], 40)
    assert "p50 ms" in text
    assert "0.611" in text


def test_the_summary_of_nothing_says_so():
    assert "no cells" in terminal([])


def test_the_page_lists_every_cell_and_every_reason(page):
    text = unescape(page)
    assert len(re.findall(r'<tr data-cell="\d+" class="', page)) == len(suite())
    assert len(re.findall(r'<details class="drawer"', page)) == len(suite())
    for cell in suite():
        assert cell.recipe in text
        assert all(reason in text for reason in cell.reasons)
    assert NO_METER in text


def test_the_page_loads_nothing_and_its_policy_forbids_everything_but_its_own_scripts(page):
    outside = page.replace(page[page.index('<script type="text/plain"') : page.rindex("<script>")], "")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", outside)
    assert "@import" not in outside
    assert "default-src 'none'; script-src &#39;sha256-" in page.replace(
        "default-src &#39;none&#39;", "default-src 'none'"
    )
    assert "unsafe-eval" not in page
    assert (
        page.count("<script") - page[page.index('<script type="text/plain"') : page.rindex("<script>")].count("<script")
        >= 1
    )


@pytest.mark.parametrize(
    "name", [HOSTILE, "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}"]
)
def test_a_hostile_name_is_text_wherever_it_appears(name):
    cells = [
        replace(
            cell, model=name, recipe=f"{name}{cell.recipe}", backend=name, target=name, device=name, reasons=(name,)
        )
        for cell in suite()
    ]
    hostile = render_page([*cells, *suite()], [run(target=name, suite=name, machine={name: name})])
    body = hostile[: hostile.index('<script type="text/plain"')]
    assert str(escape(name)) in body
    assert (name in body) == ("<" not in name)
    assert "<img" not in body
    assert body.count("<script") == 2
    assert body.count("</script") == 2


def test_plots_hold_exactly_the_figures_of_the_table():
    cells = make_cells([cell for cell in suite() if cell.model == "resnet8"])
    legend = make_legend(cells)
    (figure,) = draw_accuracy(cells, legend)
    shown = [c for c in cells if c.row["latency_p50_ms"] and c.row["accuracy"]]
    assert figure.data[1]["x"] == [c.row["latency_p50_ms"] for c in shown]
    assert figure.data[1]["y"] == [100 * float(c.row["accuracy"] or 0) for c in shown]
    lows = [100 * float(c.row["accuracy"] or 0) - 100 * float(c.row["accuracy_low"] or 0) for c in shown]
    assert figure.data[1]["error_y"]["arrayminus"] == pytest.approx(lows)
    assert figure.data[1]["customdata"] == [cells.index(c) for c in shown]


def test_outputs_without_labels_are_drawn_by_their_error():
    outputs = (OutputQuality(name="y", rows=9, compared=9, relative_rms=0.05),)
    quiet = {"model": "own", "quality": Quality(samples=9, outputs=outputs)}
    cells = make_cells([on("ort", 1.0, **quiet), on("ort", 0.5, recipe="int8", **quiet)])
    assert draw_accuracy(cells, make_legend(cells)) == []
    (figure,) = draw_errors(cells, make_legend(cells))
    assert figure.data[1]["y"] == [0.05, 0.05]
    assert figure.layout["yaxis"]["title"]["text"] == "relative output error (lower is better)"
    labelled = make_cells(suite())
    assert draw_errors(labelled, make_legend(labelled)) == []


def test_an_output_that_is_zero_throughout_leaves_the_page_whole():
    """Its relative error is infinite, which JSON does not hold."""

    def quality(relative):
        return Quality(samples=9, outputs=(OutputQuality(name="y", rows=9, compared=9, relative_rms=relative),))

    records = [
        on("ort", 1.0, model="own", quality=quality(0.0)),
        on("ort", 0.5, recipe="int8", model="own", quality=quality(math.inf)),
        on("ort", 0.6, recipe="float16", model="own", quality=quality(0.1)),
    ]
    cells = make_cells(records)
    (figure,) = draw_errors(cells, make_legend(cells))
    assert figure.data[1]["y"] == [0.0, 0.1]
    assert "inf" in render_page(records, [run()])


def test_every_figure_is_one_plotly_accepts(page):
    plots = json.loads(re.search(r'id="plots">(.*?)</script>', page, re.DOTALL).group(1))
    assert len(plots) == 10
    for plot in plots:
        data = [json.loads(json.dumps(trace).replace('"ink"', '"black"')) for trace in plot["data"]]
        go.Figure(data=data, layout=plot["layout"])


def test_durations_of_different_clocks_never_share_a_plot():
    cells = suite()[:4]
    mixed = [
        *cells,
        *(
            replace(c, clock=Clock.DEVICE, launches=tuple(replace(x, device_ns=x.samples_ns) for x in c.launches))
            for c in cells
        ),
        *(replace(c, clock=Clock.SIMULATED, simulation=Simulation(source="s", latency_ms=9.0)) for c in cells),
    ]
    found = make_cells([replace(c, key=f"{c.key}{i}") for i, c in enumerate(mixed)])
    notes = [figure.note for figure in draw_accuracy(found, make_legend(found))]
    assert len(notes) == len(set(notes)) == 3


def test_untrusted_cells_are_hollow_and_never_on_the_front():
    good = record(
        key="a", recipe="slow", launches=launches(default_rng(0), 2.0), quality=Quality(samples=1, accuracy=0.9)
    )
    bad = record(
        key="b",
        recipe="wrong",
        status=Status.UNTRUSTED,
        launches=launches(default_rng(0), 1.0),
        quality=Quality(samples=1, accuracy=0.99),
    )
    cells = make_cells([good, bad])
    (figure,) = draw_accuracy(cells, make_legend(cells))
    assert figure.data[0]["x"] == [cells[0].row["latency_p50_ms"]]
    assert figure.data[1]["marker"]["symbol"] == ["circle", "circle-open"]


def test_a_page_of_nothing_is_a_page():
    empty = render_page([], [])
    assert "no cells are stored yet" in empty
    assert 'id="plots">[]<' in empty


def test_the_title_names_targets_by_name_and_not_by_the_path_that_was_typed():
    page = render_page([record(target="board")], [run(target="/home/me/board.toml")])
    assert "delivered on <em>board</em>" in page
    assert "<title>pressbench: board</title>" in page


def test_a_page_of_failures_alone_is_a_page():
    failed = render_page([record(status=Status.FAILED, reasons=("killed",))], [run(status="interrupted")])
    assert "killed" in failed
    assert "interrupted" in failed


def test_plots_show_the_latest_measurement_of_a_cell_and_the_table_all(tmp_path):
    old = [replace(cell, run_id="old") for cell in suite()]
    write_dashboard([*old, *suite()], [run("old"), run()], tmp_path / "d.html")
    text = (tmp_path / "d.html").read_text()
    rows = text[text.index('<table id="cells">') :]
    assert rows.count('<th class="name" scope="row"') == 2 * len(suite())
    assert rows.count("<tr data-cell=") == len(suite())
    assert {cell.record.run_id for cell in keep_latest(make_cells([*old, *suite()]))} == {run().run_id}


def test_the_latest_of_one_data_set_does_not_replace_anothers():
    cells = make_cells([record(data=data, run_id=run_id) for run_id in ("one", "two") for data in ("mnist", "digits")])
    found = [(cell.record.data, cell.record.run_id) for cell in keep_latest(cells)]
    assert found == [("mnist", "two"), ("digits", "two")]


POINTS = st.lists(st.tuples(st.integers(0, 20).map(float), st.integers(0, 20).map(float)), max_size=12)


@given(POINTS)
@settings(deadline=None)
def test_the_front_is_what_nobody_beats(points):
    front = {points[i] for i in find_front(points)}
    for point in points:
        beaten = any(a <= point[0] and b >= point[1] and (a, b) != point for a, b in points)
        assert (point in front) == (not beaten)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=14), st.data())
@settings(deadline=None)
def test_names_in_a_plot_never_cover_each_other_or_leave_it(points, data):
    names = [data.draw(st.text("abc-", min_size=1, max_size=18)) for _ in points]
    placed = place_labels(points, names, first=range(len(points) // 2))
    sides = {side: rest for side, *rest in SIDES}
    boxes = [
        text_box((x * WIDTH, (1 - y) * HEIGHT), name, sides[side])
        for (x, y), (name, side) in zip(points, placed, strict=True)
        if name
    ]
    assert not any(overlaps(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(a[0] >= 0 and a[2] <= WIDTH for a in boxes)


def test_names_of_cells_say_what_tells_them_apart_and_nothing_else():
    cells = make_cells(
        [record(key="a"), record(key="b", conditions=Conditions(batch=8)), record(key="c", backend="trt")]
    )
    assert label_cells(cells) == [
        "baseline · ort · batch 1",
        "baseline · ort · batch 8",
        "baseline · trt · batch 1",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.0), "0"),
        (number(0.02), "0.0200"),
        (number(1.196), "1.20"),
        (number(1234.5), "1,234"),
        (number(-0.5), "-0.500"),
        (number(2.5e7), "2.5e+07"),
        (number(None), "–"),
        (count(12_501_632), "12.5 M"),
        (count(950), "950"),
        (size(512), "512 B"),
        (size(1.5 * MIB), "1.50 MiB"),
        (percent(0.98214), "98.21 %"),
        (signed(-1.4), "−1.40"),
        (signed(-0.0), "+0.00"),
        (signed(-0.004), "+0.00"),
        (percent(-0.00001), "0.00 %"),
        (interval(-0.0001, 0.4), "0.000–0.400"),
        (times(3.846), "3.85×"),
        (interval(0.9985, 1.0071), "0.999–1.007"),
        (interval(2.0, 3.0), "2.00–3.00"),
        (interval(None, None), ""),
    ],
)
def test_numbers_read_as_people_write_them(text, expected):
    assert text == expected


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=10))
@settings(deadline=None)
def test_a_logarithmic_axis_holds_its_values_and_has_ticks(values):
    axis = log_axis(values, "ms")
    low, high = (10**end for end in axis["range"])
    assert low < min(values) <= max(values) < high
    assert all(low <= tick <= high for tick in axis["tickvals"])


def test_a_speedup_without_enough_launches_has_no_bounds_and_is_inconclusive():
    found = make_cells([record(key="b", baseline_key="a", pairs=pairs(default_rng(0), 1.0, 2.0, count=2))])[0]
    assert found.figure("speedup") == pytest.approx(2.0, rel=0.05)
    assert (found.figure("speedup_low"), found.verdict) == (None, "inconclusive")


def test_pairs_without_blocks_are_no_speedup():
    assert row(key="b", baseline_key="a", pairs=(PairLaunch(blocks_ns=()),))["speedup"] is None


def test_a_simulated_cell_with_outputs_is_compared_with_its_own_baseline_and_names_its_sources():
    """Both times are one simulator's; a simulator without outputs keeps an empty speed-up."""
    sources = {"cycles": "Verilator", "lut": "yosys"}
    known = {"clock": Clock.SIMULATED, "launches": (), "pairs": ()}
    slow, fast = (
        Simulation(source="FPGA", latency_ms=latency, notes={"sources": sources}) for latency in (0.003, 0.002)
    )
    base = replace(record(key="own", baseline_key="own", quality=Quality(samples=9)), **known, simulation=slow)
    cell = replace(base, key="other", simulation=fast)
    found = compute_rows([base, cell])
    assert [one["speedup"] for one in found] == [1.0, pytest.approx(1.5)]
    assert found[1]["count_sources"] == "cycles: Verilator; lut: yosys"
    assert compute_rows([base, replace(cell, quality=None)])[1]["speedup"] is None
