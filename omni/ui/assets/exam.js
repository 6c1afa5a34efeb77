// An exam of the engine: how far it is, and the button that starts or stops it. Value: {state: unknown | lacking | ready |
// running, sentence, answered, questions, may, part, left (seconds or null)}. Given: how (one may who may not). Triggers: sit, halt.
let asked = "";  // what was pressed and is not answered yet

const remaining = (seconds) => (seconds == null ? "" : seconds < 60 ? "less than a minute left" : `about ${Math.round(seconds / 60)} min left`);

const button = (label, press, className = "omni-primary") =>
  node("button", { type: "button", className, textContent: label, disabled: Boolean(asked), on: { click: press } });
const press = (what, detail) => () => { asked = what; draw(); trigger(what, detail); };

const ready = ({ answered, questions, may }) => {
  const whole = answered >= questions, begun = answered > 0;
  const label = asked ? "Starting" : whole ? "Start anew" : begun ? "Go on" : "Start";
  const said = whole ? "All questions are answered." : begun ? `${answered} of ${questions} questions are answered.` : `${questions} questions, asked between the messages of visitors.`;
  return [node("div", { className: "omni-exam-line" }, may ? button(label, press("sit", { anew: whole })) : null, node("p", { className: "omni-note", textContent: said })),
    ...(may ? [] : [node("p", { className: "omni-note", textContent: given.how })])];
};

const running = ({ answered, questions, part, left }) => {
  const told = node("p", { className: "omni-exam-told" },
    node("b", { textContent: `${answered} of ${questions} questions` }), part ? node("code", { textContent: part }) : null,
    node("span", { className: "omni-note", textContent: asked === "halt" ? "Stopping" : remaining(left) }));
  const bar = node("progress", { max: questions, value: answered, ariaLabel: "Questions answered" });
  return [node("div", { className: "omni-exam-line" }, told, button("Stop", press("halt"), "omni-quiet")), bar];
};

const draw = () => {
  const { state, sentence } = props.value;
  root.dataset.state = state;
  const said = node("p", { className: state === "lacking" ? "omni-exam-lacks" : "omni-exam-failed", textContent: sentence });
  said.setAttribute("role", "alert");
  const body = { ready, running }[state]?.(props.value) ?? [];
  root.replaceChildren(node("h2", { textContent: "Exam" }),
    node("p", { className: "omni-note", textContent: "Does the model connect what it sees, hears and reads? It is asked, and judges that know the truth mark its answers." }),
    ...body, ...(sentence ? [said] : []), ...(state === "unknown" ? [node("p", { className: "omni-note", textContent: "Getting the questions ready" })] : []));
};
watch("value", () => {
  if (!(asked === "halt" && props.value.state === "running")) asked = "";
  draw();
});
draw();
