// The live tab. Given: address, rate, frame, pause, pauses, side, hears, sees, voices. Speaks to the server over a line
// of its own; what travels on it is told in talks.py.
const LEAD = 0.06; // seconds between the arrival of the first speech and its sound
const SILENT = 2 ** 32 - 1;
const RETRIES = [0.3, 1, 2, 4, 8]; // seconds
const EACH = 1000; // milliseconds between two pictures
const parts = makeStage(given);
const kept = { pause: given.pause, push: false, voice: given.voices[0] ?? null, ...JSON.parse(localStorage.getItem("omni-live") ?? "{}") };
const now = { line: null, name: null, state: "idle", running: false, lost: false, muted: false, held: false, ends: 0, frames: 0, leaving: false };
const arrived = new Float64Array(1024); // when each of the last frames came from the microphone
const turns = new Map(); // number: {value, ended, first}
let microphone = null;
let camera = null;
let speaking = 0; // the turn whose reply sounds
let hushed = 0; // and the last one that was silenced
const voice = makeVoice(LEAD, () => draw());

const say = (sentence) => { parts.notice.textContent = sentence; parts.notice.hidden = !sentence; };
const send = (kind, more = {}) => { if (now.line?.readyState === 1) now.line.send(JSON.stringify({ kind, ...more })); };
const keep = (change) => {
  Object.assign(kept, change);
  localStorage.setItem("omni-live", JSON.stringify(kept));
};

// The line

const connect = () => new Promise((resolve, reject) => {
  const where = new URL(window.gradio_config.root + given.address, location.href);
  where.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const line = Object.assign(new WebSocket(where), { binaryType: "arraybuffer" });
  line.onopen = () => line.send(JSON.stringify({ kind: "hello", name: now.name }));
  line.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) { sound(data); return; }
    const message = JSON.parse(data);
    if (message.kind !== "welcome") { TOLD[message.kind](message); return; }
    Object.assign(now, { line, name: message.name });
    if (message.anew && turns.size) say("The server no longer knows what was said; the conversation begins anew.");
    resolve();
  };
  line.onerror = () => reject(new Error("The live connection could not be opened; check your network and press Start again."));
  line.onclose = () => { if (now.line === line) { now.line = null; lost(); } reject(new Error("The live connection was closed.")); };
});

const lost = async () => {
  voice.silence();
  if (!now.running || now.leaving) return;
  now.lost = true;
  draw();
  for (const seconds of RETRIES) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    if (!now.running) return;
    try {
      await connect();
      now.lost = false;
      begin();
      return;
    } catch { /* the next try */ }
  }
  stop("The connection to the server is lost; check your network and press Start again.");
};

const begin = () => {
  now.frames = 0;
  send("start", { pause: kept.pause, voice: kept.voice });
};

const TOLD = {
  started: ({ seconds }) => { now.ends = performance.now() + seconds * 1000; draw(); },
  state: ({ state, turn, last }) => {
    now.state = state;
    if (turn && last >= 0) turns.set(turn, { ...turns.get(turn), ended: arrived[last % arrived.length] });
    if (state === "hearing") look();
    draw();
  },
  silence: () => { hushed = speaking; voice.silence(); },
  stopped: ({ turn }) => { const it = turns.get(turn); it.value.reply.stopped = true; show(turn); },
  turn: (value) => { turns.set(value.turn, { ...turns.get(value.turn), value }); show(value.turn); },
  withdrawn: ({ turn }) => { turns.delete(turn); parts.turns.querySelector(`[data-turn="${turn}"]`)?.remove(); },
  cleared: () => { turns.clear(); parts.turns.replaceChildren(EMPTY); draw(); },
  inside: (told) => { window.omniInside = told; document.dispatchEvent(new Event("omni-inside")); },
  problem: ({ sentence }) => say(sentence),
  over: ({ sentence }) => stop(sentence),
};

const sound = (data) => {
  const head = new DataView(data);
  const [turn, rate] = [head.getUint32(0, true), head.getUint32(4, true)];
  if (turn <= hushed) return;
  if (turn !== speaking) { speaking = turn; voice.begin(); }
  const sounds = voice.play(new Int16Array(data, 12), rate);
  const it = turns.get(turn) ?? {};
  if (it.ended && !it.first) turns.set(turn, { ...it, first: (sounds - it.ended) / 1000 });
  root.dataset.gaps = voice.gaps;
};

