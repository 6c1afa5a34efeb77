// What the last task would cost elsewhere: its words, pictures, seconds of sound and clip at prices that the visitor sets
// and the browser keeps. An API is sent the whole thread with every question, so all media of the thread count as read.
const KEPT = "omni-prices";
const PRICES = {  // name, unit, round figure to begin with, how much of it the task has
  text_in: ["Text read", "million tokens", 0.5, ({ usage }) => (usage.tokens_in.text ?? 0) / 1e6, (many) => `${Math.round(many * 1e6).toLocaleString()} tokens`],
  pictures_in: ["Pictures read", "picture", 0.001, ({ media }) => media.in.pictures, (many) => `${many}`],
  sound_in: ["Sound heard", "minute", 0.006, ({ media }) => media.in.sound / 60, (many) => `${(many * 60).toFixed(1)} s`],
  clips_in: ["Clips watched", "minute", 0.02, ({ media }) => media.in.clips / 60, (many) => `${(many * 60).toFixed(1)} s`],
  text_out: ["Text written", "million tokens", 3, ({ usage }) => (usage.tokens_out.text ?? 0) / 1e6, (many) => `${Math.round(many * 1e6).toLocaleString()} tokens`],
  speech_out: ["Speech", "minute", 0.02, ({ media }) => media.out.sound / 60, (many) => `${(many * 60).toFixed(1)} s`],
  pictures_out: ["Pictures made", "picture", 0.04, ({ media }) => media.out.pictures, (many) => `${many}`],
  clips_out: ["Clips made", "second", 0.1, ({ media }) => media.out.clips, (many) => `${many.toFixed(1)} s`],
  energy: ["Electricity here", "kWh", 0.3, ({ usage }) => Object.values(usage.joules).reduce((sum, one) => sum + one, 0) / 3.6e6, (many) => `${(many * 3.6e6).toFixed(1)} J`],
};
let turn = document.querySelector(".omni-turn")?.told ?? null;  // whichever of the two is drawn first
let prices = Object.fromEntries(Object.entries(PRICES).map(([key, [, , usual]]) => [key, usual]));
try { prices = { ...prices, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") }; } catch { /* as usual */ }

const money = (amount) => (amount === 0 ? "0" : amount >= 0.01 ? amount.toFixed(3) : amount.toPrecision(2).includes("e") ? amount.toFixed(7) : amount.toPrecision(2));
const known = () => turn?.usage && turn.media.in;
const sums = () => Object.fromEntries(Object.entries(PRICES).map(([key, [, , , many]]) => [key, known() ? many(turn) * prices[key] : 0]));

let all = false;  // whether prices of what the task has none of are shown
const more = node("button", { type: "button", on: { click: () => { all = !all; draw(); } } });
const total = node("p", { className: "omni-figure" });
const said = node("p", { className: "omni-note" });
const head = node("thead", {}, node("tr", {}, ...["", "this task", "price", "cost"].map((one) => node("th", { textContent: one, scope: "col" }))));
const body = node("tbody");
root.append(node("h2", { textContent: "What the task would cost" }), total,
  node("div", { className: "omni-table" }, node("table", {}, head, body)), more, said);

const price = (key) => {
  const [name, unit] = PRICES[key];
  const field = node("input", { type: "number", min: 0, step: "any", value: prices[key], ariaLabel: `Price of ${name.toLowerCase()} for one ${unit}`, on: {
    input: () => {
      if (!(field.value >= 0) || field.value === "") return;
      prices[key] = Number(field.value);
      try { localStorage.setItem(KEPT, JSON.stringify(prices)); } catch { /* it is kept for this visit */ }
      draw();
    },
  } });
  return node("td", {}, node("label", {}, field, node("span", { textContent: `a ${unit}` })));
};
const rows = Object.fromEntries(Object.keys(PRICES).map((key) => {
  const row = node("tr", {}, node("th", { textContent: PRICES[key][0], scope: "row" }), node("td"), price(key), node("td"));
  return [key, row];
}));
body.append(...Object.values(rows));

const draw = () => {
  const costs = sums(), elsewhere = Object.entries(costs).filter(([key]) => key !== "energy").reduce((sum, [, one]) => sum + one, 0);
  for (const [key, [, , , many, shown]] of Object.entries(PRICES)) {
    const amount = known() ? many(turn) : 0;
    rows[key].children[1].textContent = amount ? shown(amount) : "–";
    rows[key].children[3].textContent = amount ? money(costs[key]) : "–";
    rows[key].dataset.none = !amount;
    rows[key].hidden = !amount && (key === "energy" || !all);
  }
  head.hidden = Object.values(rows).every((row) => row.hidden);
  more.textContent = all ? "Fewer prices" : "All prices";
  total.replaceChildren(known() ? money(elsewhere) : "–", node("small", { textContent: known() ? "for the whole task, in the currency of the prices" : "no reply to count yet" }));
  said.textContent = "Round figures to begin with, no provider's list: put in the prices of yours. They stay in this browser. Everything in the thread counts as read, as an API is sent it with every question.";
  root.told = { prices, costs, total: elsewhere };
};
document.addEventListener("omni-turn", ({ detail }) => { turn = detail; draw(); });
draw();
