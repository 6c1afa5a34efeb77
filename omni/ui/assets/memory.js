// Where the model is, and a slider for the memory of its experts, with what that does to the running reply beside it.
// Value: {known, may, how, failed, device, on_gpu, held, budget, least, most, everything, tier, file, process, ram, gpu,
// gpu_total, pools: {name: {layers, experts, bytes, resident, count}}}. Triggers: look, allot.
const SVG = "http://www.w3.org/2000/svg";
const size = (amount) => (amount >= 1e9 ? `${(amount / 1e9).toFixed(2)} GB` : `${(amount / 1e6).toFixed(1)} MB`);
const draft = { bytes: null };  // while the slider is held
let pace = [];

const figure = node("p", { className: "omni-figure" });
const slider = node("input", { type: "range", ariaLabel: "Memory for experts", on: {
  input: () => { draft.bytes = Number(slider.value); drawSlider(); },
  change: () => allot(Number(slider.value)),
} });
const presets = node("div", { className: "omni-presets" });
const told = node("p", { className: "omni-note" });
told.setAttribute("role", "status");
const bars = node("ul", { className: "omni-tiers" });
const residents = node("div", { className: "omni-residents" });
const charts = node("div", { className: "omni-charts" });
root.append(node("h2", { textContent: "Memory" }), figure, slider, presets, told, charts, bars, residents);

const allot = (bytes) => { draft.bytes = bytes; drawSlider(); trigger("allot", { bytes: Math.round(bytes) }); };

const slots = (bytes) => {
  const pools = Object.values(props.value.pools), all = pools.reduce((sum, { layers, experts }) => sum + layers * experts, 0);
  return `${Math.floor(all * Math.min(1, bytes / props.value.everything))} of ${all} experts`;
};

const drawSlider = () => {
  const { budget, least, most, may, how, failed, pools } = props.value;
  const now = draft.bytes ?? budget;
  Object.assign(slider, { min: least, max: most, step: Math.max(1, Math.min(...Object.values(pools).map(({ bytes }) => bytes))), disabled: !may || least >= most });
  slider.value = now;
  slider.setAttribute("aria-valuetext", `${size(now)}, ${slots(now)}`);
  slider.style.setProperty("--omni-share", `${100 * (now - least) / Math.max(1, most - least)}%`);
  figure.replaceChildren(size(now), node("small", { textContent: `for experts: ${slots(now)} at once` }));
  told.textContent = failed || (may ? "Takes effect at once, also on a reply that is being made. Answers stay the same; only their speed changes." : how);
  told.dataset.failed = Boolean(failed);
  const marks = { Least: least, Half: (least + most) / 2, All: most };
  presets.replaceChildren(...Object.entries(marks).map(([label, bytes]) => node("button", { type: "button", textContent: label, disabled: !may || least >= most, on: { click: () => allot(bytes) } })));
};

const drawBars = () => {
  const { device, on_gpu: onGpu, held, everything, tier, file, process, ram, gpu, gpu_total: gpuTotal } = props.value;
  const bar = (name, part, whole, line) => {
    const fill = node("b");
    fill.style.width = `${Math.min(100, 100 * part / Math.max(1, whole))}%`;
    return node("li", {}, node("span", { textContent: name }), node("span", { className: "omni-track" }, fill), node("span", { textContent: line }));
  };
  const of = (part, whole) => `${size(part)} of ${size(whole)}`;
  bars.replaceChildren(
    bar(onGpu ? "Experts on the GPU" : "Experts in RAM", held, everything, of(held, everything)),
    ...(onGpu ? [bar("Experts in RAM", tier, everything, of(tier, everything)), bar("GPU, whole model", gpu, gpuTotal, of(gpu, gpuTotal))] : []),
    bar("RAM, whole process", process, ram, of(process, ram)),
    bar("File of all experts", file, file, size(file)));
  bars.append(node("li", { className: "omni-note", textContent: `It computes on ${device}.` }));
};

