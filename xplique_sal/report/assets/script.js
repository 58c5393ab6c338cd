"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const { samples, methods, metrics, kind } = data;
const $ = (id) => document.getElementById(id);
// Text of users goes into the page by textContent alone, never as HTML.
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
};
const svg = (tag, attributes = {}, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};
const shown = { methods: methods.map(() => true), view: "overlay", opacity: 0.6, share: 1 };
const state = { order: [], focus: 0, open: -1, descending: false };
const visible = () => methods.map((_, place) => place).filter((place) => shown.methods[place]);
const said = (value) => value === null || value === undefined ? "–"
  : typeof value !== "number" ? String(value)
  : value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e5) ? value.toExponential(2)
  : String(+value.toFixed(4)).replace("-", "−");
const className = (index) => index === undefined || index === null ? "–"
  : data.classes[index] ?? `class ${index}`;
const sampleName = (index) => samples[index].n ?? `sample ${index}`;
const isRight = (sample) => sample.t === undefined || sample.p === undefined ? null : sample.t === sample.p;

// Colours
const table = (names) => {
  const stops = names.map((name) => [0, 2, 4].map((at) => parseInt(name.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, level) => {
    const at = level / 255 * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((value, channel) => Math.round(value + (stops[low + 1][channel] - value) * (at - low)));
  });
};
const colours = { false: table(data.colours.sequential), true: table(data.colours.diverging) };
const importance = (level, signed) => signed ? Math.min(255, Math.abs(level - 128) * 2) : level;
const css = (value, most, signed) => {
  const share = most ? value / most : 0;
  return colours[signed][Math.max(0, Math.min(255, Math.round(signed ? 128 + 127 * share : 255 * share)))];
};
const threshold = (sorted) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * shown.share) - 1))];

// Pictures, which are decoded when they come into view
const decoded = new Map();
const decode = (index) => {
  if (!decoded.has(index)) {
    const sample = samples[index];
    const load = (url) => { const image = new Image(); image.src = url; return image.decode().then(() => image); };
    const found = Promise.all([load(sample.u), ...sample.m.map((map) => load(map.u))]).then(([image, ...maps]) => ({
      image, maps: maps.map((picture, place) => levelsOf(picture, sample.m[place].g)),
    }));
    decoded.set(index, found);
    if (decoded.size > 400) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(index);
};
const levelsOf = (picture, signed) => {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, picture.width, picture.height).data;
  const levels = new Uint8Array(pixels.length / 4), counts = new Uint32Array(256);
  for (let at = 0; at < levels.length; at++) { levels[at] = pixels[4 * at]; counts[importance(levels[at], signed)]++; }
  return { levels, counts, signed, width: picture.width, height: picture.height };
};
const leastShown = (map) => {
  const wanted = Math.max(1, Math.round(map.levels.length * shown.share));
  let level = 255, seen = map.counts[255];
  while (level > 0 && seen < wanted) seen += map.counts[--level];
  return shown.share >= 1 ? 0 : level;
};
const drawMap = (canvas, image, map) => {
  const context = canvas.getContext("2d");
  canvas.width = image.width; canvas.height = image.height;
  if (shown.view === "overlay") context.drawImage(image, 0, 0);
  const layer = new OffscreenCanvas(map.width, map.height), inner = layer.getContext("2d");
  const pixels = inner.createImageData(map.width, map.height), least = leastShown(map), lut = colours[map.signed];
  for (let at = 0; at < map.levels.length; at++) {
    const level = map.levels[at], weight = importance(level, map.signed);
    const colour = lut[level];
    pixels.data[4 * at] = colour[0]; pixels.data[4 * at + 1] = colour[1]; pixels.data[4 * at + 2] = colour[2];
    pixels.data[4 * at + 3] = weight < least ? 0 : shown.view === "map" ? 255 : Math.min(255, 2 * shown.opacity * weight);
  }
  inner.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = Math.max(image.width, image.height) > 64;
  context.drawImage(layer, 0, 0, image.width, image.height);
};
const frame = (sample) => make("div", { class: Math.max(sample.w, sample.h) <= 64 ? "frame small" : "frame" }, make("canvas"));
const drawTiles = (tiles, index) => decode(index).then(({ image, maps }) => {
  const canvases = tiles.querySelectorAll("canvas");
  if (!canvases.length || !tiles.isConnected) return;
  const first = canvases[0];
  if (!first.dataset.drawn) {
    first.width = image.width; first.height = image.height;
    first.getContext("2d").drawImage(image, 0, 0);
    first.dataset.drawn = "yes";
  }
  visible().forEach((place, at) => { if (canvases[at + 1]) drawMap(canvases[at + 1], image, maps[place]); });
});
const pictureTiles = (index) => {
  const sample = samples[index];
  const tile = (caption) => make("figure", { class: "tile" }, frame(sample), make("figcaption", {}, caption));
  return make("div", { class: "tiles" }, tile("input"), ...visible().map((place) => tile(methods[place])));
};

