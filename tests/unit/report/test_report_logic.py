"""What pruning gives on an FPGA, beside what a CPU made of the same."""

from __future__ import annotations

from fake_records import cost, record

from bench.records import Record
from bench.report.cells import make_cells
from bench.report.page.logic import list_pruned
from bench.report.page.render import render_page
from bench.types import Clock, Precision, Simulation


def design(recipe: str, bits: int, kept: int, lut: int | None, cycles: int | None, source: str) -> Record:
    return record(
        key=f"hls/{recipe}",
        target="fpga",
        backend="hls",
        clock=Clock.SIMULATED,
        model="mlp",
        recipe=recipe,
        launches=(),
        precision=Precision(asked=f"fixed{bits}"),
        cost=cost(1000, 1000, keep=(kept / 1000,) * 3, dense=True),
        simulation=Simulation(source="FPGA", cycles=cycles, lut=lut, notes={"sources": {"lut": source}}),
    )


DESIGNS = (
    design("fixed8", 8, 1000, 18_771, 6, "yosys 0.23 xc7"),
    design("pruned75-fixed8", 8, 250, 7_793, 5, "yosys 0.23 xc7"),
    design("pruned75-fixed16", 16, 250, 20_000, 8, "da4ml 0.6.0 estimate"),
    design("pruned90-fixed8", 8, 100, None, None, ""),
)


def test_a_pruned_design_is_compared_with_the_dense_one_of_its_bits():
    (row,) = list_pruned(make_cells(DESIGNS))
    assert (row.cell.record.recipe, row.against) == ("pruned75-fixed8", "fixed8")
    assert (row.promised, row.lut, row.cycles) == ("4.00×", "2.41×", "1.20×")
    assert (row.counted, row.source, row.cpu) == ("18.8 k → 7.79 k", "yosys 0.23 xc7", "")


def test_luts_of_two_sources_name_both_and_the_page_has_the_row():
    estimated = design("pruned50-fixed8", 8, 500, 15_000, 6, "da4ml 0.6.0 <estimate>")
    (row,) = list_pruned(make_cells((DESIGNS[0], estimated)))
    assert row.source == "da4ml 0.6.0 <estimate> against yosys 0.23 xc7"
    page = render_page((DESIGNS[0], estimated), ())
    assert "What pruning gives on an FPGA" in page
    assert "da4ml 0.6.0 &lt;estimate&gt; against yosys" in page
    assert "not measured here" in page
    assert "What pruning gives" not in render_page(DESIGNS[:1], ())
