// The conversation: messages of text, pictures, sounds and clips; the one under way grows in place.
// Value: {messages: [{role, parts, text, stopped}], busy}. Triggers: again, takeback, instead, suggest.
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

const actions = (article, message, index, last) => {
  const made = [];
  if (message.stopped) made.push(node("span", { className: "omni-stopped", textContent: "Stopped" }));
  if (message.text) made.push(iconButton("copy", "Copy text", () => navigator.clipboard?.writeText(message.text)));
  if (message.role === "user" && message.text) made.push(iconButton("edit", "Edit", () => edit(article, message, index)));
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
  const key = JSON.stringify([message.text, message.stopped, busy, last]);
  if (article.dataset.actions !== key) {
    article.dataset.actions = key;
    article.querySelector("footer").replaceChildren(...(busy ? [] : actions(article, message, index, last)));
  }
};

const drawSuggestions = () => {
  const card = (one, index) => node("button", { type: "button", on: { click: () => trigger("suggest", { index }) } },
    one.picture ? node("img", { src: address(one.picture), alt: "", className: "omni-crisp" }) : null,
    node("span", { textContent: one.text }),
    node("small", { title: `${["text", ...one.takes].join(", ")} in, ${one.gives} out` },
      ...(one.takes.length ? one.takes : ["text"]).map(icon), " → ", icon(one.gives)));
  return node("section", { className: "omni-welcome" },
    node("h1", { textContent: "Say it, show it, ask for it." }),
    node("p", { textContent: props.about }),
    node("div", { className: "omni-suggestions" }, ...props.suggestions.map(card)));
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
