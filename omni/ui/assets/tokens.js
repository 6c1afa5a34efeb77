// Which experts took which tokens: a map of layers and experts, coloured by modality, and the tokens of the reply in
// their order. Given: shows, engine. Value: {name, state, title, pools: {pool: {layers, experts, k}},
// at: when it was asked, read: {pool: {kind: counts}}, runs: {number: [[pool, [[kind, how many]], pieces, experts]]}, alike: {pool: [0..1]}}.
const KINDS = { text: "Text", speech: "Speech", image: "Picture", video: "Clip", audio: "Sound", mark: "Marks" };
const EDGE = { left: 26, top: 20, right: 46 };
let trace = { name: null, seen: 0, tokens: [], made: {} };
let hidden = new Set();
let side = "made";
let chosen = null;  // the token whose way is shown
let cell = null;    // the expert whose tokens are shown: {pool, layer, expert}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const numbers = (count, of = 1) => Array.from({ length: count }, (_, index) => index * of);
const percent = (share) => `${Math.round(100 * share)} %`;

// ---- what is known

const grow = () => {
  const { name, runs, pools } = props.value;
  if (name !== trace.name) {
    trace = { name, seen: 0, tokens: [], made: {} };
    chosen = cell = null;
    hidden.clear();
    strip.replaceChildren();
  }
  for (; runs[trace.seen]; trace.seen++)
    for (const [pool, kinds, pieces, packed] of runs[trace.seen]) {
      const { layers, experts, k } = pools[pool];
      const counts = trace.made[pool] ??= {};
      const all = new Int16Array(bytes(packed));
      let place = 0;
      for (const [kind, many] of kinds)
        for (const end = place + many; place < end; place++) {
          const way = all.subarray(place * layers * k, (place + 1) * layers * k);
          counts[kind] ??= new Int32Array(layers * experts);
          way.forEach((expert, index) => { if (expert >= 0) counts[kind][Math.floor(index / k) * experts + expert] += 1; });
          trace.tokens.push({ pool, kind, piece: pieces[place] ?? "", way });
        }
    }
};

let decoded = {};  // counts of what was read, by their text
const countsOf = (pool) => {
  const read = Object.entries(props.value.read[pool] ?? {}).map(([kind, text]) => [kind, decoded[text] ??= new Int32Array(bytes(text))]);
  const sides = { made: [trace.made[pool] ?? {}], read: [Object.fromEntries(read)] };
  const sums = {};
  for (const counts of side === "both" ? [...sides.made, ...sides.read] : sides[side])
    for (const [kind, taken] of Object.entries(counts))
      if (!hidden.has(kind)) sums[kind] = sums[kind] ? sums[kind].map((count, index) => count + taken[index]) : taken;
  return sums;
};

// ---- the map

const sizeOf = (canvas, { layers, experts }) => {
  const width = canvas.parentElement.clientWidth;
  const row = layers <= 12 ? 30 : layers <= 24 ? 16 : 9;
  const right = Object.keys(props.value.alike).length ? EDGE.right : 4;
  return { width, height: EDGE.top + layers * row, row, column: (width - EDGE.left - right) / experts, right };
};

const drawCell = (pen, parts, total, most, x, y, width, height) => {
  pen.globalAlpha = 0.16 + 0.84 * (total / most);
  if (width < 14) parts = [parts.reduce((one, other) => (other[1] > one[1] ? other : one))];
  const sum = parts.reduce((so, [, count]) => so + count, 0);
  for (const [kind, count] of parts) {
    pen.fillStyle = colours[kind];
    pen.fillRect(x, y, width * count / sum, height);
    x += width * count / sum;
  }
  pen.globalAlpha = 1;
};

const drawAxes = (pen, { layers, experts }, { row, column, width }, alike) => {
  pen.fillStyle = colours.soft;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "center";
  const every = column > 22 ? 1 : column > 9 ? 8 : 32;
  for (const expert of numbers(Math.ceil(experts / every), every)) pen.fillText(expert, EDGE.left + (expert + 0.5) * column, 9);
  pen.textAlign = "right";
  const step = row > 12 ? 1 : 8;
  for (const layer of numbers(Math.ceil(layers / step), step)) pen.fillText(layer + 1, EDGE.left - 7, EDGE.top + (layer + 0.5) * row);
  if (!alike) return;
  for (const layer of numbers(Math.ceil(layers / step), step)) pen.fillText(percent(alike[layer]), width - 2, EDGE.top + (layer + 0.5) * row);
};

