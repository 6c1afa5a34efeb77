// The microphone as frames of samples, the camera as pictures.
const PROCESSOR = `registerProcessor("omni-microphone", class extends AudioWorkletProcessor {
  constructor({ processorOptions: { frame } }) {
    super();
    this.frame = new Int16Array(frame);
    this.filled = 0;
  }
  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.frame[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled < this.frame.length) continue;
      this.port.postMessage(this.frame);
      this.filled = 0;
    }
    return true;
  }
});`;

const INSTEAD = "you can write in the chat instead";
const AUDIO = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };

// Opens a microphone; `hear` gets frames of `frame` 16-bit samples at `rate`, `lost` is called when it is taken away.
const openMicrophone = async ({ device, rate, frame, hear, lost }) => {
  const stream = await openDevice("microphone", { audio: { ...AUDIO, deviceId: device || undefined } }, INSTEAD);
  const [track] = stream.getAudioTracks();
  const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
  const close = () => { track.onended = null; stopTracks(stream); context.close(); };
  const address = URL.createObjectURL(new Blob([PROCESSOR], { type: "text/javascript" }));
  try {
    await context.audioWorklet.addModule(address);
    const node = new AudioWorkletNode(context, "omni-microphone", { numberOfOutputs: 0, processorOptions: { frame } });
    context.createMediaStreamSource(stream).connect(node);
    node.port.onmessage = ({ data }) => hear(data);
  } catch {
    close();
    throw new Error(`This browser cannot pass sound on as the live tab needs it; ${INSTEAD}.`);
  } finally {
    URL.revokeObjectURL(address);
  }
  track.onended = () => { close(); lost(); };
  context.resume();
  return { close, device: track.getSettings().deviceId, mute: (on) => { track.enabled = !on; } };
};

// Opens a camera into the video element `view`; `picture` makes a JPEG, at most `side` pixels long.
const openCamera = async ({ device, side, view, lost }) => {
  const wanted = { width: { ideal: 640 }, deviceId: device || undefined };
  const stream = await openDevice("camera", { video: wanted }, "the conversation goes on without it");
  const [track] = stream.getVideoTracks();
  const close = () => { track.onended = null; stopTracks(stream); view.srcObject = null; };
  view.srcObject = stream;
  track.onended = () => { close(); lost(); };
  const canvas = document.createElement("canvas");
  const picture = () => new Promise((resolve) => {
    const scale = Math.min(1, side / Math.max(view.videoWidth, view.videoHeight));
    if (!Number.isFinite(scale)) { resolve(null); return; } // nothing was seen yet
    canvas.width = Math.round(view.videoWidth * scale);
    canvas.height = Math.round(view.videoHeight * scale);
    canvas.getContext("2d").drawImage(view, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(resolve, "image/jpeg", 0.8);
  });
  return { close, picture, device: track.getSettings().deviceId };
};
