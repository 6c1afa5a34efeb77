// The conversation: messages of text, pictures, sounds and clips; the one under way grows in place.
// Value, as JSON: {messages: [{role, parts, text, stopped, liked, version, versions}], turn}, the turn being the one whose
// reply is under way; see draft.js. Triggers: again, takeback, instead, version, rate, suggest.
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

// The last question once more, in another output than it was answered in: a list above its button.
const againAs = () => {
  const list = node("div", { className: "omni-menu", popover: "auto" }, ...given.outputs.map(([label, output]) =>
    node("button", { type: "button", on: { click: () => { list.hidePopover(); trigger("again", { output }); } } },
      icon(output), node("span", { textContent: label }))));
  const opener = iconButton("more", "Try again as …", () => {});
  opener.popoverTargetElement = list;
  list.addEventListener("toggle", () => {
    const { left, top } = opener.getBoundingClientRect();
    list.style.translate = `${Math.min(left, innerWidth - list.offsetWidth - 12)}px ${Math.max(12, top - list.offsetHeight - 6)}px`;
  });
  return [opener, list];
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
    made.push(iconButton("retry", "Try again", () => trigger("again", { output: null })));
    if (given.outputs.length > 1) made.push(...againAs());
    made.push(iconButton("undo", "Undo", () => trigger("takeback")));
  }
  return made;
};

const drawn = new WeakMap();  // what an article shows, as JSON

// Of a reply that is growing nothing can be done; that nothing else can be done meanwhile is the style sheet's affair.
const drawMessage = (articles, message, index, { last, grows }) => {
  const key = JSON.stringify([message, last, grows]);
  let article = articles[index];
  if (drawn.get(article) === key) return;
  if (article?.dataset.role !== message.role) {
    const fresh = node("article", { data: { role: message.role }, ariaLabel: message.role === "user" ? "You" : "Reply" },
      node("div", { className: "omni-parts" }), node("footer"));
    article ? article.replaceWith(fresh) : root.append(fresh);
    article = fresh;
  }
  drawn.set(article, key);
  drawParts(article.firstElementChild, message.parts);
  article.classList.toggle("omni-growing", grows);
  const own = JSON.stringify([message.text, message.stopped, message.liked, message.version, message.versions, last, grows]);
  if (article.dataset.actions !== own) {
    article.dataset.actions = own;
    const footer = article.querySelector("footer");
    const focused = [...footer.children].indexOf(document.activeElement);
    footer.replaceChildren(
      ...[message.role === "assistant" && madeByAI(), ...(grows ? [] : actions(article, message, index, last))].filter(Boolean));
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
    node("div", { className: "omni-recent" }),  // past.js fills it
    node("div", { className: "omni-suggestions" }, ...given.suggestions.map(card)));
};

const scrolled = (view) => view.scrollHeight - view.scrollTop - view.clientHeight;
const NOTHING_YET = { role: "assistant", parts: [], text: "", stopped: false, liked: null };
let thread = { messages: [], turn: null };

// The reply under way; what is left of an earlier one does not count.
const growing = () => (window.omniDraft?.turn === thread.turn ? window.omniDraft.message : NOTHING_YET);

const draw = () => {
  thread = JSON.parse(props.value);
  const view = scroller(), busy = thread.turn !== null;
  const messages = busy ? [...thread.messages, growing()] : thread.messages;
  const articles = [...root.querySelectorAll(":scope > article")];
  const following = (messages.length > articles.length && messages.length) || scrolled(view) < 120;
  root.querySelector(":scope > .omni-welcome")?.remove();
  articles.splice(messages.length).forEach((old) => old.remove());
  messages.forEach((message, index) => {
    const last = index === messages.length - 1;
    drawMessage(articles, message, index, { last, grows: busy && last });
  });
  if (!messages.length) {
    root.append(drawSuggestions());
    document.dispatchEvent(new Event("omni-welcome"));
  }
  root.setAttribute("aria-busy", busy);
  const wasBusy = document.body.classList.contains("omni-busy");
  document.body.classList.toggle("omni-busy", busy);
  if (wasBusy && !busy) document.dispatchEvent(new Event("omni-idle"));
  if (!messages.length) view.scrollTop = 0;
  else if (following) view.scrollTop = view.scrollHeight;
};

const grow = () => {
  if (thread.turn === null || window.omniDraft.turn !== thread.turn) return;
  const view = scroller(), following = scrolled(view) < 120;
  drawMessage(root.querySelectorAll(":scope > article"), growing(), thread.messages.length, { last: true, grows: true });
  if (following) view.scrollTop = view.scrollHeight;
};

new ResizeObserver(() => {  // a picture that has loaded makes the thread longer
  const view = scroller();
  if (thread.messages.length && scrolled(view) < 400) view.scrollTop = view.scrollHeight;
}).observe(root);
document.addEventListener("omni-draft", grow);
watch("value", draw);
draw();