// Texts, tables and series
const least = (values) => threshold(values.map(Math.abs).sort((a, b) => b - a));
const words = (index) => {
  const sample = samples[index];
  return make("div", {}, ...visible().map((place) => {
    const { v: values, g: signed } = sample.m[place], most = Math.max(...values.map(Math.abs), 1e-30), from = least(values);
    const line = make("p", { class: "words" });
    sample.v.forEach((word, at) => {
      const strength = Math.abs(values[at]) < from ? 0 : Math.abs(values[at]) / most;
      const [r, g, b] = signed && values[at] < 0 ? [60, 110, 220] : [225, 90, 40];
      line.append(make("mark", { style: `background: rgb(${r} ${g} ${b} / ${(strength * Math.min(0.45, shown.opacity)).toFixed(3)})`, title: said(values[at]) }, word), " ");
    });
    return make("div", { class: "method-words" }, make("span", { class: "soft" }, methods[place]), line);
  }));
};
const bars = (index, most) => {
  const sample = samples[index];
  const places = visible();
  return make("div", { class: "tiles" }, ...places.map((place) => {
    const values = sample.m[place].v, largest = Math.max(...values.map(Math.abs), 1e-30), from = least(values);
    const order = values.map((_, at) => at).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
    const rows = order.slice(0, most).filter((at) => Math.abs(values[at]) >= from).map((at) => {
      const width = 50 * Math.abs(values[at]) / largest, colour = colours.true[values[at] < 0 ? 20 : 235];
      const bar = make("i", { style: `width: ${width}%; ${values[at] < 0 ? "right" : "left"}: 50%; background: rgb(${colour.join(" ")})` });
      return make("tr", {}, make("td", { class: "feature", title: data.features[at] ?? `feature ${at}` }, data.features[at] ?? `feature ${at}`),
        make("td", { class: "value" }, said(sample.v[at])), make("td", { class: "track" }, bar), make("td", { class: "value" }, said(values[at])));
    });
    return make("div", { class: "tile" }, make("table", { class: "bars" }, make("caption", { class: "soft" }, methods[place]), make("tbody", {}, ...rows)));
  }));
};
const series = (index) => {
  const sample = samples[index], steps = sample.v.length, sensors = sample.v[0].length, width = 300, height = 120;
  return make("div", { class: "tiles" }, ...visible().map((place) => {
    const { v: map, g: signed } = sample.m[place], flat = map.flat(), most = Math.max(...flat.map(Math.abs), 1e-30), from = least(flat);
    const all = sample.v.flat(), low = Math.min(...all), high = Math.max(...all);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "series" });
    for (let sensor = 0; sensor < sensors; sensor++) {
      const top = height * sensor / sensors, tall = height / sensors;
      map.forEach((row, step) => {
        if (Math.abs(row[sensor]) < from) return;
        const colour = css(row[sensor], most, signed), alpha = shown.view === "map" ? 1 : Math.min(1, 2 * shown.opacity * Math.abs(row[sensor]) / most);
        picture.append(svg("rect", { x: width * step / steps, y: top, width: width / steps + 0.3, height: tall, fill: `rgb(${colour.join(" ")})`, "fill-opacity": alpha }));
      });
      if (shown.view === "overlay") {
        const points = sample.v.map((row, step) => `${width * (step + 0.5) / steps},${top + tall * (0.95 - 0.9 * (row[sensor] - low) / ((high - low) || 1))}`);
        picture.append(svg("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1, "vector-effect": "non-scaling-stroke" }));
      }
    }
    return make("figure", { class: "tile" }, make("div", { style: "height: 120px" }, picture), make("figcaption", {}, methods[place]));
  }));
};
const drawing = (index, whole) => kind === "image" ? pictureTiles(index) : kind === "text" ? words(index)
  : kind === "table" ? bars(index, whole ? 100 : 5) : series(index);

