"""The page's view of a fleet: every board with its state, what has it, its heat and its alarm; all of it escaped."""

from __future__ import annotations

from fake_records import record, run

from bench.commands.report import look_at_fleet
from bench.report.fleet import FleetView
from bench.report.page import render_page
from bench.store import BoardState, Leases, Offer, Queued, Store

BOARDS = (
    BoardState(
        place="ssh:a",
        name="a",
        sku="orin",
        fence=3,
        owner="laptop:17:1.5",
        run_id="r<b>1",
        doing="lenet5 / int8 on ort",
        held_s=30.0,
        left_s=45.0,
        hottest_c=61.5,
    ),
    BoardState(place="ssh:b", name="b", sku="orin", fence=1, trouble="<img src=x> unplugged", trouble_s=300.0),
    BoardState(place="ssh:c", name="c", sku="orin", fence=2),
)
QUEUE = (Queued(run_id="r<b>1", sku="orin", boards=3, cells=40, done=10, ends_in_s=3600.0),)


def test_the_page_has_every_board_its_state_its_heat_and_its_alarm_escaped():
    page = render_page([record()], [run()], (), FleetView(boards=BOARDS, queue=QUEUE, at="2026-11-29 12:00"))
    section = page[page.index('id="fleet"') : page.index("</section>", page.index('id="fleet"'))]
    for words in ("measuring", "62 °C", "free", "(5 min ago)", "10 of 40", "in 60 min", "2026-11-29 12:00 UTC"):
        assert words in section
    assert "&lt;img src=x&gt; unplugged" in section
    assert "r&lt;b&gt;1" in section
    assert "<img" not in section
    assert '<a href="#fleet">' in page


def test_a_run_without_a_fleet_has_no_view_of_one_and_a_run_on_one_has(tmp_path):
    assert 'id="fleet"' not in render_page([record()], [run()])
    with Store.open(tmp_path / "pressbench.db") as store:
        Leases(store=store).take([Offer(place="ssh:a", name="a", sku="orin")], "r")
        assert look_at_fleet(store, [run()]) is None
        view = look_at_fleet(store, [run(request={"fleet": "fleet.toml"})])
    assert view is not None
    assert [board.name for board in view.boards] == ["a"]