const show = (turn) => {
  const { value, first } = turns.get(turn);
  if (first) root.dataset.first = first.toFixed(3);
  drawTurn(parts.turns, value, first);
  draw();
};

// The devices

const hear = (samples) => {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  if (!voice.speaking()) parts.orb.style.setProperty("--level", Math.min(1, Math.sqrt(power) / 6000).toFixed(2));
  if (!now.running || now.muted || (kept.push && !now.held) || now.line?.readyState !== 1) return;
  const message = new DataView(new ArrayBuffer(5 + 2 * samples.length));
  message.setUint8(0, 1);
  message.setUint32(1, voice.place() ?? SILENT, true);
  new Uint8Array(message.buffer).set(new Uint8Array(samples.buffer), 5);
  now.line.send(message.buffer);
  arrived[now.frames++ % arrived.length] = performance.now();
};

const look = async () => {
  const picture = await camera?.picture();
  if (picture && now.state === "hearing") now.line?.send(new Blob([new Uint8Array([2]), picture]));
  if (camera && now.state === "hearing") setTimeout(look, EACH);
};

const listen = async () => {
  microphone?.close();
  microphone = null;
  microphone = await openMicrophone({ device: kept.microphone, rate: given.rate, frame: given.frame, hear,
    lost: () => { microphone = null; stop("The microphone was taken away; allow it beside the address, or plug it in, and press Start again."); } });
  microphone.mute(now.muted);
  list();
};

const watchCamera = async (on) => {
  camera?.close();
  camera = null;
  say("");
  try {
    if (on) camera = await openCamera({ device: kept.camera, side: given.side, view: parts.sight,
      lost: () => { camera = null; say("The camera was taken away; the conversation goes on without it."); draw(); } });
  } catch (error) {
    say(error.message);
  }
  list();
  draw();
};

const list = async () => {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  for (const [box, kind, chosen] of [[parts.microphones, "audioinput", microphone?.device ?? kept.microphone], [parts.cameras, "videoinput", camera?.device ?? kept.camera]]) {
    const found = all.filter((one) => one.kind === kind);
    box.replaceChildren(...found.map(({ deviceId, label }, place) =>
      node("option", { value: deviceId, textContent: label || `${box.ariaLabel} ${place + 1}`, selected: deviceId === chosen })));
    box.disabled = !found.some((one) => one.deviceId);
    if (box.disabled) box.replaceChildren(node("option", { textContent: "Known once it is allowed" }));
  }
};

// What a visitor does

const start = async () => {
  say("");
  document.dispatchEvent(new Event("omni-silence")); // the chat's voice
  now.state = "connecting";
  now.running = true;
  draw();
  try {
    await Promise.all([listen(), now.line?.readyState === 1 ? null : connect()]);
    if (now.running) begin();
  } catch (error) {
    stop(error.message);
  }
};

const stop = (sentence = "") => {
  send("stop");
  Object.assign(now, { running: false, lost: false, held: false, state: "idle" });
  voice.silence();
  microphone?.close();
  camera?.close();
  microphone = camera = null;
  say(sentence);
  draw();
};

const mute = () => {
  now.muted = !now.muted;
  microphone?.mute(now.muted);
  if (now.muted && now.state === "hearing") send("release");
  draw();
};

const hold = (on) => {
  if (!now.running || !kept.push || now.held === on) return;
  now.held = on;
  send(on ? "press" : "release");
  draw();
};

const mood = () => {
  if (now.lost) return "lost";
  if (!now.running || now.state === "connecting") return now.running ? "connecting" : "idle";
  if (now.held) return "held";
  if (now.state === "hearing") return "hearing";
  if (voice.speaking() || (speaking > hushed && !turns.get(speaking)?.value?.done)) return "speaking"; // or out of breath
  if (["thinking", "waiting"].includes(now.state)) return now.state;
  if (kept.push) return "ready";
  return now.muted ? "muted" : camera ? "watching" : "listening";
};