// Cards, of which there are only those in view
const answer = (sample) => {
  const right = isRight(sample);
  if (right !== null) return make("p", { class: "says" }, make("span", { class: right ? "right" : "wrong" }, right ? "✓ right" : "✗ wrong"),
    right ? "" : `: is ${className(sample.t)}, called ${className(sample.p)}`);
  return make("p", { class: "says" }, sample.t !== undefined ? `is ${className(sample.t)}` : " ");
};
const description = (index) => {
  const sample = samples[index], right = isRight(sample);
  return [sampleName(index), sample.c === undefined ? "" : `explained: ${className(sample.c)}`,
    sample.s === undefined ? "" : `score ${said(sample.s)}`, right === null ? "" : right ? "right" : "wrong"].filter(Boolean).join(", ");
};
const layout = () => {
  const count = Math.max(1, visible().length), gap = 14, room = $("grid").clientWidth || 1000;
  const tile = kind === "image" ? 126 : kind === "series" ? 260 : 300;
  const tiles = kind === "image" ? count + 1 : kind === "text" ? 1 : count;
  const wanted = kind === "text" ? 420 : Math.min(room, tiles * tile + 24);
  const columns = Math.max(1, Math.floor((room + gap) / (wanted + gap)));
  const width = (room - gap * (columns - 1)) / columns;
  const inner = (width - 20 - 8 * (tiles - 1)) / tiles;
  const body = kind === "image" ? inner + 24 : kind === "series" ? 146 : kind === "table" ? 176 : count * 146;
  return { columns, gap, width, height: Math.ceil(body + 76), rows: Math.ceil(state.order.length / columns) };
};
let placed = null;
const cards = new Map();
const card = (index, position) => {
  const sample = samples[index];
  const button = make("button", { type: "button", "aria-label": description(index), "aria-haspopup": "dialog" }, drawing(index, false),
    make("div", { class: "about" }, make("b", {}, sampleName(index)), make("span", {}, sample.s === undefined ? "" : `score ${said(sample.s)}`)),
    make("p", { class: "says" }, sample.c === undefined ? "" : `explained: ${className(sample.c)}`), answer(sample));
  button.addEventListener("click", () => open(position));
  button.addEventListener("focus", () => { state.focus = position; rove(); });
  return make("div", { class: "card", role: "listitem" }, button);
};
const rove = () => { for (const [position, node] of cards) node.firstChild.tabIndex = position === state.focus ? 0 : -1; };
const render = (everything = false) => {
  const grid = $("grid"), { columns, gap, width, height, rows } = placed;
  const top = grid.getBoundingClientRect().top, step = height + gap;
  let first = Math.max(0, Math.floor(-top / step) - 1), last = Math.min(rows, Math.ceil((innerHeight - top) / step) + 1);
  if (everything) { first = 0; last = Math.min(rows, Math.ceil(1000 / columns)); }
  const wanted = new Set();
  for (let position = first * columns; position < Math.min(last * columns, state.order.length); position++) wanted.add(position);
  if (state.focus < state.order.length) wanted.add(state.focus);
  for (const [position, node] of cards) if (!wanted.has(position)) { node.remove(); cards.delete(position); }
  for (const position of [...wanted].sort((a, b) => a - b)) {
    if (cards.has(position)) continue;
    const node = card(state.order[position], position);
    node.setAttribute("aria-posinset", position + 1);
    node.setAttribute("aria-setsize", state.order.length);
    Object.assign(node.style, { width: `${width}px`, height: `${height}px`, left: `${(position % columns) * (width + gap)}px`, top: `${Math.floor(position / columns) * step}px` });
    const next = [...cards.entries()].filter(([other]) => other > position).sort((a, b) => a[0] - b[0])[0];
    grid.insertBefore(node, next ? next[1] : null);
    cards.set(position, node);
    if (kind === "image") drawTiles(node, state.order[position]);
  }
  rove();
};
const relayout = () => {
  for (const node of cards.values()) node.remove();
  cards.clear();
  placed = layout();
  $("grid").style.height = `${Math.max(0, placed.rows * (placed.height + placed.gap) - placed.gap)}px`;
  render();
};
const redraw = () => {
  if (kind === "image") for (const [position, node] of cards) drawTiles(node, state.order[position]);
  else relayout();
  if (state.open >= 0) fill();
  legend();
};
const focusOn = (position) => {
  state.focus = Math.max(0, Math.min(state.order.length - 1, position));
  render();
  const node = cards.get(state.focus);
  if (!node) return;
  node.firstChild.focus({ preventScroll: true });
  node.scrollIntoView({ block: "nearest" });
  const hidden = $("looks").parentElement.getBoundingClientRect().bottom + 8 - node.getBoundingClientRect().top;
  if (hidden > 0 && getComputedStyle($("looks").parentElement).position === "sticky") scrollBy(0, -hidden);
};
$("grid").addEventListener("keydown", (event) => {
  const { columns } = placed, page = columns * Math.max(1, Math.floor(innerHeight / placed.height) - 1);
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
  if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  focusOn(state.focus + moves[event.key]);
});

