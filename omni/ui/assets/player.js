// The voice of the page. Value: {name, rate, blocks: {number: base64 PCM16}}; plays each block once, where the one
// before it ends. Falls silent on the document's "omni-silence", and for good: what still comes of that reply is not
// played.
const LEAD = 0.25; // seconds between the arrival of the first block and its sound; blocks come every 0.15
let context = null;
let meter = null;
let muted = false;
let playing = { name: null, next: 0, ends: 0, sources: new Set() };

const output = (rate) => {
  if (context?.sampleRate === rate) return context;
  context?.close();
  context = new AudioContext({ sampleRate: rate }); // the rate of the speech: blocks join sample by sample
  meter = new AnalyserNode(context, { fftSize: 512 });
  meter.connect(context.destination);
  return context;
};

const silence = () => {
  playing.sources.forEach((source) => source.stop());
  playing.sources.clear();
  playing.next = Infinity;
  draw();
};

const play = (block) => {
  const bytes = Uint8Array.from(atob(block), (letter) => letter.charCodeAt(0));
  const samples = Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
  const buffer = new AudioBuffer({ length: samples.length, sampleRate: context.sampleRate });
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(meter);
  if (playing.ends < context.currentTime) {
    if (playing.ends) root.dataset.gaps = Number(root.dataset.gaps) + 1;
    playing.ends = context.currentTime + LEAD;
  }
  source.start(playing.ends);
  playing.ends += buffer.duration;
  playing.sources.add(source);
  source.onended = () => { playing.sources.delete(source); if (!playing.sources.size) draw(); };
};

const feed = () => {
  const { name, rate, blocks } = props.value;
  if (name !== playing.name) {
    silence();
    playing = { name, next: 0, ends: 0, sources: new Set() };
    root.dataset.gaps = 0;
  }
  if (!name || muted) return;
  output(rate);
  context.resume();
  for (const number of Object.keys(blocks).map(Number)) {
    if (number < playing.next) continue;
    play(blocks[number]);
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
  if (!playing.sources.size) return;
  const heard = new Float32Array(meter.fftSize);
  meter.getFloatTimeDomainData(heard);
  const loudness = Math.sqrt(heard.reduce((sum, sample) => sum + sample * sample, 0) / heard.length);
  root.dataset.loudest = Math.max(Number(root.dataset.loudest ?? 0), loudness).toFixed(4);
  bars.style.setProperty("--loudness", Math.min(1, loudness * 5).toFixed(2));
  requestAnimationFrame(listen);
};

const draw = () => {
  const speaking = playing.sources.size > 0;
  if (speaking && root.dataset.playing !== "true") requestAnimationFrame(listen);
  root.dataset.playing = speaking;
  const label = muted ? "Let replies speak" : "Mute replies";
  root.replaceChildren(speaking ? bars : "", iconButton(muted ? "muted" : "sound", label, mute));
};

document.addEventListener("omni-silence", silence);
// Some browsers let sound begin only from a click or a key.
for (const gesture of ["pointerdown", "keydown"])
  document.addEventListener(gesture, () => (context ?? output(props.value.rate)).resume(), { capture: true });
watch("value", feed);
draw();
