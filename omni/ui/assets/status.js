// One line: what goes on, or what went wrong. Value: {state, text, more}. The place in the queue is known to Gradio
// alone, which writes it into its own tracker beside this element; it is read there.
root.setAttribute("role", "status");
const block = root.closest(".block");

const place = () => {
  const found = block.querySelector(":scope > .wrap")?.textContent.match(/queue: (\d+)\/(\d+)/);
  return found && `Waiting: number ${found[1]} of ${found[2]} in the queue`;
};

const draw = () => {
  const { state, text, more } = props.value;
  const waiting = state === "busy" && place();
  root.dataset.state = state;
  root.setAttribute("aria-live", state === "failed" ? "assertive" : "polite");
  root.replaceChildren(node("b", { textContent: waiting || text }), node("span", { textContent: waiting ? "" : more }));
};

let shown = null;
new MutationObserver(() => {
  if (place() !== shown) { shown = place(); draw(); }
}).observe(block, { childList: true, subtree: true, characterData: true });
watch("value", draw);
draw();
