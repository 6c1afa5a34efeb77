// Ways into the composer: files, pasting, dropping, microphone, camera. Whatever is taken becomes a file of the one
// upload field, so that everything enters through the same door. Given: takes (kinds the model takes), accepts (what the
// picker offers), seconds (the longest sound and clip).
const inbox = () => document.querySelector("#omni-composer > input[type=file]");
const panel = node("div", { className: "omni-recorder", hidden: true });
const notice = node("p", { className: "omni-notice", hidden: true });
notice.setAttribute("role", "alert");
let closing = () => {};

const hand = (files) => layInto(inbox(), files);

const say = (sentence) => { notice.textContent = sentence; notice.hidden = !sentence; };

// A stream of the device, or null after saying why there is none.
const open = async (device, wanted) => {
  say("");
  try {
    return await openDevice(device, wanted, "you can attach a file instead");
  } catch (error) {
    say(error.message);
    return null;
  }
};

const show = (...children) => {
  closing();
  panel.replaceChildren(...children);
  panel.hidden = false;
};

const close = () => { closing(); closing = () => {}; panel.hidden = true; panel.replaceChildren(); };

// Records until `stop` is called or time is up; resolves to a file. `tick` gets the seconds so far.
const record = (stream, name, limit, tick) => {
  const recorder = new MediaRecorder(stream);
  const pieces = [];
  const began = performance.now();
  const timer = setInterval(() => {
    const seconds = (performance.now() - began) / 1000;
    tick(seconds);
    if (seconds >= limit && recorder.state === "recording") recorder.stop();
  }, 100);
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const done = new Promise((resolve) => {
    recorder.onstop = () => {
      clearInterval(timer);
      const kind = recorder.mimeType.split(";")[0];
      resolve(new File(pieces, `${name}.${kind.split("/")[1]}`, { type: kind }));
    };
  });
  recorder.start();
  return { done, stop: () => recorder.state === "recording" && recorder.stop() };
};

const recordVoice = async () => {
  const stream = await open("microphone", { audio: true });
  if (!stream) return;
  const time = node("time", { textContent: "0:00" });
  let kept = true;
  const recording = record(stream, "voice", given.seconds.audio, (seconds) => { time.textContent = clock(seconds); });
  show(node("span", { className: "omni-dot" }), node("span", { textContent: "Recording" }), time,
    iconButton("close", "Discard recording", () => { kept = false; recording.stop(); }),
    node("button", { type: "button", className: "omni-primary", textContent: "Done", on: { click: recording.stop } }));
  panel.lastElementChild.focus();
  closing = () => { kept = false; recording.stop(); };
  const file = await recording.done;
  stopTracks(stream);
  closing = () => {};
  close();
  if (kept) hand([file]);
};

const photograph = (view) => {
  const canvas = node("canvas", { width: view.videoWidth, height: view.videoHeight });
  canvas.getContext("2d").drawImage(view, 0, 0);
  canvas.toBlob((blob) => hand([new File([blob], "photo.png", { type: "image/png" })]), "image/png");
};

const openCamera = async (facing = "user") => {
  const stream = await open("camera", { video: { facingMode: facing } });
  if (!stream) return;
  const view = node("video", { srcObject: stream, autoplay: true, muted: true, playsInline: true,
    className: facing === "user" ? "omni-mirror" : "" });
  const photo = node("button", { type: "button", className: "omni-primary omni-photo", textContent: "Take photo", disabled: true,
    on: { click: () => { photograph(view); close(); } } });
  const clip = node("button", { type: "button", textContent: "Record clip", disabled: true,
    on: { click: () => recordClip(stream, clip) } });
  view.onloadeddata = () => { photo.disabled = clip.disabled = false; photo.focus(); };
  show(view, node("div", {}, given.takes.includes("image") ? photo : null, given.takes.includes("video") ? clip : null,
    iconButton("retry", "Other camera", () => openCamera(facing === "user" ? "environment" : "user")),
    iconButton("close", "Close camera", close)));
  closing = () => stopTracks(stream);
};

const recordClip = async (stream, start) => {
  const voice = await navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => null); // silent without one
  const both = new MediaStream([...stream.getTracks(), ...(voice?.getTracks() ?? [])]);
  const end = node("button", { type: "button", className: "omni-primary", textContent: "Stop 0:00" });
  const recording = record(both, "clip", given.seconds.video, (seconds) => { end.textContent = `Stop ${clock(seconds)}`; });
  let kept = true;
  end.addEventListener("click", recording.stop);
  start.replaceWith(end);
  panel.classList.add("omni-recording");
  closing = () => { kept = false; recording.stop(); };
  const file = await recording.done;
  panel.classList.remove("omni-recording");
  stopTracks(both);
  closing = () => {};
  close();
  if (kept) hand([file]);
};

const toggle = (start) => () => (panel.hidden ? start() : close());
const takes = (...kinds) => kinds.some((kind) => given.takes.includes(kind));
root.append(panel, notice,
  iconButton("attach", "Attach files", () => { inbox().accept = given.accepts; inbox().click(); }),
  takes("audio") ? iconButton("audio", "Record your voice", toggle(recordVoice)) : "",
  takes("image", "video") ? iconButton("camera", "Photo or clip from the camera", toggle(() => openCamera())) : "");

const silence = () => document.dispatchEvent(new Event("omni-silence"));
const busy = () => document.body.classList.contains("omni-busy");
const button = (name) => document.querySelector(`#omni-${name}`);
// While a reply is being made it alone changes the thread: whoever wants something else ends it and goes on then.
const afterReply = (event, go) => {
  silence();
  if (!busy()) return;
  event.preventDefault();
  event.stopPropagation();
  document.addEventListener("omni-idle", go, { once: true });
  button("stop").click();
};
document.addEventListener("click", (event) => {
  if (event.target.closest("#omni-fresh")) afterReply(event, () => button("fresh").click());
  else if (event.target.closest("#omni-stop, #omni-send")) silence();
}, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && busy()) button("stop").click();
  else if (event.key === "Escape") { silence(); close(); }
  if (event.key === "Enter" && !event.shiftKey && event.target.closest("#omni-words"))
    afterReply(event, () => button("send").click());
}, true);
const checking = () => Boolean(document.querySelector(".omni-check")?.checkVisibility());  // that tab takes files itself
document.addEventListener("paste", (event) => {
  if (checking()) return;
  if (event.clipboardData?.files.length) { event.preventDefault(); hand(event.clipboardData.files); return; }
  const field = event.target.closest?.("#omni-words textarea");
  const text = event.clipboardData?.getData("text/plain") ?? "";
  if (!field || field.value.length + text.length <= field.maxLength) return;
  event.preventDefault();  // what the field would cut off becomes a document
  hand([new File([text], "pasted.txt", { type: "text/plain" })]);
});
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("omni-dropping", kind === "dragover");
    if (kind === "drop" && !checking()) hand(event.dataTransfer.files);
  });
