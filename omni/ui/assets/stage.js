// What the live tab looks like: its nodes, and how a turn is drawn. Knows neither microphone nor line.
const MOODS = {
  idle: ["Ready when you are", "Press Start and speak. Nothing is heard before."],
  connecting: ["Connecting", "One moment"],
  lost: ["Connection lost", "Trying to reach the server again"],
  muted: ["Muted", "The microphone is off"],
  ready: ["Hold to talk", "Hold the circle or the space bar while you speak"],
  listening: ["Listening", "Just speak; a short silence ends your turn"],
  watching: ["Listening", "Speak, and hold up what you mean"],
  hearing: ["I hear you", "A short silence ends your turn"],
  held: ["I hear you", "Let go when you have finished"],
  waiting: ["Waiting for the model", "It is answering somebody else"],
  thinking: ["Thinking", ""],
  speaking: ["Speaking", "Speak to interrupt"],
};

const toggle = (name, label, click) => {
  const made = iconButton(name, label, click, "omni-round");
  made.setAttribute("aria-pressed", "false");
  return made;
};

const field = (label, input, ...more) => node("label", {}, node("span", { textContent: label }), input, ...more);

const makeStage = ({ voices, pause, pauses: [shortest, longest], sees }) => {
  const button = (textContent, className) => node("button", { type: "button", textContent, className });
  const select = (ariaLabel) => node("select", { ariaLabel });
  const parts = {
    sight: node("video", { className: "omni-sight", autoplay: true, muted: true, playsInline: true, hidden: true, ariaLabel: "Your camera" }),
    orb: node("button", { type: "button", className: "omni-orb", ariaLabel: "Interrupt the reply" }, node("i"), node("i"), node("i")),
    mood: node("b"),
    hint: node("span"),
    left: node("time", { className: "omni-left", title: "Time left", hidden: true }),
    go: button("Start", "omni-go"),
    mute: toggle("audio", "Mute the microphone"),
    camera: toggle("camera", "Turn the camera on"),
    more: toggle("gear", "Devices and settings"),
    notice: node("p", { className: "omni-live-notice", hidden: true }),
    turns: node("div", { className: "omni-turns" }),
    anew: button("New conversation", "omni-anew"),
    microphones: select("Microphone"),
    cameras: select("Camera"),
    voices: select("Voice"),
    pause: node("input", { type: "range", min: shortest, max: longest, step: 0.1, value: pause, ariaLabel: "Silence that ends a turn" }),
    paused: node("output"),
    push: node("input", { type: "checkbox" }),
  };
  parts.notice.setAttribute("role", "alert");
  parts.voices.append(...voices.map((voice) => node("option", { value: voice, textContent: voice })));
  parts.choices = node("div", { className: "omni-choices", hidden: true },
    field("Microphone", parts.microphones), sees ? field("Camera", parts.cameras) : null,
    voices.length ? field("Voice", parts.voices) : null,
    field("Turn ends after", parts.pause, parts.paused), field("Push to talk", parts.push));
  const status = node("p", { className: "omni-mood" }, parts.mood, parts.hint);
  status.setAttribute("role", "status");
  root.append(
    node("section", { className: "omni-stage", ariaLabel: "Live" }, parts.sight, parts.left, parts.orb, status, parts.notice),
    node("section", { className: "omni-transcript", ariaLabel: "What was said" },
      node("header", {}, node("h2", { textContent: "What was said" }), parts.anew), parts.turns),
    node("div", { className: "omni-controls" }, parts.choices, parts.mute, sees ? parts.camera : null, parts.go, parts.more));
  parts.turns.setAttribute("role", "log");
  return parts;
};

const EMPTY = node("div", { className: "omni-unsaid" },
  node("p", { textContent: "Talk as you would on the phone. The reply is spoken while it is made, and stops when you speak over it." }),
  node("p", { textContent: "Here you will read what the model understood, see what it was shown, and how long each answer took." }));

// `measured`: seconds from the end of the speech to the first sound of the reply, as the browser saw them.
const drawTurn = (turns, { turn, asked, reply, doing, done, sentence, figures = [] }, measured) => {
  EMPTY.remove();
  const name = `turn-${turn}`;
  let box = turns.querySelector(`[data-turn="${turn}"]`);
  if (!box) {
    box = node("article", { data: { turn } }, node("div", { className: "omni-said" }),
      node("div", { className: "omni-parts" }), node("footer"));
    turns.append(box);
  }
  const [said, parts, footer] = box.children;
  drawSaid(said, asked);
  drawParts(parts, reply.parts.filter((part) => part.kind !== "audio"));
  box.classList.toggle("omni-growing", !done);
  const speech = reply.parts.find((part) => part.kind === "audio");
  const answered = measured ? `answered after ${measured.toFixed(2)} s` : "";
  footer.replaceChildren(...[
    reply.stopped && node("span", { className: "omni-stopped", textContent: "Interrupted" }),
    sentence && node("span", { className: "omni-failed", textContent: sentence }),
    !done && node("span", { className: "omni-doing", textContent: doing }),
    speech && iconButton("sound", "Play the reply again", () => new Audio(address(speech.file)).play()),
    speech && download(speech),
    figures.length ? node("details", {}, node("summary", { textContent: answered || "Times" }), figures.join(" · "))
      : node("small", { textContent: answered }),
  ].filter(Boolean));
  turns.parentElement.scrollTop = turns.parentElement.scrollHeight;
};

const drawSaid = (box, asked) => {
  const key = JSON.stringify(asked);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const words = asked.parts.map((part) => part.kind === "audio" && part.caption).filter(Boolean).join(" ");
  box.replaceChildren(
    node("p", { className: words ? "omni-words" : "omni-words omni-unheard", textContent: words || "…" }),
    node("div", { className: "omni-saw" }, ...asked.parts.filter((part) => part.kind === "image").map((part) =>
      node("button", { type: "button", className: "omni-picture", title: "What the model saw", on: { click: () => zoom(part) } },
        node("img", { src: address(part.file), alt: "A picture of the camera that the model saw" })))));
};
