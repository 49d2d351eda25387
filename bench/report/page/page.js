// Draws the plots in the colours of the page, and lets limits choose what the whole page shows. The state of the
// controls is in the address, so that a view can be shared. No library but Plotly, no network.
"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const plots = read("plots"), facts = read("facts"), cells = facts.cells;
  const LIMITS = ["drop", "latency", "size", "memory", "energy"], CHOICES = ["target", "backend", "model"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let out = new Set();

  // Plots.
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
  const without = (values, places) => values.map((value, i) => (out.has(places[i]) ? null : value));
  // The Pareto front of what is left: points of `trace`, where `gain` is -1 if lower is better.
  const front = (line, trace) => {
    const open = trace.marker.symbol.map((symbol) => symbol.endsWith("-open"));
    const left = trace.x.map((x, i) => [x, trace.y[i], i]).filter(([, , i]) => !open[i] && !out.has(trace.customdata[i]));
    left.sort(([a, b], [c, d]) => a - c || line.meta.gain * (d - b));
    const found = left.filter(([, y], i) => left.slice(0, i).every(([, other]) => line.meta.gain * (y - other) > 0));
    return { ...line, x: found.map(([x]) => x), y: found.map(([, y]) => y) };
  };
  const chosen = (plot) =>
    !out.size ? plot.data : plot.data.map((trace, i) => {
      if (trace.meta && trace.meta.gain) return front(trace, plot.data[i + 1]);
      if (trace.meta && out.has(trace.meta.cell)) return { ...trace, visible: false };
      if (!trace.customdata) return trace;
      const text = trace.text && { text: without(trace.text, trace.customdata) };
      return { ...trace, ...text, x: without(trace.x, trace.customdata) };
    });
  const draw = (index) => {
    const place = document.getElementById(`plot-${index}`), plot = plots[index];
    const config = { responsive: true, displayModeBar: false, displaylogo: false };
    const narrowLegend = plot.layout.showlegend && innerWidth <= 640 ? 26 * plot.data.length * 0.6 : 0;
    place.style.height = `${plot.height + narrowLegend}px`;
    return Plotly.react(place, chosen(plot).map(inked), themed(plot.layout), config);
  };
  // Plotly is text until the page is open: compiling it takes longer than all the rest of opening. The policy knows its hash.
  const opened = new Promise((next) => {
    if (document.readyState === "complete") next();
    else addEventListener("load", () => setTimeout(next, 0));
  });
  const run = () => {
    if (!plots.length || window.Plotly) return;
    const script = document.createElement("script");
    const text = document.getElementById("plotly");
    script.textContent = text.textContent;
    text.replaceWith(script);
  };
  // One plot a turn, so that the page stays usable while they are drawn.
  let turns = 0;
  const drawAll = () => {
    const mine = ++turns;
    let turn = opened.then(() => window.seriesRead).then(run);
    plots.forEach((_, index) => {
      turn = turn.then(() => mine === turns && draw(index)).then(() => new Promise((next) => setTimeout(next, 0)));
    });
    return turn.then(() => { if (mine === turns) document.body.dataset.drawn = plots.length; });
  };
  dark.addEventListener("change", drawAll);

  // Controls.
  const form = document.getElementById("controls");
  const fields = form ? [...form.elements].filter((one) => one.name) : [];
  const value = (name) => (fields.find((one) => one.name === name) || { value: "" }).value;
  const within = (cell, limits) => limits.every(([name, most]) => cell[name] !== null && cell[name] <= most);
  const asked = () => LIMITS.filter((name) => value(name) !== "").map((name) => [name, Number(value(name))]);
  const placed = (cell) => CHOICES.every((name) => !value(name) || cell[name] === value(name));
  const ending = (cell) => `; runner-up: ${cell.name}, ${cell.gains}`;

  // The same choice as bench/report/advice.py makes, among the cells within the limits.
  const advise = (place, limits) => {
    const most = value("drop") === "" ? [["drop", facts.limits[place]]] : [];
    const losing = (cell) => !cell.baseline && cell.drop !== null && most.some(([, limit]) => cell.drop > limit);
    const fit = cells
      .filter((cell) => cell.league === place && cell.keeps && cell.latency && placed(cell) && within(cell, limits) && !losing(cell))
      .sort((a, b) => a.latency - b.latency);
    const shown = fit.filter((cell) => !cell.baseline && cell.faster);
    let best = fit[0];
    if (best && !best.baseline && !best.faster) best = fit.find((cell) => cell === cells[best.own]) || shown[0];
    if (!best) return ["none", "Nothing can be advised within these limits."];
    const second = shown.find((cell) => cell !== best), more = second ? ending(second) : "";
    return best.baseline
      ? ["keep", `Keep the ${best.name}, ${best.ms}: no trusted variant within these limits is shown to be faster${more}.`]
      : ["ship", `Ship: ${best.name}, ${best.gains}${more}.`];
  };
  const cards = [...document.querySelectorAll("[data-card]")];
  cards.forEach((card) => { card.dataset.said = card.querySelector(".advice").textContent; card.dataset.verdict = card.classList[1]; });
  const write = (initial) => {
    const limits = asked();
    out = new Set(cells.map((cell, i) => (placed(cell) && within(cell, limits) ? -1 : i)).filter((i) => i >= 0));
    document.querySelectorAll("[data-cell]").forEach((one) => { one.hidden = out.has(Number(one.dataset.cell)); });
    document.querySelectorAll(".dumbbells").forEach((chart) => { chart.hidden = !chart.querySelector("li:not([hidden])"); });
    cards.forEach((card, place) => {
      const said = initial ? [card.dataset.verdict, card.dataset.said] : advise(place, limits);
      card.className = `card ${said[0]}`;
      card.querySelector(".advice").textContent = said[1];
      card.hidden = !cells.some((cell) => cell.league === place && placed(cell));
    });
    const left = document.getElementById("left");
    if (left) left.textContent = out.size ? `${cells.length - out.size} of ${cells.length} cells` : `${cells.length} cells`;
    count();
    return drawAll();
  };

  // The address: #latency=5&model=resnet8&at=promise
  const state = () => new URLSearchParams(location.hash.slice(1).includes("=") ? location.hash.slice(1) : "");
  const keep = (at) => {
    const words = new URLSearchParams();
    fields.forEach((one) => { if (one.value !== one.dataset.usual) words.set(one.name, one.value); });
    if (at) words.set("at", at);
    history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
  };
  const budgets = facts.budgets, only = Object.keys(budgets);
  const usual = () => {
    const target = value("target") || (new Set(cells.map((cell) => cell.target)).size === 1 ? only[0] : "");
    fields.forEach((one) => {
      const limit = budgets[target] && budgets[target][one.name];
      one.dataset.usual = LIMITS.includes(one.name) && limit !== undefined ? limit : "";
    });
  };
  const fill = (words) => fields.forEach((one) => { one.value = words.has(one.name) ? words.get(one.name) : one.dataset.usual; });
  const isUsual = () => fields.every((one) => one.value === one.dataset.usual);
  const reach = (id) => {
    const place = document.getElementById(id);
    if (!place) return;
    document.querySelectorAll(".reached").forEach((one) => one.classList.remove("reached"));
    if (place.matches("details")) { place.open = true; place.hidden = false; place.classList.add("reached"); }
    place.scrollIntoView();
    const focus = place.querySelector("summary");
    if (focus) focus.focus({ preventScroll: true });
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    event.preventDefault();
    const id = link.getAttribute("href").slice(1);
    keep(id);
    reach(id);
  });
  const open = () => {
    const words = state();
    if (words.has("target")) { const one = fields.find((field) => field.name === "target"); if (one) one.value = words.get("target"); }
    usual();
    fill(words);
    const drawn = write(isUsual());
    const at = words.get("at") || (words.size ? "" : location.hash.slice(1));
    if (at) reach(at);
    return drawn;
  };
  addEventListener("hashchange", open);

  // The table.
  const table = document.getElementById("cells");
  const count = () => {
    if (!table) return;
    const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    rows.forEach((row) => {
      const text = words.length ? row.textContent.toLowerCase() : "";
      row.hidden = out.has(Number(row.dataset.cell ?? -1)) || !words.every((word) => text.includes(word));
    });
    document.getElementById("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  if (table) {
    const body = table.tBodies[0];
    const sorted = (row, column) => {
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
        const rows = [...body.rows].map((row) => [sorted(row, column), row]);
        rows.sort(([a], [b]) => (a === null || b === null ? order(a, b) : down ? order(b, a) : order(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
    });
    document.getElementById("filter").addEventListener("input", count);
  }
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (event.target.name === "target") { usual(); fields.forEach((one) => { if (LIMITS.includes(one.name)) one.value = one.dataset.usual; }); }
      keep();
      write(isUsual());
    });
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      fields.forEach((one) => { one.value = ""; });
      keep();
      write(isUsual());
    });
  }
  open();
})();
