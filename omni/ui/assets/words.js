// The page in the language of the browser, as far as WORDS has it: {English: {language: words}}, with {} for what
// varies. Whatever any part of the page writes in English is put into that language as it appears; what people and
// models say (under `translate="no"`, in words, captions and fields) is left alone.
(() => {
  const known = new Set(Object.values(WORDS).flatMap(Object.keys));
  const wanted = (navigator.languages ?? [navigator.language]).map((tag) => tag.split("-")[0]);
  const language = wanted.find((tag) => tag === "en" || known.has(tag)) ?? "en";
  if (language === "en") return;
  document.documentElement.lang = language;
  const LEFT = ".omni-words, article figcaption, textarea, pre, code, script, style, [translate=no]";
  const ATTRIBUTES = ["title", "aria-label", "placeholder"];
  const escaped = (text) => text.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  // The longest first: "Price of {} for one {}" before "{} tokens".
  const patterns = Object.keys(WORDS).filter((key) => key.includes("{}")).sort((a, b) => b.length - a.length).map((key) =>
    [new RegExp(`^${key.split("{}").map(escaped).join("(.+?)")}$`), WORDS[key][language]]);
  const remembered = new Map();

  const found = (text) => {
    if (WORDS[text]) return WORDS[text][language];
    const listed = text.split(", ");
    const each = listed.length > 1 ? listed.map(found) : [];
    if (each.length && each.every((one, place) => one !== listed[place])) return each.join(", ");
    for (const [pattern, words] of patterns) {
      const match = text.match(pattern);
      if (match) { let place = 0; return words.replace(/\{\}/g, () => translated(match[++place])); }
    }
    return text;
  };
  const translated = (text) => {
    if (!remembered.has(text)) remembered.set(text, text.split(" · ").map((one) => found(one.trim())).join(" · "));
    if (remembered.size > 5000) remembered.clear();
    return remembered.get(text) ?? found(text);
  };
  // Only what changes is written, so that the observer does not answer itself for ever.
  const put = (text, set) => {
    const bare = text.trim();
    if (!/[A-Za-z]/.test(bare)) return;
    const words = translated(bare);
    if (words !== bare) set(text.replace(bare, () => words));
  };
  const turn = (where) => {
    if (where.nodeType === Node.TEXT_NODE) {
      if (!where.parentElement?.closest(LEFT)) put(where.data, (words) => { where.data = words; });
      return;
    }
    if (where.nodeType !== Node.ELEMENT_NODE) return;
    for (const one of [where, ...where.querySelectorAll("[title], [aria-label], [placeholder]")])
      for (const name of ATTRIBUTES)
        if (one.hasAttribute(name)) put(one.getAttribute(name), (words) => one.setAttribute(name, words));
    const texts = document.createTreeWalker(where, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) turn(texts.currentNode);
  };
  new MutationObserver((changes) => {
    for (const change of changes) {
      change.addedNodes.forEach(turn);
      if (change.type === "characterData") turn(change.target);
      if (change.type === "attributes" && change.target.hasAttribute(change.attributeName))
        put(change.target.getAttribute(change.attributeName),
          (words) => change.target.setAttribute(change.attributeName, words));
    }
  }).observe(document.documentElement,
    { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES });
  turn(document.documentElement);
})();