// Filters and order
const numbers = [];
if (samples.some((sample) => sample.s !== undefined)) numbers.push({ name: "score", of: (sample) => sample.s });
for (const metric of metrics) methods.forEach((method, place) => {
  if (!samples.some((sample) => sample.q?.[metric.name]?.[place] !== undefined)) return;
  numbers.push({ name: methods.length > 1 ? `${metric.name}, ${method}` : metric.name, of: (sample) => sample.q?.[metric.name]?.[place] });
});
const orders = [{ name: "order of the run", of: (_, index) => index }, { name: "name", of: (_, index) => String(sampleName(index)) },
  { name: "class", of: (sample) => sample.c }, { name: "answer", of: (sample) => isRight(sample) === null ? null : +isRight(sample) }, ...numbers];
const choose = () => {
  const text = $("name").value.trim().toLowerCase(), chosen = $("class").value, wanted = $("answer").value;
  const number = numbers[+$("number").value], from = parseFloat($("least").value), to = parseFloat($("most").value);
  const fits = (sample, index) => {
    const value = number ? number.of(sample) : undefined;
    return (!text || String(sampleName(index)).toLowerCase().includes(text)) && (chosen === "" || String(sample.c) === chosen)
      && (wanted === "" || isRight(sample) === (wanted === "right"))
      && (isNaN(from) || value >= from) && (isNaN(to) || value <= to);
  };
  const order = orders[+$("sort").value], sign = state.descending ? -1 : 1, empty = (value) => value === undefined || value === null;
  state.order = samples.map((_, index) => index).filter((index) => fits(samples[index], index));
  const keys = new Map(state.order.map((index) => [index, order.of(samples[index], index)]));
  state.order.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (empty(x) || empty(y)) return empty(x) - empty(y) || a - b;
    return (x < y ? -1 : x > y ? 1 : 0) * sign || a - b;
  });
  state.focus = 0;
  $("count").textContent = state.order.length === samples.length ? `${samples.length} samples` : `${state.order.length} of ${samples.length} samples`;
  $("nothing").hidden = state.order.length > 0;
  relayout();
};
const legend = () => {
  const scale = (low, list, high) => [make("span", {}, low), make("i", { style: `background: linear-gradient(90deg, ${list.join(", ")})` }), make("span", {}, high)];
  const drawn = samples.flatMap((sample) => visible().map((place) => sample.m[place].g)), hex = (names) => names.map((name) => `#${name}`);
  const isSigned = drawn.includes(true), others = drawn.includes(false);
  const signed = kind === "text" ? ["#3c6edc", "transparent", "#e15a28"] : hex(data.colours.diverging);
  const plain = kind === "text" ? ["transparent", "#e15a28"] : hex(data.colours.sequential);
  $("legend").replaceChildren(...(others && kind !== "table" ? scale("unimportant", plain, "important") : []),
    ...(isSigned || kind === "table" ? scale("speaks against", signed, "speaks for") : []));
};

