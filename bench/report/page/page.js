// Draws the plots in the colours of the page, sorts and filters the table. No library but Plotly, no network.
"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const themed = (layout) => {
    const grid = colour("--line"), ink = colour("--ink"), soft = colour("--soft");
    const axis = { gridcolor: grid, zeroline: false, linecolor: grid, tickfont: { color: soft }, fixedrange: true, tickangle: 0 };
    const wide = innerWidth > 640;
    const titled = (own) => ({ ...axis, ...own, title: { ...own.title, font: { size: 12, color: soft }, standoff: 8 } });
    // Numbers stand behind the bars: a narrow plot needs more room for them.
    const bars = layout.bargap !== undefined && !wide;
    const x = bars ? { ...layout.xaxis, range: [0, layout.xaxis.range[1] * 1.45] } : layout.xaxis;
    return {
      font: { family: colour("--sans"), size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 52, r: 18, t: 14, b: 48 },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: grid, font: { color: ink }, align: "left" },
      dragmode: false,
      hovermode: "closest",
      ...layout,
      xaxis: titled(x),
      yaxis: titled(layout.yaxis),
      legend: wide ? { x: 1.02, y: 1 } : { orientation: "h", x: 0, y: -0.16, yanchor: "top" },
    };
  };

  const inked = (trace) =>
    trace.marker && trace.marker.color === "ink"
      ? { ...trace, marker: { ...trace.marker, color: colour("--ink"), line: { ...trace.marker.line, color: colour("--ink") } } }
      : trace;

  const draw = (index) => {
    const place = document.getElementById(`plot-${index}`);
    const config = { responsive: true, displayModeBar: false, displaylogo: false };
    const narrowLegend = plots[index].layout.showlegend && innerWidth <= 640 ? 26 * plots[index].data.length * 0.6 : 0;
    place.style.height = `${plots[index].height + narrowLegend}px`;
    return Plotly.react(place, plots[index].data.map(inked), themed(plots[index].layout), config);
  };

  // One plot a turn, so that the page stays usable while they are drawn.
  const drawAll = () => {
    let turn = Promise.resolve();
    plots.forEach((_, index) => {
      turn = turn.then(() => draw(index)).then(() => new Promise((next) => setTimeout(next, 0)));
    });
    return turn.then(() => { document.body.dataset.drawn = plots.length; });
  };
  drawAll();
  dark.addEventListener("change", drawAll);

  const table = document.getElementById("cells");
  if (table) {
    const body = table.tBodies[0];
    const value = (row, column) => {
      const text = row.cells[column].dataset.sort;
      return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
    };
    const order = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : a < b ? -1 : 1);
    table.tHead.querySelectorAll("button").forEach((button) => {
      button.addEventListener("click", () => {
        const head = button.closest("th"), column = head.cellIndex;
        const down = head.getAttribute("aria-sort") === "ascending";
        table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [value(row, column), row]);
        rows.sort(([a], [b]) => (a === null || b === null ? order(a, b) : down ? order(b, a) : order(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
    });
    const filter = document.getElementById("filter"), shown = document.getElementById("shown");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      [...body.rows].forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += row.hidden ? 0 : 1;
      });
      shown.textContent = `${left} of ${body.rows.length}`;
    });
  }
})();
