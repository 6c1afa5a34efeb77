// Figures of exams side by side: the engine's own first, then the stored reports that are picked. Value: {name, skipped:
// {figure: why}, reports: [{name, engine, weights, count, when, page, figures: [{name, what, value, unit, goal, better,
// missed, n, chance, low, high}]}], differences: [{other, figure, value, low, high, n}]}. Given: engine.
const MOST = 3;  // that are picked
let picked = ["shipped"];

const base = () => window.gradio_config.root;
const BRIEF = ["%", "s", "ms"];  // units that stand beside a value; others are told with the goal
const number = (value) => String(Math.round(value * 1000) / 1000);
const known = () => props.value.reports;
const own = () => known().find(({ name }) => name === props.value.name);
const shown = () => [own(), ...picked.filter((name) => name !== props.value.name).map((name) => known().find((one) => one.name === name))]
  .map((one, place) => one && { ...one, place }).filter(Boolean);

const about = ({ name, engine, weights, count, when }) => {
  const mine = name === props.value.name, title = mine ? given.engine : engine;
  return [node("b", { textContent: title, translate: false }),
    node("span", { className: "omni-note" }, ...(mine || name === "shipped" ? [] : [node("span", { textContent: `${weights} `, translate: false })]),
      node("span", { textContent: [mine ? "this engine" : "", name === "shipped" ? weights : "", count ? `${count} questions a part` : "", when].filter(Boolean).join(" · ") }))];
};

const picks = () => {
  const others = known().filter(({ name }) => name !== props.value.name);
  if (!others.length) return null;
  const choose = (name) => () => {
    picked = picked.includes(name) ? picked.filter((one) => one !== name) : [...picked, name].slice(-MOST);
    draw();
    root.querySelector(`[data-pick="${CSS.escape(name)}"]`)?.focus();
  };
  return node("div", { className: "omni-picks", role: "group", ariaLabel: "Compare with" }, node("span", { className: "omni-note", textContent: "Compare with" }),
    ...others.map((one) => node("button", { type: "button", ariaPressed: String(picked.includes(one.name)), data: { pick: one.name }, on: { click: choose(one.name) } }, ...about(one))));
};

const legend = (all) => node("ul", { className: "omni-series" }, ...all.map((one) => node("li", { data: { place: one.place } }, node("i"), ...about(one),
  ...(one.page ? [
    node("a", { href: `${base()}/omni-exam/${encodeURIComponent(one.name)}`, target: "_blank", textContent: "Answers" }),
    node("a", { href: `${base()}/omni-exam/${encodeURIComponent(one.name)}`, download: `${one.name}.html`, title: "Download the report", ariaLabel: "Download the report" }, icon("download")),
  ] : []))));

const bar = (one, full) => {
  const place = (value) => `${Math.min(100, Math.max(0, 100 * value / full))}%`;
  const track = node("span", { className: "omni-mark-track" });
  const mark = (className, style) => { const made = node("i", { className }); Object.assign(made.style, style); track.append(made); };
  mark("omni-mark-fill", { width: place(one.value) });
  if (one.low != null) mark("omni-mark-span", { left: place(one.low), width: `calc(${place(one.high)} - ${place(one.low)})` });
  if (one.chance != null) mark("omni-mark-chance", { left: place(one.chance) });
  if (one.goal != null) mark("omni-mark-goal", { left: place(one.goal) });
  return track;
};

const mark = (one, place, full) => node("div", { className: "omni-mark", data: { place } }, bar(one, full),
  node("b", { data: { goal: one.goal == null ? "none" : one.missed ? "missed" : "met" }, title: one.goal == null ? "" : one.missed ? "Goal missed" : "Goal met" },
    node("span", { textContent: number(one.value) }), BRIEF.includes(one.unit) ? node("small", { textContent: one.unit }) : null),
  node("small", { className: "omni-note" }, node("span", { textContent: one.low == null ? "" : `${number(one.low)}–${number(one.high)}` }), node("span", { textContent: `n ${one.n}` })));

// How much higher the engine's own exam stands than another, question by question.
const signed = (value) => (value > 0 ? `+${number(value)}` : number(value).replace("-", "−"));
const paired = (report, figure, unit) => {
  const one = props.value.differences.find(({ other, figure: of }) => other === report.name && of === figure);
  if (!one) return null;
  const certain = one.low > 0 || one.high < 0;
  const said = [`this engine differs by ${signed(one.value)} ${unit === "%" ? "points" : unit}`, `95% interval ${signed(one.low)} to ${signed(one.high)}`,
    `${one.n} questions in common`, certain ? "" : "may be chance"];
  return node("p", { className: "omni-paired", data: { certain }, textContent: said.filter(Boolean).join(" · ") });
};

const row = (name, all) => {
  const measured = all.map(({ figures }) => figures.find((one) => one.name === name));
  const first = measured.find(Boolean), numbers = measured.filter(Boolean).flatMap(({ value, high, goal, chance }) => [value, high, goal, chance]).filter((one) => one != null);
  const full = ["%", "points"].includes(first.unit) && first.better === "higher" ? 100 : Math.max(1e-9, ...numbers);
  const lines = measured.flatMap((one, index) => one ? [mark(one, all[index].place, full), paired(all[index], name, one.unit)] : []);
  const terms = [BRIEF.includes(first.unit) ? "" : first.unit, first.goal == null ? "" : `goal ${first.better === "higher" ? "≥" : "≤"} ${number(first.goal)}`, first.chance == null ? "" : `chance ${number(first.chance)}`];
  return node("li", {}, node("div", {}, node("code", { textContent: name }), node("p", { className: "omni-note", textContent: first.what }),
    node("p", { className: "omni-terms", textContent: terms.filter(Boolean).join(" · ") })), node("div", {}, ...lines.filter(Boolean)));
};

const leftOut = () => {
  const reasons = new Map();
  for (const [name, why] of Object.entries(props.value.skipped)) reasons.set(why, [...(reasons.get(why) ?? []), name]);
  if (!reasons.size) return null;
  return node("div", { className: "omni-skipped" }, node("h3", { textContent: "Not asked of this engine" }),
    ...[...reasons].map(([why, rows]) => node("p", { className: "omni-note" }, ...rows.map((name) => node("code", { textContent: name })), node("span", { textContent: why }))));
};

const draw = () => {
  const all = shown(), names = [...new Set(known().flatMap(({ figures }) => figures.map(({ name }) => name)))].filter((name) => all.some(({ figures }) => figures.some((one) => one.name === name)));
  root.hidden = !known().length;
  const key = node("p", { className: "omni-key" }, ...[["goal", "goal"], ["chance", "chance"], ["span", "95% interval"]].map(([kind, label]) =>
    node("span", {}, node("i", { className: `omni-mark-${kind}` }), node("span", { textContent: label }))));
  root.replaceChildren(...[node("h2", { textContent: "Figures" }), picks(), all.length ? legend(all) : null, all.length ? key : null,
    node("ul", { className: "omni-marks" }, ...names.map((name) => row(name, all))), leftOut()].filter(Boolean));
};
watch("value", draw);
draw();