const drawResidents = () => {
  residents.replaceChildren(...Object.entries(props.value.pools).map(([name, { layers, experts, resident, count }]) => {
    const bits = Uint8Array.from(atob(resident), (letter) => letter.charCodeAt(0));
    const label = `${Object.keys(props.value.pools).length > 1 ? `${name}: ` : ""}${count} of ${layers * experts} experts are in the fast memory now`;
    const column = experts > 16 ? 3 : 26, row = experts > 16 ? 4 : 12, gap = experts > 16 ? 1 : 3;
    const canvas = node("canvas", { width: 2 * experts * column, height: 2 * layers * row, role: "img", ariaLabel: label });
    canvas.style.width = `${experts * column}px`;
    const pen = canvas.getContext("2d"), style = getComputedStyle(root);
    pen.scale(2, 2);
    for (let index = 0; index < layers * experts; index++) {
      pen.fillStyle = style.getPropertyValue(bits[index >> 3] >> (7 - (index & 7)) & 1 ? "--omni-accent" : "--omni-well");
      pen.fillRect(index % experts * column, Math.floor(index / experts) * row, column - gap, row - gap);
    }
    return node("figure", {}, canvas, node("figcaption", { textContent: label }));
  }));
};

// ---- what it does to the reply: tokens a second, hits, waiting, by quarter of a second

const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const steps = () => pace.map(([time, made, used, fetched, , stalled, , budget], index) => {
  const [before, madeBefore, usedBefore, fetchedBefore, , stalledBefore] = pace[index - 1] ?? [0, 0, 0, 0, 0, 0];
  const took = Math.max(1e-3, time - before), uses = used - usedBefore;
  return { time, speed: (made - madeBefore) / took, hits: uses ? 100 * (1 - (fetched - fetchedBefore) / uses) : null,
    waits: Math.min(100, 100 * (stalled - stalledBefore) / took), budget };
});
const line = (points, key, top, name, value) => {
  const last = points.at(-1).time, x = ({ time }) => 100 * time / last, y = (one) => 34 - 32 * one[key] / top;
  const known = points.filter((one) => one[key] !== null);
  const path = known.map((one, index) => `${index ? "L" : "M"}${x(one).toFixed(2)} ${y(one).toFixed(2)}`).join("");
  const changes = points.filter((one, index) => index && one.budget !== points[index - 1].budget);
  const chart = svg("svg", { viewBox: "0 0 100 36", preserveAspectRatio: "none", "aria-hidden": "true" },
    ...changes.map((one) => svg("line", { x1: x(one), x2: x(one), y1: 0, y2: 36, class: "omni-change" })),
    svg("path", { d: path, class: "omni-pace" }));
  return node("figure", {}, node("figcaption", {}, node("span", { textContent: name }), node("b", { textContent: value })), chart);
};
const drawCharts = () => {
  const points = steps();
  charts.hidden = points.length < 2;
  if (charts.hidden || !root.offsetParent) return;
  const [time, made, used, fetched, , stalled] = pace.at(-1), now = points.at(-1), live = root.dataset.state === "live";
  const speed = live ? now.speed : made / time, hits = live ? now.hits ?? 100 : 100 * (1 - fetched / Math.max(1, used));
  const waits = live ? now.waits : 100 * stalled / time;
  charts.replaceChildren(
    line(points, "speed", Math.max(1, ...points.map((one) => one.speed)), "tokens a second", speed.toFixed(0)),
    line(points, "hits", 100, "found in memory", `${hits.toFixed(hits > 99.94 || hits < 99 ? 0 : 1)} %`),
    line(points, "waits", Math.max(10, ...points.map((one) => one.waits)), "time spent waiting", `${waits.toFixed(1)} %`),
    line(points, "budget", props.value.everything, "memory allowed", size(now.budget)));
};

const draw = () => {
  root.told = props.value;
  if (!props.value.known) {
    root.replaceChildren(node("h2", { textContent: "Memory" }), node("p", { className: "omni-note", textContent: "This engine runs elsewhere: where its memory is cannot be seen from here." }));
    return;
  }
  draft.bytes = null;
  drawSlider();
  drawBars();
  drawResidents();
  drawCharts();
};
const follow = (turn) => {
  root.dataset.state = turn.state;
  pace = Object.values(turn.pace);  // keys that are numbers come in their order
  if (props.value.known) drawCharts();
};
const known = document.querySelector(".omni-turn")?.told;  // whichever of the two is drawn first
if (known) follow(known);
document.addEventListener("omni-turn", ({ detail }) => follow(detail));
document.addEventListener("omni-idle", () => { if (root.offsetParent && props.value.known) trigger("look"); });
new ResizeObserver(() => { if (root.offsetParent && props.value.known) { drawCharts(); drawResidents(); } }).observe(root.parentElement);
watch("value", draw);
draw();