// One sample
const curves = (sample) => metrics.filter((metric) => sample.k?.[metric.name]).map((metric) => {
  const at = data.curves[metric.name], lines = sample.k[metric.name], width = 440, height = 220, left = 46, low = 28;
  const all = lines.flatMap((line) => line ?? []).filter((value) => value !== null);
  const least = Math.min(0, ...all), most = Math.max(...all, least + 1e-9);
  const x = (value) => left + (width - left - 12) * value / (at[at.length - 1] || 1), y = (value) => height - low - (height - low - 10) * (value - least) / (most - least);
  const inks = ["#d1495b", "#2f7dd1", "#3a9d5d", "#b07aa1", "#e08d3c", "#7a869a"], dashes = ["", "6 3", "2 3", "9 3 2 3"];
  const verb = metric.name.toLowerCase() === "insertion" ? "inserted" : "deleted";
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${metric.name}: the score by the share that is ${verb}` });
  picture.append(svg("path", { class: "axis", d: `M${left} 8V${height - low}H${width - 10}`, fill: "none" }));
  for (const value of [least, most]) picture.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, said(value)));
  for (const share of [0, 0.5, 1]) picture.append(svg("text", { x: x(at[at.length - 1] * share), y: height - 10, "text-anchor": "middle" }, `${Math.round(100 * at[at.length - 1] * share)} %`));
  const keys = [];
  lines.forEach((line, place) => {
    if (!line) return;
    const colour = inks[place % inks.length];
    picture.append(svg("polyline", { points: line.map((value, step) => `${x(at[step])},${y(value ?? least)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dashes[place % dashes.length] }));
    keys.push(make("span", {}, make("i", { style: `border-color: ${colour}` }), methods[place]));
  });
  return make("div", { class: "curve" }, make("h3", {}, metric.name), make("p", { class: "soft" }, `score, by the share of the input that is ${verb}, the most important first`), picture, make("div", { class: "key" }, ...keys));
});
const fill = () => {
  const index = state.order[state.open], sample = samples[index], right = isRight(sample);
  $("sample-name").textContent = sampleName(index);
  const facts = [["explained class", className(sample.c)], ["score", said(sample.s)], ["the model's answer", className(sample.p)], ["really", className(sample.t)],
    ["answer", right === null ? "–" : right ? "right" : "wrong"]].filter(([, value]) => value !== "–");
  if (kind === "image") sample.m.forEach((map, place) => facts.push([`largest value, ${methods[place]}`, said(map.x)]));
  const list = make("table", { class: "data" }, make("caption", {}, "Scores"), make("tbody", {}, ...facts.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "num" }, value)))));
  const arrow = { lower: " ↓", higher: " ↑", "": "" };
  const head = make("tr", {}, make("th", { scope: "col" }, "metric"), ...methods.map((method) => make("th", { scope: "col", class: "num" }, method)));
  const rows = metrics.map((metric) => make("tr", {}, make("th", { scope: "row" }, metric.name + arrow[metric.better]), ...methods.map((_, place) => make("td", { class: "num" }, said(sample.q?.[metric.name]?.[place])))));
  const judged = metrics.length ? make("table", { class: "data" }, make("caption", {}, "Metrics"), make("thead", {}, head), make("tbody", {}, ...rows)) : null;
  const tiles = drawing(index, true);
  $("sample-body").replaceChildren(tiles, make("div", { class: "below" }, list, judged, ...curves(sample)));
  if (kind === "image") drawTiles(tiles, index);
  $("before").disabled = state.open === 0;
  $("after").disabled = state.open === state.order.length - 1;
};
const open = (position) => { state.open = position; fill(); if (!$("sample").open) $("sample").showModal(); };
const step = (by) => { const to = state.open + by; if (to >= 0 && to < state.order.length) { state.open = to; fill(); } };
$("before").addEventListener("click", () => step(-1));
$("after").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("sample").close());
$("sample").addEventListener("click", (event) => { if (event.target === $("sample")) $("sample").close(); });
$("sample").addEventListener("keydown", (event) => { if (event.key === "ArrowLeft") step(-1); if (event.key === "ArrowRight") step(1); });
$("sample").addEventListener("close", () => { const position = state.open; state.open = -1; focusOn(position); });

