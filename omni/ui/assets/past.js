// Past chats, which this browser keeps and nobody else: what was said in one store, the files of it in another, where their
// keys are [chat, file]. Value, as JSON: {name, of, told, files: {name: path}}, the thread as it stands, or null.
const MOST = 50;  // chats; then the oldest goes
const SHOWN = 3;  // of them on the first page
const OFF = "omni-past-off";
const inbox = () => document.querySelector("#omni-reopen input[type=file]");
const keeps = () => localStorage.getItem(OFF) === null;
const calls = {};  // how the browser calls a thread of the server, by the server's name
let here = null;  // the chat that is on the page
let chats = [];  // the newest first

// A browser that keeps nothing for this page, in a private window say, has no past chats.
const safely = (work) => () => work().catch((error) => console.warn("past chats:", error));

const finished = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
const base = (async () => {
  const request = indexedDB.open("omni-past", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("chats", { keyPath: "id" });
    request.result.createObjectStore("files");
  };
  return finished(request);
})();
base.catch(() => {});  // whoever waits for it tells
const stores = async (mode) => {
  const work = (await base).transaction(["chats", "files"], mode);
  return { chats: work.objectStore("chats"), files: work.objectStore("files"), done: new Promise((resolve, reject) => {
    work.oncomplete = resolve;
    work.onerror = work.onabort = () => reject(work.error);
  }) };
};
const filesOf = (id) => IDBKeyRange.bound([id], [id, []]);

const fetched = async ([file, path]) => {
  const answer = await fetch(address(path));
  if (!answer.ok) throw new Error(`${file} is gone`);
  return [file, await answer.blob()];
};

// What a chat is called: its first words, written or spoken, be it of the reply.
const titleOf = ({ messages }) => {
  const words = messages.flatMap(({ parts }) => parts).map((part) => (part.document ? "" : part.text || part.transcript || part.caption));
  return words.find(Boolean)?.slice(0, 80) ?? "…";
};

// What was said, whatever its files are called: they get other names when a chat is opened.
const said = (told) => JSON.stringify(JSON.parse(told).messages, (key, value) => (["image", "audio", "video"].includes(key) ? "" : value));

const keep = async ({ name, of, told, files }) => {
  const id = (calls[name] ??= of || name);
  const known = new Set((await finished((await stores("readonly")).files.getAllKeys(filesOf(id)))).map(([, file]) => file));
  const fresh = await Promise.all(Object.entries(files).filter(([file]) => !known.has(file)).map(fetched));
  const work = await stores("readwrite");
  fresh.forEach(([file, blob]) => work.files.put(blob, [id, file]));
  [...known].filter((file) => !(file in files)).forEach((file) => work.files.delete([id, file]));
  const before = chats.find((chat) => chat.id === id);
  const at = before && said(before.told) === said(told) ? before.at : Date.now();  // looking at it makes it no newer
  work.chats.put({ id, at, told, title: titleOf(JSON.parse(told)), files: Object.keys(files) });
  await work.done;
  here = id;
};

const forget = async (ids) => {
  const work = await stores("readwrite");
  for (const id of ids) { work.chats.delete(id); work.files.delete(filesOf(id)); }
  await work.done;
};

const refresh = async () => {
  chats = (await finished((await stores("readonly")).chats.getAll())).sort((one, other) => other.at - one.at);
  const old = chats.splice(MOST);
  if (old.length) await forget(old.map(({ id }) => id));
  draw();
};

// Lay the files of a chat before the server, as if they were uploaded.
const open = async ({ id, told, files }) => {
  const { files: store } = await stores("readonly");
  const blobs = await Promise.all(files.map((file) => finished(store.get([id, file]))));
  const media = files.map((file, place) => new File([blobs[place]], file, { type: blobs[place].type }));
  layInto(inbox(), [new File([told], `${id}.json`, { type: "application/json" }), ...media]);
  if (matchMedia("(max-width: 640px)").matches) document.querySelector("#omni-more.open .toggle-button")?.click();
};

const when = (at) => new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
const row = (chat) => {
  const title = node("button", { type: "button", className: "omni-chat", title: `${chat.title}\n${when(chat.at)}`, translate: false,
    textContent: chat.title, on: { click: safely(() => open(chat)) } });
  const line = node("li", {}, title, iconButton("close", "Forget this chat", safely(async () => { await forget([chat.id]); await refresh(); })));
  if (chat.id === here) line.setAttribute("aria-current", "true");
  return line;
};
const list = (shown) => [node("h3", { textContent: "Past chats" }), node("ol", {}, ...shown.map(row))];

const draw = () => {
  const mine = node("input", { type: "checkbox", checked: keeps(), on: { change: () => {
    mine.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "");
    standing();
  } } });
  root.replaceChildren(...(chats.length ? list(chats) : []), node("footer", {},
    node("label", {}, mine, node("span", { textContent: "Keep chats in this browser" })),
    chats.length ? node("button", { type: "button", textContent: "Forget all", on: { click: safely(async () => {
      await forget(chats.map(({ id }) => id));
      await refresh();
    }) } }) : null));
  welcome();
};
const welcome = () => document.querySelector(".omni-recent")?.replaceChildren(...(chats.length ? list(chats.slice(0, SHOWN)) : []));

let turn = Promise.resolve();  // one after the other
const standing = () => {
  const told = JSON.parse(props.value);
  if (told && keeps()) turn = turn.then(safely(async () => { await keep(told); await refresh(); }));
};
let seen = null;  // the end of a reply brings the same value twice
watch("value", () => {
  if (props.value !== seen) { seen = props.value; standing(); }
});
document.addEventListener("omni-welcome", () => { here = null; draw(); });
safely(refresh)();
