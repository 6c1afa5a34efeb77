// Microphones and cameras, and in a sentence why there is none.
const REASONS = {
  NotAllowedError: (device) => `The browser does not allow the ${device}; allow it beside the address and try again.`,
  NotFoundError: (device, instead) => `No ${device} was found on this device; ${instead}.`,
  NotReadableError: (device) => `Another program is using the ${device}; close it there and try again.`,
};

// A stream of the device. Throws an Error whose message is a sentence; `instead` says what else can be done.
const openDevice = async (device, wanted, instead) => {
  if (!navigator.mediaDevices?.getUserMedia)
    throw new Error(`Browsers open the ${device} on https pages and on localhost only; ${instead}.`);
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    throw new Error((REASONS[error.name] ?? ((name) => `The ${name} could not be opened; please try again.`))(device, instead));
  }
};

const stopTracks = (stream) => stream?.getTracks().forEach((track) => track.stop());
