"""The dashboard in a real headless Chromium, opened from a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_records import energy, run, suite
from needs import lacking
from numpy.random import default_rng
from playwright.sync_api import Page, sync_playwright

from bench.records import Execution
from bench.report.advice import advise_cells
from bench.report.cells import make_cells
from bench.report.page import write_dashboard
from bench.report.page.timelines import MOST_SHOWN
from bench.report.timeline import Mark, Timeline

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "{{ 7*7 }} %{x} &lt;b&gt;",
)

pytestmark = pytest.mark.browser


@dataclass
class Watched:
    """A page and everything it did that it should not have."""

    page: Page
    noise: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def open(self, path: Path) -> None:
        page = self.page
        page.on("console", lambda message: self.noise.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.noise.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.set_default_timeout(120_000)
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-drawn]")


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM.exists():
        lacking("chromium", f"{CHROMIUM} is absent: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def metered():
    """A run with every section a page can have."""
    cells = suite()
    return [
        replace(c, launches=tuple(replace(x, energy=energy(1.0 + i, 1)) for x in c.launches)) if c.launches else c
        for i, c in enumerate(cells)
    ]


@pytest.fixture(params=[1400, 390])
def watched(request, chromium):
    context = chromium.new_context(viewport={"width": request.param, "height": 900}, offline=True)
    yield Watched(page=context.new_page())
    context.close()


def shoot(watched: Watched, name: str) -> None:
    """Keeps what was seen where PRESSBENCH_SHOTS says, for a person to look at."""
    folder = os.environ.get("PRESSBENCH_SHOTS")
    if folder:
        width = watched.page.viewport_size["width"]
        watched.page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)


def test_the_page_draws_everything_in_silence_and_asks_nobody(watched, metered, tmp_path):
    path = tmp_path / "dashboard.html"
    write_dashboard(metered, [run()], path)
    watched.open(path)
    page = watched.page
    shoot(watched, "dashboard")
    assert (watched.noise, watched.dialogs) == ([], [])
    assert watched.requests == [path.as_uri()]
    assert page.locator("#cells tbody tr").count() == len(metered)
    plots = page.locator(".plot").count()
    assert plots > 9
    assert page.locator(".plot .main-svg >> nth=0").count() == 1
    assert (
        page.eval_on_selector_all(".plot", "all => all.filter(p => p.querySelector('.plot-container')).length") == plots
    )
    assert page.locator("section h2").all_inner_texts() == [
        *("lenet5 on cpu, measured", "resnet8 on cpu, measured", "mobilenetv2(width=0.35) on cpu, measured"),
        *("Promised, delivered, and why", "Accuracy against latency", "File size", "Memory", "Energy"),
        *("Each cell", "What is missing, and why", "The run and its machine", "Every cell"),
    ]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_runtimes_stand_side_by_side_and_why_is_read_without_scrolling(watched, tmp_path):
    ran = Execution(operators={"CONV_2D": 9, HOSTILE[2]: 1}, delegated=9, partitions=2, not_delegated={"PAD": 1})
    cells = [c for c in suite() if c.model == "resnet8" and c.launches]
    other = [
        replace(c, backend="litert", key=f"l{c.key}", baseline_key=f"l{c.baseline_key}", execution=ran)
        for c in suite(seed=8)
        if c.model == "resnet8" and c.launches
    ]
    path = tmp_path / "runtimes.html"
    write_dashboard([*cells, *other], [run()], path)
    watched.open(path)
    shoot(watched, "runtimes")
    page, width = watched.page, watched.page.viewport_size["width"]
    assert (watched.noise, watched.dialogs) == ([], [])
    assert page.locator("#runtimes .match").count() == len(cells)
    said = page.locator("#runtimes .why div").first
    assert "9 of 10 operators delegated in 2 partitions; not taken: PAD ×1" in said.inner_text()
    box = said.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("watched", [1400], indirect=True)
def test_every_point_of_the_table_is_drawn(watched, tmp_path):
    cells = [cell for cell in suite() if cell.model == "resnet8"]
    write_dashboard(cells, [run()], tmp_path / "d.html")
    watched.open(tmp_path / "d.html")
    accurate = [c for c in cells if c.launches and c.quality]
    assert watched.page.locator("#accuracy .scatterlayer .trace:last-child .point").count() == len(accurate)
    assert watched.page.locator("#size .barlayer .point").count() == len([c for c in cells if c.cost])
    labels = watched.page.locator("#size .yaxislayer-above text, #size .ytick text").all_text_contents()
    assert set(labels) == {c.recipe for c in cells if c.cost}


@pytest.mark.parametrize("watched", [1400], indirect=True)
def test_hostile_names_are_shown_and_never_run(watched, tmp_path):
    cells = []
    for number, name in enumerate(HOSTILE):
        cells += [
            replace(c, run_id=name, model=name, recipe=f"{c.recipe}{name}", backend=name, device=name, reasons=(name,))
            for c in suite(seed=number)[:4]
        ]
    path = tmp_path / "hostile.html"
    write_dashboard(cells, [run(name, target=name, machine={name: [name]}) for name in HOSTILE], path)
    watched.open(path)
    assert (watched.noise, watched.dialogs) == ([], [])
    assert watched.requests == [path.as_uri()]
    assert watched.page.locator("img, a[href^=javascript]").count() == 0
    assert watched.page.locator("script").count() == 4
    shown = watched.page.locator("#cells tbody th small:first-child").all_text_contents()
    assert list(dict.fromkeys(shown)) == list(HOSTILE)
    titles = watched.page.locator("#size figcaption").evaluate_all("all => all.map(f => f.firstChild.data.trim())")
    assert titles == list(HOSTILE)
    ticks = watched.page.locator("#size .ytick text").all_text_contents()
    for name in HOSTILE:
        assert any(tick.endswith(name) for tick in ticks), (name, ticks)


def test_the_table_sorts_by_number_with_the_missing_last_and_filters(watched, tmp_path):
    write_dashboard(suite(), [run()], tmp_path / "d.html")
    watched.open(tmp_path / "d.html")
    page = watched.page
    heads = page.locator("#cells thead th").all_text_contents()
    column = heads.index("p50, ms")
    read = f"all => all.map(row => row.cells[{column}].dataset.sort)"
    for _ in range(2):
        page.locator("#cells thead button").nth(column).evaluate("button => button.click()")  # a phone shows no head
        values = page.locator("#cells tbody tr").evaluate_all(read)
        numbers = [float(value) for value in values if value]
        down = page.locator("#cells thead th").nth(column).get_attribute("aria-sort") == "descending"
        assert numbers == sorted(numbers, reverse=down)
        assert values[: len(numbers)] == [value for value in values if value]
    page.fill("#filter", "resnet8 int8")
    assert page.locator("#cells tbody tr:visible").count() == 3
    assert page.inner_text("#shown") == f"3 of {len(suite())}"


def test_limits_drive_the_whole_page_and_its_address_shares_the_view(chromium, tmp_path):
    budget = {"latency_p50_ms": 0.5, "accuracy_drop_pp": 1.0}
    cells = [replace(cell, budget=budget) for cell in suite() if cell.model == "resnet8"]
    path = tmp_path / "d.html"
    write_dashboard(cells, [run()], path)
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    watched = Watched(page=context.new_page())
    watched.open(path)
    page = watched.page
    advice = page.locator("[data-card] .advice")
    assert page.input_value("[name=latency]") == "0.5"
    assert advice.inner_text() == advise_cells(make_cells(cells))[0].text
    rows = page.locator("#cells tbody tr:visible").count()
    assert rows == page.locator(".drawer:visible").count() < len(cells)
    page.fill("[name=drop]", "5")
    assert advice.inner_text().startswith("Ship: channels50-ft-int8 on ort, ")
    assert "drop=5" in page.url
    assert page.locator("#cells tbody tr:visible").count() > rows
    page.locator(".dumbbells a").first.click()
    opened = page.locator(".drawer[open]")
    assert opened.count() == 1
    assert "pressbench run --target cpu" in opened.inner_text()
    page.locator("nav a", has_text="Table").click()
    other = context.new_page()
    other.set_default_timeout(120_000)
    other.goto(page.url)
    other.wait_for_selector("body[data-drawn]")
    assert other.locator("[data-card] .advice").inner_text() == advice.inner_text()
    page.click("text=Show all")
    assert page.locator("#cells tbody tr:visible").count() == len(cells)
    assert watched.noise == []
    context.close()


def test_without_scripts_everything_is_shown(chromium, tmp_path):
    write_dashboard(suite(), [run()], tmp_path / "d.html")
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto((tmp_path / "d.html").as_uri())
    assert page.locator("#cells tbody tr:visible").count() == len(suite())
    assert page.locator(".dumbbells li:visible").count() > 15
    assert not page.locator("#controls").is_visible()
    context.close()


def test_the_colours_follow_the_reader(chromium, tmp_path):
    write_dashboard(suite()[:8], [run()], tmp_path / "d.html")
    seen = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme, viewport={"width": 1400, "height": 900})
        watched = Watched(page=context.new_page())
        watched.open(tmp_path / "d.html")
        text = watched.page.locator("#size .ytick text").first
        seen[scheme] = (
            watched.page.evaluate("getComputedStyle(document.body).backgroundColor"),
            text.evaluate("node => getComputedStyle(node).fill"),
        )
        shoot(watched, scheme)
        context.close()
    assert seen["light"][0] != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]


def make_lines(count: int) -> list[Timeline]:
    """Series of 100 nights with hostile names; one has a change, one an alarm, every fourth never moved."""
    at = tuple(f"2026-{1 + night // 28:02}-{1 + night % 28:02}T02:00:00+00:00" for night in range(100))
    random = default_rng(0)
    return [
        Timeline(
            cell=f"cpu / model-{place} / {HOSTILE[place % len(HOSTILE)]}",
            metric="latency" if place % 2 else "memory",
            unit="ms, host clock" if place % 2 else "bytes",
            at=at,
            values=(4096.0,) * 100 if place % 4 == 0 else (*random.uniform(1, 2, 99).tolist(), 1.5),
            changes=(Mark(place=50, text="+20.0 %, worse"),) if place == 7 else (),
            size=0.2 if place == 7 else 0.0,
            alarm=f"regression: {HOSTILE[0]}" if place == 9 else "",
        )
        for place in range(count)
    ]


def test_every_series_of_a_long_history_is_found_and_drawn_when_asked(watched, tmp_path):
    path = tmp_path / "long.html"
    write_dashboard(suite()[:3], [run()], path, make_lines(200))
    watched.open(path)
    page = watched.page
    page.wait_for_selector("#series[data-ready='200']")
    drawn = page.locator("#changes > .timeline")
    assert drawn.count() == MOST_SHOWN
    assert "model-9 " in drawn.nth(0).inner_text()
    assert f"regression: {HOSTILE[0]}" in drawn.nth(0).inner_text()
    assert "model-7 " in drawn.nth(1).inner_text()
    page.fill("#series [name=words]", "MODEL-199 latency")
    assert page.inner_text("#series output") == "1 of 200"
    page.click("#series .found button")
    chosen = page.locator("#series .chosen .timeline")
    chosen.locator("summary").click()
    assert HOSTILE[4] in chosen.inner_text()
    assert "100 nights, newest 1.50 ms" in chosen.inner_text()
    assert chosen.locator("polyline").get_attribute("points").count(",") == 100
    assert chosen.locator("tr").count() == 100
    assert chosen.locator("tr").first.inner_text().split() == ["2026-04-16", "1.5", "ms"]
    page.fill("#series [name=words]", "changed")
    page.click("#series .found button")
    page.wait_for_selector("#series .chosen line", state="attached")
    assert "+20.0 %, worse" in chosen.inner_text()
    page.fill("#series [name=words]", "model-196")
    page.click("#series .found button")
    page.wait_for_selector("text=newest 4.00 KiB")
    page.click("#more-series")
    page.wait_for_function(f"document.querySelectorAll('#changes > .timeline').length === {MOST_SHOWN + 20}")
    assert page.inner_text("#more-series") == "Draw 20 more of 140"
    shoot(watched, "history")
    assert (watched.noise, watched.dialogs) == ([], [])
    assert watched.requests == [path.as_uri()]
    assert page.locator("img, a[href^=javascript]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_browser_that_cannot_decompress_says_so(chromium, tmp_path):
    write_dashboard(suite()[:3], [run()], tmp_path / "d.html", make_lines(60))
    context = chromium.new_context(offline=True)
    context.add_init_script("delete window.DecompressionStream")
    watched = Watched(page=context.new_page())
    watched.open(tmp_path / "d.html")
    watched.page.wait_for_selector("text=this browser cannot decompress them")
    assert watched.noise == []
    context.close()


def test_a_page_of_nothing_opens_in_silence(watched, tmp_path):
    write_dashboard([], [], tmp_path / "d.html")
    watched.open(tmp_path / "d.html")
    assert watched.noise == []
    assert "no cells are stored yet" in watched.page.inner_text("body")
