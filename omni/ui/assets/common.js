// What every element of the page uses. Runs in front of the element's own script, with what it was `given`, and with
// `element`, `props`, `watch` and `trigger` from Gradio.
const root = element.firstElementChild;

// A node with properties, children and, under `on`, listeners; text is never parsed as markup.
const node = (tag, { on = {}, data = {}, ...properties } = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, data);
  for (const [event, listener] of Object.entries(on)) made.addEventListener(event, listener);
  made.append(...children.filter(Boolean));
  return made;
};

const SHAPES = {
  alert: "M12 4v10M12 19h.01",
  attach: "M21 11.5l-8.6 8.6a5.5 5.5 0 0 1-7.8-7.8l8.9-8.8a3.7 3.7 0 0 1 5.2 5.2l-8.9 8.8a1.8 1.8 0 0 1-2.6-2.6l8-8",
  audio: "M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3M5 11.5a7 7 0 0 0 14 0M12 18.5V22",
  camera: "M4 8h3.5L9.5 5h5l2 3H20a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1M12 17a3.5 3.5 0 1 0 0-7a3.5 3.5 0 0 0 0 7",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  ask: "M8.5 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.5 1.2-1.5 2.3M12 18.5h.01",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  document: "M6 3h8l5 5v13H6zM14 3v5h5M9 13h7M9 17h7",
  dislike: "M8 13V4H4v9zM8 13l4 8a2.5 2.5 0 0 0 2.5-2.8L14 15h5a2 2 0 0 0 2-2.3l-1.2-7A2 2 0 0 0 17.8 4H8",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  gear: "M4 7h9M19 7h1M4 17h1M11 17h9M16 4.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 0 1 0-5M8 14.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 0 1 0-5",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  like: "M8 11v9H4v-9zM8 11l4-8a2.5 2.5 0 0 1 2.5 2.8L14 9h5a2 2 0 0 1 2 2.3l-1.2 7a2 2 0 0 1-2 1.7H8",
  more: "M7 14l5-5 5 5",
  retry: "M20 11a8 8 0 1 0-2.3 6.2M20 4v7h-7",
  sound: "M4 10v4h3l5 4V6L7 10zM16 9a4 4 0 0 1 0 6M18.5 6.5a8 8 0 0 1 0 11",
  muted: "M4 10v4h3l5 4V6L7 10zM16 10l5 5M21 10l-5 5",
  speech: "M4 12h.01M8 8v8M12 4v16M16 8v8M20 12h.01",
  text: "M5 6h14M5 12h14M5 18h9",
  undo: "M8 5L4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3",
  video: "M3 6h12v12H3zM15 10l6-3v10l-6-3",
};

const icon = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("omni-icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
};

const iconButton = (name, label, click, className = "") =>
  node("button", { type: "button", title: label, ariaLabel: label, className: `omni-button ${className}`, on: { click } }, icon(name));

// Lay files into one of Gradio's upload fields, as if the visitor had chosen them there (`upload` is a name of Gradio's).
const layInto = (field, files) => {
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  field.files = transfer.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
};

// The address of a file of the conversation.
const address = (path) => {
  const { root: base, api_prefix: prefix } = window.gradio_config;
  return `${base}${prefix}/file=${path.split("/").map(encodeURIComponent).join("/")}`;
};

// Draws where what `told` says is new: many updates of the page bring nothing new for one part of it.
const onNews = (told, draw) => {
  let drawn = "";
  return () => {
    const news = told().join();
    if (news !== drawn) draw();
    drawn = news;
  };
};

// The inside of a live reply comes over the line of its tab, and may have come before this element was there.
const watchLive = (part, draw) => {
  const take = () => {
    const told = window.omniInside?.[part];
    if (told && told.at > props.value.at) { props.value = told; draw(); }
  };
  document.addEventListener("omni-inside", take);
  for (const wait of [0, 300, 1500]) setTimeout(take, wait);  // Gradio gives the element its own value first, sooner or later
};

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