// Controls
methods.forEach((method, place) => {
  const box = make("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    shown.methods[place] = box.checked;
    if (!visible().length) { shown.methods[place] = true; box.checked = true; }
    relayout();
    legend();
    if (state.open >= 0) fill();
  });
  $("methods").append(make("label", {}, box, make("span", {}, method)));
});
const classes = [...new Set(samples.map((sample) => sample.c).filter((value) => value !== undefined))].sort((a, b) => a - b);
for (const index of classes) $("class").append(make("option", { value: String(index) }, className(index)));
$("class").parentElement.hidden = !classes.length;
$("answer").parentElement.hidden = !samples.some((sample) => isRight(sample) !== null);
numbers.forEach((number, place) => $("number").append(make("option", { value: String(place) }, number.name)));
$("number").closest("fieldset").hidden = !numbers.length;
orders.forEach((order, place) => {
  if (place < 2 || samples.some((sample, index) => { const value = order.of(sample, index); return value !== undefined && value !== null; }))
    $("sort").append(make("option", { value: String(place) }, order.name));
});
if (kind === "text" || kind === "table") $("views").hidden = true;
if (kind === "table") $("opacity").parentElement.hidden = true;
let waiting = 0;
const soon = (work) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(work); };
$("views").addEventListener("change", (event) => { shown.view = event.target.value; redraw(); });
$("opacity").addEventListener("input", () => { shown.opacity = $("opacity").value / 100; $("opacity-said").textContent = `${$("opacity").value} %`; soon(redraw); });
$("share").addEventListener("input", () => { shown.share = $("share").value / 100; $("share-said").textContent = shown.share >= 1 ? "all" : `${$("share").value} %`; soon(redraw); });
for (const id of ["name", "class", "answer", "number", "least", "most", "sort"]) $(id).addEventListener("input", choose);
$("direction").addEventListener("click", () => {
  state.descending = !state.descending;
  $("direction").textContent = state.descending ? "Descending" : "Ascending";
  $("direction").setAttribute("aria-pressed", String(state.descending));
  choose();
});
const reset = () => {
  for (const id of ["name", "class", "answer", "least", "most"]) $(id).value = "";
  $("number").selectedIndex = 0; $("sort").selectedIndex = 0;
  if (state.descending) $("direction").click(); else choose();
};
$("reset").addEventListener("click", reset);
$("reset-too").addEventListener("click", reset);
const themes = ["system", "light", "dark"];
let theme = 0;
$("theme").addEventListener("click", () => {
  theme = (theme + 1) % themes.length;
  if (theme) document.documentElement.dataset.theme = themes[theme]; else delete document.documentElement.dataset.theme;
  $("theme").textContent = `Theme: ${themes[theme]}`;
});
addEventListener("scroll", () => requestAnimationFrame(() => render()), { passive: true });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; relayout(); } else render(); });
addEventListener("beforeprint", () => render(true));
addEventListener("afterprint", () => relayout());
choose();
legend();
document.documentElement.dataset.ready = "yes";
})();
