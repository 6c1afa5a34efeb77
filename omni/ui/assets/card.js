// What the model is. Value: {name, about, facts: [[name, value]], components: [{name, parameters, bytes, precision, where}]}.
const { name, about, facts, components } = props.value;
const count = (many) => (many >= 1e9 ? `${(many / 1e9).toFixed(2)} B` : many >= 1e6 ? `${(many / 1e6).toFixed(2)} M` : `${(many / 1e3).toFixed(0)} k`);
const size = (amount) => (amount >= 1e9 ? `${(amount / 1e9).toFixed(2)} GB` : `${(amount / 1e6).toFixed(1)} MB`);
const row = (one) => node("tr", {}, node("th", { textContent: one.name, scope: "row" }), node("td", { textContent: count(one.parameters) }),
  node("td", { textContent: size(one.bytes) }), node("td", { textContent: one.precision }), node("td", { textContent: one.where }));
root.told = props.value;
root.append(node("h2", { textContent: `The model: ${name}` }), node("p", { className: "omni-note", textContent: about }),
  node("dl", {}, ...facts.flatMap(([title, value]) => [node("dt", { textContent: title }), node("dd", { textContent: value })])));
if (components.length)
  root.append(node("div", { className: "omni-table", tabIndex: 0, role: "region", ariaLabel: "Parts of the model" }, node("table", {},
    node("thead", {}, node("tr", {}, ...["Part", "parameters", "in memory", "precision", "where"].map((one) => node("th", { textContent: one, scope: "col" })))),
    node("tbody", {}, ...components.map(row)))));
