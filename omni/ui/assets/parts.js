// Parts of a message as nodes: words, documents, pictures, sounds, clips, and the previews of what is being made.
const download = (part) =>
  node("a", { className: "omni-button", href: address(part.file), download: part.file.split("/").pop(),
    title: "Download", ariaLabel: `Download ${part.file.split(".").pop().toUpperCase()}` }, icon("download"));

// The label of what a model made.
const madeByAI = () => node("span", { className: "omni-made", textContent: "Made by AI",
  title: "A model made this. Its files carry signed credentials and a watermark; “Check a file” reads them" });

const caption = (part, ...extra) => node("figcaption", {}, node("span", { textContent: part.caption }), ...extra);

const zoom = (part) => {
  const dialog = node("dialog", { className: "omni-zoom", on: { click: () => dialog.close(), close: () => dialog.remove() } },
    node("img", { src: address(part.file), alt: part.alt, className: part.width <= 128 ? "omni-crisp" : "" }));
  document.body.append(dialog);
  dialog.showModal();
};

const zoomed = (part) =>
  node("button", { type: "button", className: "omni-picture", title: "Enlarge", on: { click: () => zoom(part) } },
    node("img", { src: address(part.file), alt: part.alt || "Picture", width: part.width, height: part.height,
      className: part.width <= 128 ? "omni-crisp" : "" }));

const DRAW = {
  text: (part) => node("div", { className: "omni-words", innerHTML: part.html }),  // made safe by the server
  image: (part) => node("figure", { className: "omni-media" },
    zoomed(part), caption(part, download(part))),
  document: (part) => node("figure", { className: "omni-document" },
    node("details", {}, node("summary", { translate: false }, icon("document"), node("span", { textContent: part.name })),
      node("pre", { textContent: part.text, tabIndex: 0 })),
    part.pages.length ? node("div", {}, ...part.pages.map(zoomed)) : null),
  audio: (part) => node("figure", { className: "omni-media omni-sound" },
    node("div", {}, node("audio", { src: address(part.file), controls: true, preload: "metadata" }), download(part)),
    part.caption ? caption(part) : null),
  video: (part) => node("figure", { className: "omni-media" },
    node("video", { src: address(part.file), controls: true, loop: true, playsInline: true, preload: "auto",
      ariaLabel: part.alt || "Clip", className: part.width <= 128 ? "omni-crisp" : "" }),
    caption(part, download(part))),
  preview: (part) => node("figure", { className: "omni-media omni-preview" },
    node("img", { src: part.picture, alt: part.word, className: "omni-crisp" }),
    node("progress", { value: part.done, max: 1 }),
    node("figcaption", { textContent: part.word })),
};

// Changes of a part that keep its node: words that grow, a picture that sharpens.
const REDRAW = {
  text: (old, part) => { old.innerHTML = part.html; },
  preview: (old, part) => {
    old.querySelector("img").src = part.picture;
    old.querySelector("progress").value = part.done;
    old.querySelector("figcaption").textContent = part.word;
  },
};

const drawParts = (box, parts) => {
  parts.forEach((part, place) => {
    const old = box.children[place];
    const key = JSON.stringify(part);
    if (old?.dataset.key === key) return;
    if (old && old.dataset.kind === part.kind && REDRAW[part.kind]) REDRAW[part.kind](old, part);
    else if (old) old.replaceWith(DRAW[part.kind](part));
    else box.append(DRAW[part.kind](part));
    Object.assign(box.children[place].dataset, { key, kind: part.kind });
  });
  while (box.children.length > parts.length) box.lastElementChild.remove();
};
