// What the last reply took: a waterfall of its stages, and its figures. Value: {at, state, pace, usage, waited, files, media}.
// Tells the others of it by the document's "omni-turn".
const NAMES = { waited: "Waiting", intake: "Taking in", prefill: "Prefill", text: "Text", speech: "Speech", image: "Picture",
  video: "Clip", files: "Files" };
const KINDS = { text: "text", speech: "speech", image: "picture", video: "clip", audio: "sound" };
const seconds = (time) => (time < 0.0995 ? `${Math.round(1000 * time)} ms` : `${time.toFixed(time < 9.95 ? 2 : 1)} s`);

const size = (amount) => (amount >= 1e9 ? `${(amount / 1e9).toFixed(2)} GB` : `${(amount / 1e6).toFixed(1)} MB`);

const rows = ({ usage, waited, files }) => {
  const made = usage.spans.map(({ name, start, end }) => ({ name, start: start + waited, end: end + waited }));
  const firsts = { text: usage.first_text, speech: usage.first_speech, image: usage.image, video: usage.clip };
  for (const row of made) if (firsts[row.name] != null) row.first = firsts[row.name] + waited;
  const ends = waited + usage.seconds;
  return [{ name: "waited", start: 0, end: waited }, ...made, { name: "files", start: ends, end: ends + files }];
};

const drawRow = ({ name, start, end, first }, whole) => {
  const bar = node("b", { data: { kind: name } });
  bar.style.left = `${100 * start / whole}%`;
  bar.style.width = `${100 * (end - start) / whole}%`;
  const tick = first === undefined ? null : node("u", { title: `shown after ${seconds(first)}` });
  if (tick) tick.style.left = `${100 * first / whole}%`;
  const shown = first === undefined ? "" : `, shown from ${seconds(first)}`;
  return node("li", {}, node("span", { textContent: NAMES[name] ?? name }), node("span", { className: "omni-track" }, bar, tick),
    node("span", { textContent: seconds(end - start), title: `from ${seconds(start)} to ${seconds(end)}${shown}` }));
};

const listed = (tokens) => Object.entries(tokens).filter(([, count]) => count).map(([kind, count]) => `${count.toLocaleString()} ${KINDS[kind] ?? kind}`).join(", ") || "none";
const figures = ({ usage }) => {
  const made = Object.values(usage.tokens_out).reduce((sum, count) => sum + count, 0);
  const joules = Object.entries(usage.joules);
  const hits = usage.experts_used ? `, ${(100 * (1 - usage.experts_fetched / usage.experts_used)).toFixed(1)} % found in memory` : "";
  return [
    ["Tokens read", listed(usage.tokens_in)],
    ["Tokens made", `${listed(usage.tokens_out)}${usage.seconds ? `; ${Math.round(made / usage.seconds).toLocaleString()} a second` : ""}`],
    usage.speech_seconds ? ["Speech", `${usage.speech_seconds.toFixed(1)} s, ${(usage.speech_seconds / usage.seconds).toFixed(1)} times as fast as it sounds`] : null,
    usage.experts_used ? ["Experts", `${usage.experts_used.toLocaleString()} uses${hits}; ${size(usage.bytes_fetched)} read, ${seconds(usage.stalled)} waited for them`] : null,
    ["Energy", joules.length ? joules.map(([device, amount]) => `${amount.toFixed(1)} J (${device})`).join(", ") : "this machine does not count it"],
  ].filter(Boolean);
};

const draw = () => {
  const { state, usage, pace } = props.value;
  root.told = props.value;
  document.dispatchEvent(new CustomEvent("omni-turn", { detail: props.value }));
  root.dataset.state = state;
  const parts = [node("h2", { textContent: "What it took" })];
  if (!usage) {
    const line = { empty: "No reply yet.", live: "A reply is being made.", stopped: "The reply was stopped before its end." };
    const [took, made] = Object.values(pace).at(-1) ?? [0, 0];
    if (took) parts.push(node("p", { className: "omni-figure", textContent: seconds(took) }, node("small", { textContent: `${made} tokens so far` })));
    parts.push(node("p", { className: "omni-note", textContent: line[state] }));
  } else {
    const stages = rows(props.value), whole = Math.max(...stages.map(({ end }) => end), 0.001);
    parts.push(node("p", { className: "omni-figure", textContent: seconds(whole) }, node("small", { textContent: "from asked to done" })),
      node("ol", { className: "omni-waterfall" }, ...stages.map((row) => drawRow(row, whole))),
      node("dl", {}, ...figures(props.value).flatMap(([name, value]) => [node("dt", { textContent: name }), node("dd", { textContent: value })])));
  }
  root.replaceChildren(...parts);
};
const update = onNews(() => {
  const { at, state, pace } = props.value;
  return [at, state, Object.keys(pace).length];
}, draw);
watch("value", update);
watchLive("turn", update);
draw();
