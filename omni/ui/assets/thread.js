// The conversation: messages of text, pictures, sounds and clips; the one under way grows in place.
// Value: {messages: [{role, parts, text, stopped, liked, version, versions}], busy}. Triggers: again, takeback, instead,
// version, rate, suggest.
const scroller = () => root.closest(".omni-scroller") ?? document.scrollingElement;
root.setAttribute("role", "log");
root.setAttribute("aria-label", "Conversation");

const edit = (article, message, index) => {
  const words = node("textarea", { value: message.text, rows: 3, ariaLabel: "Edit your message" });
  const close = () => { form.remove(); article.classList.remove("omni-editing"); };
  const save = () => { if (words.value.trim()) { trigger("instead", { index, text: words.value }); close(); } };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); save(); }
    if (event.key === "Escape") { event.stopPropagation(); close(); }
  };
  words.addEventListener("keydown", keys);
  const form = node("div", { className: "omni-edit" }, words,
    node("button", { type: "button", textContent: "Cancel", on: { click: close } }),
    node("button", { type: "button", textContent: "Send", className: "omni-primary", on: { click: save } }));
  article.classList.add("omni-editing");
  article.append(form);
  words.focus();
};

// Which of several versions of a message is shown, and the way to the others.
const versions = ({ version, versions }, index) => {
  const go = (label, sign, to) => node("button", { type: "button", title: label, ariaLabel: label, textContent: sign,
    className: "omni-button", disabled: to < 0 || to >= versions, on: { click: () => trigger("version", { index, version: to }) } });
  return node("span", { className: "omni-versions" }, go("Version before", "‹", version - 1),
    node("span", { textContent: `${version + 1} / ${versions}`, ariaLabel: `Version ${version + 1} of ${versions}` }),
    go("Next version", "›", version + 1));
};

// What the visitor thinks of a reply; pressing the same once more takes it back.
const rating = (message, index) => [["like", "Good reply", true], ["dislike", "Bad reply", false]].map(([shape, label, liked]) => {
  const pressed = message.liked === liked;
  const button = iconButton(shape, label, () => trigger("rate", { index, liked: pressed ? null : liked }));
  button.setAttribute("aria-pressed", pressed);
  return button;
});

const actions = (article, message, index, last) => {
  const made = message.versions ? [versions(message, index)] : [];
  if (message.stopped) made.push(node("span", { className: "omni-stopped", textContent: "Stopped" }));
  if (message.text) made.push(iconButton("copy", "Copy text", () => navigator.clipboard?.writeText(message.text)));
  if (message.role === "user" && message.text) made.push(iconButton("edit", "Edit", () => edit(article, message, index)));
  if (message.role === "assistant") made.push(...rating(message, index));
  if (last && message.role === "assistant") {
    made.push(iconButton("retry", "Try again", () => trigger("again")));
    made.push(iconButton("undo", "Undo", () => trigger("takeback")));
  }
  return made;
};

const drawMessage = (message, index, { busy, last }) => {
  let article = root.querySelector(`:scope > article:nth-of-type(${index + 1})`);
  if (!article || article.dataset.role !== message.role) {
    const fresh = node("article", { data: { role: message.role }, ariaLabel: message.role === "user" ? "You" : "Reply" },
      node("div", { className: "omni-parts" }), node("footer"));
    article ? article.replaceWith(fresh) : root.append(fresh);
    article = fresh;
  }
  drawParts(article.firstElementChild, message.parts);
  article.classList.toggle("omni-growing", busy && last);
  const key = JSON.stringify([message.text, message.stopped, message.liked, message.version, message.versions, busy, last]);
  if (article.dataset.actions !== key) {
    article.dataset.actions = key;
    const footer = article.querySelector("footer");
    const focused = [...footer.children].indexOf(document.activeElement);
    footer.replaceChildren(
      ...[message.role === "assistant" && madeByAI(), ...(busy ? [] : actions(article, message, index, last))].filter(Boolean));
    if (focused >= 0) footer.children[focused]?.focus();
  }
};

const drawSuggestions = () => {
  const card = (one, index) => node("button", { type: "button", on: { click: () => trigger("suggest", { index }) } },
    one.picture ? node("img", { src: address(one.picture), alt: "", className: "omni-crisp" }) : null,
    node("span", { textContent: one.text, translate: false }), // the model knows English
    node("small", { title: `${["text", ...one.takes].join(", ")} in, ${one.gives} out` },
      ...(one.takes.length ? one.takes : ["text"]).map(icon), " → ", icon(one.gives)));
  return node("section", { className: "omni-welcome" },
    node("h1", { textContent: "Say it, show it, ask for it." }),
    node("p", { textContent: given.about }),
    node("div", { className: "omni-suggestions" }, ...given.suggestions.map(card)));
};

const draw = () => {
  const { messages, busy } = props.value;
  const view = scroller();
  const asked = messages.length > root.querySelectorAll(":scope > article").length;
  const following = (asked && messages.length) || view.scrollHeight - view.scrollTop - view.clientHeight < 120;
  root.querySelector(":scope > .omni-welcome")?.remove();
  root.querySelectorAll(":scope > article").forEach((old, place) => place >= messages.length && old.remove());
  messages.forEach((message, index) => drawMessage(message, index, { busy, last: index === messages.length - 1 }));
  if (!messages.length) root.append(drawSuggestions());
  root.setAttribute("aria-busy", busy);
  const wasBusy = document.body.classList.contains("omni-busy");
  document.body.classList.toggle("omni-busy", busy);
  if (wasBusy && !busy) document.dispatchEvent(new Event("omni-idle"));
  view.scrollTop = messages.length && following ? view.scrollHeight : view.scrollTop;
};

new ResizeObserver(() => {  // a picture that has loaded makes the thread longer
  const view = scroller();
  if (props.value.messages.length && view.scrollHeight - view.scrollTop - view.clientHeight < 400) view.scrollTop = view.scrollHeight;
}).observe(root);
watch("value", draw);
draw();
