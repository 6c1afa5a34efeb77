// Where a file comes from. Value: {name, report: {verdict, headline, lines: [[topic, sentence]]} or null, failed}.
const inbox = () => document.querySelector("#omni-checked input[type=file], input#omni-checked, #omni-tab-check input[type=file]");
const visible = () => root.checkVisibility();
let asked = "";  // the name of a file on its way

const hand = (files) => {
  if (!files.length) return;
  asked = files[0].name;
  layInto(inbox(), [files[0]]);
  draw();
};

const SIGNS = { ours: "check", stripped: "check", foreign: "edit", "other-playground": "edit", unknown: "ask", unreadable: "ask" };

const card = (verdict, headline, name, ...rows) => {
  const made = node("section", { className: "omni-report", data: { verdict } },
    node("header", {}, node("span", {}, icon(SIGNS[verdict] ?? "alert")), node("h3", { textContent: headline }),
      node("small", { textContent: name })), ...rows);
  made.setAttribute("role", "status");
  return made;
};

const reported = ({ name, report, failed }) => {
  if (asked) return card("unknown", "Looking closely", asked);
  if (failed) return card("failed", failed, name);
  if (!report) return null;
  const lines = report.lines.flatMap(([topic, sentence]) => [node("dt", { textContent: topic }), node("dd", { textContent: sentence })]);
  return card(report.verdict, report.headline, name, node("dl", {}, ...lines));
};

const draw = () => {
  const drop = node("button", { type: "button", className: "omni-drop", on: { click: () => inbox().click() } },
    icon("attach"), node("span", { textContent: "Drop a picture, a sound, a clip or any other file here, or choose one" }));
  const shown = reported(props.value);
  root.replaceChildren(node("h2", { textContent: "Check a file" }),
    node("p", { textContent: "Who signed it, is it whole, did a model make it? The file is looked at and deleted." }),
    drop, ...(shown ? [shown] : []));
};

for (const [kind, files] of [["drop", (event) => event.dataTransfer?.files], ["paste", (event) => event.clipboardData?.files]])
  document.addEventListener(kind, (event) => {
    if (!visible() || !files(event)?.length) return;
    event.preventDefault();
    hand(files(event));
  });
document.addEventListener("change", (event) => {  // chosen in the browser's own dialogue
  if (event.target === inbox() && event.target.files?.length) { asked = event.target.files[0].name; draw(); }
}, true);
watch("value", () => { asked = ""; draw(); });
draw();
