// Finds and draws the series that do not stand on the page. Each lies in a compressed block that is opened when asked for.
"use strict";
(() => {
  const form = document.getElementById("series");
  if (!form) return;
  const WIDTH = 600, HEIGHT = 80, LISTED = 50, MORE = 20;
  const words = form.elements.words, list = form.querySelector(".found"), said = form.querySelector("output");
  const chosen = form.querySelector(".chosen"), more = document.getElementById("more-series");

  // base64 of zlib of JSON. No request is made: the text is in the page.
  const open = async (id) => {
    const text = atob(document.getElementById(id).textContent);
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  };
  let index = null;
  const blocks = new Map();
  const read = async (place) => {
    const number = Math.floor(place / index.block);
    if (!blocks.has(number)) blocks.set(number, open(`archive-${number}`));
    const block = await blocks.get(number), series = block.series[place % index.block];
    const [cell, metric] = index.series[place], nights = block.nights[series.n];
    const step = (series.high - series.low) / index.steps;
    const values = nights.map((_, i) => (series.v.length ? series.low + step * series.v[i] : series.low));
    return { ...series, cell: index.cells[cell], metric: index.metrics[metric], nights, values };
  };

  // As bench/report/text.py writes bytes; other figures with four digits.
  const written = (value, unit) => {
    let size = value, place = 0;
    if (unit !== "bytes") return `${Number(value.toPrecision(4)).toLocaleString("en-US", { maximumSignificantDigits: 4 })} ${unit}`;
    while (size >= 1024 && place < 3) { size /= 1024; place += 1; }
    return `${Number(size.toPrecision(4))} ${["B", "KiB", "MiB", "GiB"][place]}`;
  };
  const make = (name, text = "", attributes = {}) => {
    const one = document.createElement(name);
    one.textContent = text;
    Object.entries(attributes).forEach(([key, value]) => one.setAttribute(key, value));
    return one;
  };
  const ends = (...texts) => {
    const one = make("p", "", { class: "ends" });
    one.append(...texts.map((text) => make("span", text)));
    return one;
  };
  // As bench/report/page/timelines.py draws, with every night.
  const sketch = (one) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), span = one.high - one.low;
    const add = (name, attributes) => {
      const shape = document.createElementNS(svg.namespaceURI, name);
      Object.entries(attributes).forEach(([key, value]) => shape.setAttribute(key, value));
      svg.append(shape);
    };
    const at = (place) => (WIDTH * place / Math.max(1, one.values.length - 1)).toFixed(1);
    const up = (value) => (4 + (HEIGHT - 8) * (span ? 1 - (value - one.low) / span : 1)).toFixed(1);
    const label = `${one.cell}, ${one.metric}: ${one.values.length} nights from ${one.ends[0]} to ${one.ends[1]}`;
    Object.entries({ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label })
      .forEach(([key, value]) => svg.setAttribute(key, value));
    add("polyline", { points: one.values.map((value, i) => `${at(i)},${up(value)}`).join(" ") });
    const upright = (place) => ({ x1: at(place - 0.5), x2: at(place - 0.5), y1: 0, y2: HEIGHT });
    one.e.forEach(([place]) => add("line", { class: "environment", ...upright(place) }));
    one.c.forEach(([place]) => add("line", upright(place)));
    return svg;
  };
  const describe = (one) => {
    const all = make("ul");
    one.c.forEach(([, text]) => { const item = make("li"); item.append(make("b", text)); all.append(item); });
    one.e.forEach(([, text]) => all.append(make("li", `environment, ${text}`)));
    if (one.more) all.append(make("li", `and ${one.more} earlier`));
    return all;
  };
  const tabulate = (one) => {
    const whole = make("details"), box = make("div", "", { class: "scroll nights", tabindex: "0" });
    whole.append(make("summary", "Every night"), box);
    whole.addEventListener("toggle", () => {
      if (box.firstChild) return;
      const table = make("table"), body = make("tbody");
      one.nights.forEach((night, i) => {
        const row = make("tr");
        row.append(make("td", night), make("td", written(one.values[i], one.unit), { class: "number" }));
        body.prepend(row);
      });
      table.append(body);
      box.append(table);
    });
    return whole;
  };
  const draw = (one) => {
    const figure = make("figure", "", { class: "card timeline" }), caption = make("figcaption", `${one.cell} `), box = make("div");
    caption.append(make("small", `${one.metric}; ${one.values.length} nights, newest ${one.ends[2]}`));
    box.append(ends(one.ends[1]), sketch(one), ends(one.ends[0]), ends(one.nights[0], one.nights.at(-1)));
    figure.append(caption);
    if (one.alarm) figure.append(make("p", one.alarm, { class: "alarm" }));
    figure.append(box);
    if (one.c.length || one.e.length) figure.append(describe(one));
    figure.append(tabulate(one));
    return figure;
  };

  const SIGNS = ["", "changed", "alarm"];
  const item = (place, name, rank) => {
    const one = make("li"), button = make("button", name, { type: "button", "data-place": place });
    if (rank) button.prepend(make("b", SIGNS[rank], { class: "chip untrusted" }), " ");
    one.append(button);
    return one;
  };
  const find = () => {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean), found = [];
    let count = 0;
    index.series.forEach(([cell, metric, rank], place) => {
      const name = `${index.cells[cell]} / ${index.metrics[metric]}`, text = `${SIGNS[rank]} ${name}`.toLowerCase();
      if (!asked.every((word) => text.includes(word))) return;
      count += 1;
      if (found.length < LISTED) found.push(item(place, name, rank));
    });
    list.replaceChildren(...found);
    const all = index.series.length;
    said.textContent = `${count.toLocaleString("en-US")} of ${all.toLocaleString("en-US")}${count > LISTED ? `, the first ${LISTED} listed` : ""}`;
  };
  let next = Number(form.dataset.drawn), turn = 0;
  const offer = () => {
    const left = index.series.length - next;
    more.hidden = left === 0;
    more.textContent = `Draw ${Math.min(MORE, left)} more of ${left.toLocaleString("en-US")}`;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  words.addEventListener("input", find);
  list.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const mine = ++turn, one = await read(Number(button.dataset.place));
    if (mine !== turn) return;
    list.querySelectorAll("[aria-current]").forEach((other) => other.removeAttribute("aria-current"));
    button.setAttribute("aria-current", "true");
    chosen.replaceChildren(draw(one));
  });
  more.addEventListener("click", async () => {
    const from = next;
    next = Math.min(next + MORE, index.series.length);
    offer();
    for (let place = from; place < next; place += 1) more.parentElement.before(draw(await read(place)));
  });
  const begin = async () => {
    try {
      index = await open("archive");
    } catch (error) {
      form.replaceChildren(make("p", `The other series cannot be opened: this browser cannot decompress them (${error.message}).`));
      form.hidden = false;
      return;
    }
    find();
    offer();
    form.hidden = false;
    form.dataset.ready = index.series.length;
  };
  window.seriesRead = begin();
})();
