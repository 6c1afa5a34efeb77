// The title, and behind the engine's name what there is to choose from. Value: {candidates: [{name, title, about, needs:
// [[what, how much]], lacks, command, runs}], may, failed, leaving}. Given: engine, opens, how, refused (why the engine
// that was last switched to did not open). Triggers: look, switch.
const SWITCHING = "omni-switching";  // kept by the browser tab that asked for it
const BEAT = 400;  // milliseconds
let sure = "";  // the engine that was pressed once

const name = given.opens
  ? node("button", { type: "button", textContent: given.engine, title: "Choose an engine", translate: false, on: { click: () => open() } })
  : node("span", { textContent: given.engine, translate: false });
const body = node("div", { className: "omni-candidates" });
const dialog = node("dialog", { className: "omni-lineup", ariaLabel: "Engines", on: {
  close: () => { sure = ""; },
  click: (event) => { if (event.target === dialog) dialog.close(); },  // beside it
} }, node("header", {}, node("h2", { textContent: "Engines" }), iconButton("close", "Close", () => dialog.close())), body);
root.append(node("b", { textContent: "Omni Playground", translate: false }), name, dialog);

const open = () => { dialog.showModal(); draw(); trigger("look"); };

const command = (line) => node("div", { className: "omni-command" }, node("code", { textContent: line }),
  iconButton("copy", "Copy the command", () => navigator.clipboard?.writeText(line)));

const starter = ({ name, title, runs, lacks }) => {
  if (runs || lacks || !props.value.may) return null;
  const press = () => {
    if (sure === name) { sessionStorage.setItem(SWITCHING, name); trigger("switch", { name }); } else { sure = name; draw(); }
    body.querySelector(`[data-start="${name}"]`)?.focus();
  };
  return node("div", { className: "omni-start" },
    node("button", { type: "button", data: { start: name }, textContent: sure === name ? "Start it" : `Start ${title} instead`, on: { click: press } }),
    sure === name ? node("small", { role: "alert", textContent: "The server starts again for everybody, and every conversation that was not saved is gone." }) : null);
};

const candidate = (one) => node("section", { ariaLabel: one.title, data: { runs: one.runs } },
  node("h3", {}, node("span", { textContent: one.title, translate: false }),
    one.runs ? node("em", { textContent: "answers here now" }) : one.lacks ? node("em", { className: "omni-lacking", textContent: "not available here" }) : null),
  node("p", { textContent: one.about }),
  one.lacks ? node("p", { className: "omni-lacks", textContent: one.lacks }) : null,
  node("dl", {}, ...one.needs.flatMap(([what, amount]) => [node("dt", { textContent: what }), node("dd", { textContent: amount })])),
  command(one.command), starter(one));

const draw = () => {
  const { candidates, may, failed, leaving } = props.value;
  if (leaving) { body.replaceChildren(node("p", { role: "status", textContent: "The server starts again with the other engine." })); return; }
  const told = failed || given.refused;
  body.replaceChildren(...[
    told ? node("p", { className: "omni-lacks", role: "alert", textContent: told }) : null,
    ...candidates.map(candidate),
    candidates.length ? (may ? null : node("p", { className: "omni-note", textContent: given.how }))
      : failed ? null : node("p", { className: "omni-note", role: "status", textContent: "Looking at this machine" }),
  ].filter(Boolean));
};

// The old program leaves, nobody answers, then its waiting page or the new page does: that is shown in the place of this.
const follow = async (gone = false) => {
  try {
    const answer = await fetch("omni-loading", { cache: "no-store" });
    if (gone || answer.ok) return location.reload();  // the playground itself has no such address
  } catch { gone = true; }
  setTimeout(follow, BEAT, gone);
};

watch("value", () => {
  if (props.value.leaving) follow();
  else if (props.value.failed) sessionStorage.removeItem(SWITCHING);
  if (dialog.open) draw();
});
if (sessionStorage.getItem(SWITCHING)) {
  sessionStorage.removeItem(SWITCHING);
  if (given.refused) open();
}
