// Speech on a Web Audio clock: each piece sounds where the one before it ends, the first one `lead` seconds after it came.
// `changed` is called when the voice begins, ends or is silenced.
// A clock that runs takes processor time, sound or none, so it rests while there is nothing to say.
const REST = 5000;  // milliseconds of silence before it does

const makeVoice = (lead, changed) => {
  let context = null;
  let resting = 0;
  let meter = null;
  const sources = new Set();
  const voice = { gaps: 0, ends: 0, played: [] }; // played: where each piece lies on the clock and in the reply

  voice.speaking = () => sources.size > 0;

  voice.output = (rate) => {
    if (context?.sampleRate === rate) return context;
    context?.close();
    context = new AudioContext({ sampleRate: rate }); // the rate of the speech: pieces join sample by sample
    meter = new AnalyserNode(context, { fftSize: 512 });
    meter.connect(context.destination);
    return context;
  };

  const rest = () => {
    clearTimeout(resting);
    resting = setTimeout(() => sources.size || context.suspend(), REST);
  };

  voice.wake = (rate) => {
    (context ?? voice.output(rate)).resume();
    rest();
  };

  voice.silence = () => {
    sources.forEach((source) => source.stop());
    sources.clear();
    if (context) rest();
    changed();
  };

  voice.begin = () => {
    voice.silence();
    Object.assign(voice, { gaps: 0, ends: 0, played: [] });
  };

  // Takes 16-bit samples; returns when they will sound, in milliseconds of performance.now().
  voice.play = (pcm, rate) => {
    voice.output(rate).resume();
    const samples = Float32Array.from(pcm, (sample) => sample / 32768);
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(meter);
    if (voice.ends < context.currentTime) {
      if (voice.ends) voice.gaps += 1;
      voice.ends = context.currentTime + Math.min(0.5, lead * 2 ** voice.gaps); // what stuttered once waits longer
    }
    const [last] = voice.played.slice(-1);
    voice.played.push({ at: voice.ends, from: last ? last.from + last.length : 0, length: samples.length });
    const sounds = performance.now() + (voice.ends - context.currentTime) * 1000;
    source.start(voice.ends);
    voice.ends += buffer.duration;
    sources.add(source);
    source.onended = () => {
      if (!sources.delete(source) || sources.size) return;
      rest();
      changed();
    };
    if (sources.size === 1) changed();
    return sounds;
  };

  // The sample of the reply that sounds now, null where none does.
  voice.place = () => {
    if (!voice.speaking()) return null;
    const now = context.currentTime;
    const piece = voice.played.findLast(({ at }) => at <= now);
    return piece ? piece.from + Math.min(piece.length, Math.round((now - piece.at) * context.sampleRate)) : 0;
  };

  voice.loudness = () => {
    const heard = new Float32Array(meter.fftSize);
    meter.getFloatTimeDomainData(heard);
    return Math.sqrt(heard.reduce((sum, sample) => sum + sample * sample, 0) / heard.length);
  };
  return voice;
};