// The way of a token: its experts framed, the first of each layer joined by a line.
const drawWay = (pen, token, { layers, k }, { row, column }) => {
  const middle = (layer, expert) => [EDGE.left + (expert + 0.5) * column, EDGE.top + (layer + 0.5) * row];
  pen.strokeStyle = pen.fillStyle = colours.ink;
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const layer of numbers(layers)) if (token.way[layer * k] >= 0) pen.lineTo(...middle(layer, token.way[layer * k]));
  pen.stroke();
  token.way.forEach((expert, index) => {
    if (expert < 0) return;
    const [x, y] = middle(Math.floor(index / k), expert);
    pen.lineWidth = index % k ? 1.5 : 2.5;
    pen.strokeRect(x - column / 2 + 1.5, y - row / 2 + 1.5, Math.max(3, column - 3), row - 3);
  });
};

let colours = {};
const drawMap = (canvas) => {
  const pool = canvas.dataset.pool, shape = props.value.pools[pool], size = sizeOf(canvas, shape);
  const ratio = window.devicePixelRatio || 1;
  canvas.width = size.width * ratio;
  canvas.height = size.height * ratio;
  canvas.style.height = `${size.height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  drawAxes(pen, shape, size, props.value.alike[pool]);
  const counts = Object.entries(countsOf(pool)), gap = size.column > 6 ? 2 : 0.5;
  for (const layer of numbers(shape.layers)) {
    const row = numbers(shape.experts).map((expert) => {
      const parts = counts.map(([kind, taken]) => [kind, taken[layer * shape.experts + expert]]).filter(([, count]) => count);
      return { parts, total: parts.reduce((so, [, count]) => so + count, 0) };
    });
    const most = Math.max(...row.map(({ total }) => total));
    pen.fillStyle = colours.well;
    if (size.column < 9) pen.fillRect(EDGE.left, EDGE.top + layer * size.row + gap / 2, shape.experts * size.column, size.row - gap);
    row.forEach(({ parts, total }, expert) => {
      const box = [EDGE.left + expert * size.column + gap / 2, EDGE.top + layer * size.row + gap / 2, size.column - gap, size.row - gap];
      pen.fillStyle = colours.well;
      if (size.column >= 9) pen.fillRect(...box);
      if (total) drawCell(pen, parts, total, most, ...box);
    });
  }
  const token = trace.tokens[chosen];
  if (token?.pool === pool) drawWay(pen, token, shape, size);
  if (cell?.pool === pool) {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 2.5;
    pen.strokeRect(EDGE.left + cell.expert * size.column + 1, EDGE.top + cell.layer * size.row + 1, Math.max(3, size.column - 2), size.row - 2);
  }
};

const cellAt = (canvas, event) => {
  const pool = canvas.dataset.pool, shape = props.value.pools[pool], size = sizeOf(canvas, shape);
  const layer = Math.floor((event.offsetY - EDGE.top) / size.row), expert = Math.floor((event.offsetX - EDGE.left) / size.column);
  return layer >= 0 && layer < shape.layers && expert >= 0 && expert < shape.experts ? { pool, layer, expert } : null;
};

const point = (canvas, event) => {
  const found = cellAt(canvas, event);
  if (JSON.stringify(found) === JSON.stringify(cell)) return;
  cell = found;
  chosen = null;
  mark();
};

// ---- the tokens

const named = ({ kind, piece }) => (piece.trim() ? `“${piece.trim()}”` : `a ${KINDS[kind].toLowerCase()} code`);
const wayOf = ({ pool, way }) => {
  const { layers, k } = props.value.pools[pool];
  if (way[0] < 0) return "nothing came after it, so no expert took it";
  if (layers * k > 24) return `its first expert, layer by layer, is ${numbers(layers).map((layer) => way[layer * k]).join(", ")}`;
  return numbers(layers).map((layer) => `layer ${layer + 1}: ${[...way.subarray(layer * k, (layer + 1) * k)].join(" and ")}`).join(", ");
};
const told = (token) => {
  const from = Object.keys(props.value.pools).length > 1 ? `, ${token.pool}` : "";
  return `Token ${trace.tokens.indexOf(token) + 1} of ${trace.tokens.length}, ${named(token)} (${KINDS[token.kind].toLowerCase()}${from}): ${wayOf(token)}`;
};
const toldOf = ({ pool, layer, expert }) => {
  const counts = Object.entries(countsOf(pool)), { experts } = props.value.pools[pool];
  const here = counts.map(([kind, taken]) => [kind, taken[layer * experts + expert]]).filter(([, count]) => count);
  const sum = here.reduce((so, [, count]) => so + count, 0);
  const shares = here.sort((one, other) => other[1] - one[1]).map(([kind, count]) => `${KINDS[kind].toLowerCase()} ${count}`);
  return `Layer ${layer + 1}, expert ${expert}: ${sum} tokens${sum ? ` (${shares.join(", ")})` : ""}`;
};

const addTokens = () => {
  const fresh = trace.tokens.slice(strip.childElementCount).map((token) => {
    const words = token.piece.trim();
    return node("i", { data: { kind: token.kind }, className: words ? "omni-piece" : "", textContent: words ? token.piece : "", translate: false });
  });
  strip.append(...fresh);
};

let framed = null;
const mark = () => {
  framed?.classList.remove("omni-chosen");
  framed = chosen === null ? null : strip.children[chosen];
  framed?.classList.add("omni-chosen");
  const dims = cell && props.value.pools[cell.pool];
  strip.classList.toggle("omni-dimmed", Boolean(cell));
  if (cell) trace.tokens.forEach(({ pool, way }, index) => {
    const through = pool === cell.pool && way.subarray(cell.layer * dims.k, (cell.layer + 1) * dims.k).includes(cell.expert);
    strip.children[index].classList.toggle("omni-through", through);
  });
  const token = trace.tokens[chosen];
  readout.textContent = token ? told(token) : cell ? toldOf(cell) : "Point at a token to see its experts, or at an expert to see its tokens.";
  strip.setAttribute("aria-valuemax", Math.max(1, trace.tokens.length));
  strip.setAttribute("aria-valuenow", (chosen ?? 0) + 1);
  strip.setAttribute("aria-valuetext", token ? told(token) : "no token chosen");
  maps.querySelectorAll("canvas").forEach(drawMap);
};

const choose = (index, follow = false) => {
  if (!trace.tokens.length) return;
  chosen = index === null ? null : Math.min(trace.tokens.length - 1, Math.max(0, index));
  cell = null;
  mark();
  if (follow) framed?.scrollIntoView({ block: "nearest" });
};
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity };
const keys = (event) => {
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  choose((chosen ?? -1) + STEPS[event.key], true);
};
const touch = (event) => {
  const index = [...strip.children].indexOf(event.target);
  if (index >= 0 && index !== chosen) choose(index);
};

// ---- export

const counted = (text, { layers, experts }) => {
  const counts = new Int32Array(bytes(text));
  return numbers(layers).map((layer) => [...counts.subarray(layer * experts, (layer + 1) * experts)]);
};
const everything = () => {
  const { name, state, title, pools, read, alike } = props.value;
  const tokens = trace.tokens.map(({ pool, kind, piece, way }) => ({ pool, kind, piece,
    experts: way[0] < 0 ? null : numbers(pools[pool].layers).map((layer) => [...way.subarray(layer * pools[pool].k, (layer + 1) * pools[pool].k)]) }));
  const readBy = Object.fromEntries(Object.entries(read).map(([pool, kinds]) =>
    [pool, Object.fromEntries(Object.entries(kinds).map(([kind, text]) => [kind, counted(text, pools[pool])]))]));
  const beside = Object.fromEntries(["turn", "memory", "cost", "card"].map((one) => [one, document.querySelector(`.omni-${one}`)?.told]));
  return { engine: given.engine, name, state, question: title, pools, tokens, read: readBy, modality_tells: alike, ...beside };
};
const save = () => {
  const url = URL.createObjectURL(new Blob([JSON.stringify(everything(), null, 1)], { type: "application/json" }));
  node("a", { href: url, download: "omni-inside.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};

// ---- the panel

const heading = node("p", { className: "omni-asked", translate: false });
const legend = node("div", { className: "omni-legend" });
const maps = node("div", { className: "omni-maps", on: { pointerleave: () => { cell = null; mark(); } } });
const readout = node("p", { className: "omni-readout" });
const strip = node("div", { className: "omni-strip", tabIndex: 0, role: "slider", ariaLabel: "Tokens of the reply", ariaValueMin: 1,
  on: { keydown: keys, pointerover: touch, click: touch } });
const note = node("p", { className: "omni-note" });
const download = node("button", { type: "button", className: "omni-save", textContent: "Save as JSON", on: { click: save } });
root.append(node("header", {}, node("h2", { textContent: "Inside the last reply" }), download), heading, legend, maps, readout, strip, note);

const toggle = (pressed, label, click, kind) => node("button", { type: "button", ariaPressed: String(pressed), data: kind ? { kind } : {},
  on: { click: () => { click(); draw(); } } }, kind ? node("i", { data: { kind } }) : null, node("span", { textContent: label }));
const drawLegend = () => {
  const kinds = new Set(Object.keys(props.value.pools).flatMap((pool) => [...Object.keys(trace.made[pool] ?? {}), ...Object.keys(props.value.read[pool] ?? {})]));
  const sides = { made: "Reply", read: "Question", both: "Both" };
  const key = JSON.stringify([...kinds, side, ...hidden]);
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  legend.replaceChildren(
    node("div", { className: "omni-sides" }, ...Object.entries(sides).map(([one, label]) => toggle(side === one, label, () => { side = one; }))),
    ...Object.keys(KINDS).filter((kind) => kinds.has(kind)).map((kind) =>
      toggle(!hidden.has(kind), KINDS[kind], () => (hidden.has(kind) ? hidden.delete(kind) : hidden.add(kind)), kind)));
};

const drawMaps = () => {
  const pools = Object.keys(props.value.pools);
  const shown = [...maps.querySelectorAll("canvas")].map((canvas) => canvas.dataset.pool);
  if (pools.join() === shown.join()) return;
  maps.replaceChildren(...pools.map((pool) => {
    const { layers, experts, k } = props.value.pools[pool];
    const label = `${pools.length > 1 ? `${pool}: ` : ""}${layers} layers of ${experts} experts, ${k} take each token`;
    const canvas = node("canvas", { data: { pool }, role: "img", ariaLabel: `Map of tokens by layer and expert. ${label}` });
    canvas.addEventListener("pointermove", (event) => point(canvas, event));
    canvas.addEventListener("click", (event) => point(canvas, event));
    return node("figure", {}, node("figcaption", { textContent: `Rows are layers, columns are experts. ${label}.` }), canvas);
  }));
};

const draw = () => {
  const { state, title, alike, name } = props.value;
  root.dataset.state = state;
  download.hidden = state === "empty" || state === "live";
  grow();
  const nothing = given.shows ? "" : ` ${given.engine} runs elsewhere and does not show its experts; what a reply takes is shown all the same.`;
  heading.textContent = name ? title : `Ask something in the chat: here you see what happened inside while it was answered.${nothing}`;
  const traced = trace.tokens.length > 0 || Object.keys(props.value.read).length > 0;
  for (const part of [legend, maps, readout, strip, note]) part.hidden = !traced;
  if (!traced || !root.offsetParent) return;
  const style = getComputedStyle(root), named = ["ink", "soft", "well", ...Object.keys(KINDS).map((kind) => `kind-${kind}`)];
  colours = Object.fromEntries(named.map((name) => [name.replace("kind-", ""), style.getPropertyValue(`--omni-${name}`).trim()]));
  const watched = strip.matches(":hover, :focus") || cell;
  if (state === "live" && !watched) chosen = trace.tokens.length - 1;
  else if (root.dataset.was === "live" && !watched) chosen = null;
  root.dataset.was = state;
  note.textContent = Object.keys(alike).length
    ? "The stronger a colour, the more of the layer's tokens went there. At the right: how much the modality of a token tells of its experts (mutual information, normalised)."
    : "The stronger a colour, the more of the layer's tokens went there.";
  drawLegend();
  drawMaps();
  addTokens();
  mark();
};

let width = 0;
new ResizeObserver(([entry]) => { if (entry.contentRect.width !== width) { width = entry.contentRect.width; if (width) draw(); } }).observe(root);
let dark = document.body.classList.contains("dark");
new MutationObserver(() => { if (document.body.classList.contains("dark") !== dark) { dark = !dark; draw(); } }).observe(document.body, { attributeFilter: ["class"] });
const update = onNews(() => {
  const { state, name, read, runs } = props.value;
  return [name, state, Object.keys(runs).length, Object.values(read).flatMap(Object.keys).length];
}, draw);
watch("value", update);
watchLive("tokens", update);
draw();