const draw = () => {
  const shown = mood();
  const [label, hint] = MOODS[shown];
  Object.assign(root.dataset, { mood: shown, playing: voice.speaking(), camera: Boolean(camera) });
  if (parts.mood.textContent !== label) parts.mood.textContent = label;
  if (parts.hint.textContent !== hint) parts.hint.textContent = hint;
  parts.orb.ariaLabel = kept.push ? "Hold to talk" : "Interrupt the reply";
  parts.orb.disabled = !now.running || (!kept.push && shown !== "speaking" && shown !== "thinking");
  parts.go.textContent = now.running ? "End" : "Start";
  parts.go.classList.toggle("omni-end", now.running);
  parts.sight.hidden = !camera;
  const press = (button, on, label) => { button.ariaPressed = on; button.title = button.ariaLabel = label; };
  press(parts.mute, now.muted, now.muted ? "Unmute the microphone" : "Mute the microphone");
  press(parts.camera, Boolean(camera), camera ? "Turn the camera off" : "Turn the camera on");
  press(parts.more, !parts.choices.hidden, "Devices and settings");
  parts.anew.hidden = !turns.size;
  parts.left.hidden = !now.running || !now.ends;
  if (shown === "speaking" && !draw.moving) { draw.moving = true; requestAnimationFrame(move); }
};

const move = () => {
  draw.moving = voice.speaking();
  if (!draw.moving) return;
  const loudness = voice.loudness();
  root.dataset.loudest = Math.max(Number(root.dataset.loudest ?? 0), loudness).toFixed(4);
  parts.orb.style.setProperty("--level", Math.min(1, loudness * 5).toFixed(2));
  requestAnimationFrame(move);
};

setInterval(() => {
  if (!now.running || !now.ends) return;
  const seconds = Math.max(0, (now.ends - performance.now()) / 1000);
  parts.left.textContent = clock(seconds);
  parts.left.classList.toggle("omni-soon", seconds < 60);
}, 500);

const choose = (change) => { keep(change); send("choose", { pause: kept.pause, voice: kept.voice }); draw(); };
const setPause = () => { parts.paused.textContent = `${Number(parts.pause.value).toFixed(1)} s`; };
parts.pause.value = kept.pause;
parts.push.checked = kept.push;
if (given.voices.includes(kept.voice)) parts.voices.value = kept.voice;
setPause();
parts.pause.oninput = () => { setPause(); choose({ pause: Number(parts.pause.value) }); };
parts.push.onchange = () => { hold(false); choose({ push: parts.push.checked }); };
parts.voices.onchange = () => choose({ voice: parts.voices.value });
parts.microphones.onchange = () => { keep({ microphone: parts.microphones.value }); if (microphone) listen().catch((error) => stop(error.message)); };
parts.cameras.onchange = () => { keep({ camera: parts.cameras.value }); if (camera) watchCamera(true); };
parts.go.onclick = () => (now.running ? stop() : start());
parts.mute.onclick = mute;
parts.camera.onclick = () => watchCamera(!camera);
parts.more.onclick = () => { parts.choices.hidden = !parts.choices.hidden; list(); draw(); };
parts.anew.onclick = () => send("clear");
parts.orb.onclick = () => { if (!kept.push) send("interrupt"); };
parts.orb.onpointerdown = () => hold(true);
for (const event of ["pointerup", "pointercancel", "pointerleave"]) parts.orb.addEventListener(event, () => hold(false));
for (const [event, on] of [["keydown", true], ["keyup", false]])
  document.addEventListener(event, (press) => {
    if (event === "keydown" && press.key === "Escape" && voice.speaking()) { voice.silence(); send("interrupt"); }
    if (press.code !== "Space" || !now.running || !kept.push || press.target.closest("select, input, textarea")) return;
    press.preventDefault();
    hold(on);
  });
navigator.mediaDevices?.addEventListener?.("devicechange", list);
addEventListener("pagehide", () => { now.leaving = true; now.line?.close(1000); });
// Whoever looks at another tab is not listened to.
new IntersectionObserver(([seen]) => { if (!seen.isIntersecting && now.running) stop("The conversation ended when you left this tab."); }).observe(root);
parts.turns.append(EMPTY);
if (!given.hears) { parts.go.disabled = true; say("This model does not take sound, so it cannot be talked to."); }
draw();
