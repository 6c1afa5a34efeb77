// The voice of the page. Value: {name, rate, blocks: {number: base64 PCM16}}; plays each block once, where the one
// before it ends. Falls silent on the document's "omni-silence", and for good: what still comes of that reply is not
// played.
const LEAD = 0.25; // seconds between the arrival of the first block and its sound; blocks come every 0.15
let muted = false;
let playing = { name: null, next: 0 };
const voice = makeVoice(LEAD, () => draw());

const silence = () => {
  playing.next = Infinity;
  voice.silence();
};

const feed = () => {
  const { name, rate, blocks } = props.value;
  if (name !== playing.name) {
    voice.begin();
    playing = { name, next: 0 };
  }
  if (!name || muted) return;
  for (const number of Object.keys(blocks).map(Number)) {
    if (number < playing.next) continue;
    const bytes = Uint8Array.from(atob(blocks[number]), (letter) => letter.charCodeAt(0));
    voice.play(new Int16Array(bytes.buffer), rate);
    playing.next = number + 1;
  }
  draw();
};

const mute = () => {
  muted = !muted;
  if (muted) silence();
  draw();
};

const bars = node("span", { className: "omni-bars" }, ...[0, 1, 2, 3, 4].map(() => node("i")));
const listen = () => {
  if (!voice.speaking()) return;
  const loudness = voice.loudness();
  root.dataset.loudest = Math.max(Number(root.dataset.loudest ?? 0), loudness).toFixed(4);
  bars.style.setProperty("--loudness", Math.min(1, loudness * 5).toFixed(2));
  requestAnimationFrame(listen);
};

const draw = () => {
  const speaking = voice.speaking();
  if (speaking && root.dataset.playing !== "true") requestAnimationFrame(listen);
  Object.assign(root.dataset, { playing: speaking, gaps: voice.gaps });
  const label = muted ? "Let replies speak" : "Mute replies";
  root.replaceChildren(speaking ? bars : "", iconButton(muted ? "muted" : "sound", label, mute));
};

document.addEventListener("omni-silence", silence);
// Some browsers let sound begin only from a click or a key.
for (const gesture of ["pointerdown", "keydown"])
  document.addEventListener(gesture, () => voice.wake(props.value.rate), { capture: true });
watch("value", feed);
draw();
