"""Speech for training, made in this process by libespeak-ng: samples, word times and phoneme times.

Knows nothing of codecs or batches. The library keeps one global state and is not thread-safe: a process may speak from
one thread at a time; a DataLoader worker loads its own on first use.
"""

import ctypes
import ctypes.util
import functools
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass

import numpy as np

RATE = 16000
EDGE_S = 0.04  # silence kept at both ends
MAX_CHARS = 2000
PUNCTUATION = frozenset(".,?!;:")
_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT, _UTF8 = 2, 0x0001, 0x8000, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_WORD, _PHONEME = 1, 7  # espeak_EVENT_TYPE


@dataclass(frozen=True)
class Voice:
    """How somebody speaks: espeak's language+variant, words a minute, pitch and its range (both 0-100)."""

    name: str
    espeak: str
    rate: int = 160
    pitch: int = 50
    range: int = 50


@dataclass(frozen=True)
class Spoken:
    """What was said: `samples` (N,) float32 at 16 kHz; spans in seconds, one per word, contiguous to the end."""

    samples: np.ndarray
    words: tuple[tuple[float, float], ...]
    phonemes: tuple[tuple[str, float, float], ...]


SPEAKERS = (Voice("ada", "en-us+f2", 155, 55, 50), Voice("ben", "en-us+m3", 155, 40, 50))
TRAIN_VOICES = SPEAKERS + tuple(
    Voice(f"train{i:02d}", *row)
    for i, row in enumerate(
        (
            ("en-us", 150, 50, 50),
            ("en-us+m1", 140, 45, 60),
            ("en-us+m2", 165, 35, 40),
            ("en-us+m4", 175, 55, 50),
            ("en-us+m5", 150, 40, 70),
            ("en-us+m6", 185, 50, 50),
            ("en-us+f1", 150, 50, 50),
            ("en-us+f3", 170, 60, 60),
            ("en-us+f4", 140, 50, 40),
            ("en", 160, 45, 50),
            ("en+m3", 130, 35, 60),
            ("en+m7", 170, 50, 50),
            ("en+f2", 145, 60, 60),
            ("en+f5", 180, 45, 50),
            ("en-gb-scotland", 155, 50, 50),
            ("en-gb-scotland+f1", 165, 55, 40),
            ("en-029", 160, 45, 60),
            ("en-029+f4", 150, 55, 50),
            ("en-gb-x-rp+m2", 175, 40, 50),
            ("en-gb-x-rp+f3", 135, 65, 50),
            ("en-us+klatt", 150, 40, 50),
            ("en-us+klatt2", 165, 50, 60),
            ("en+klatt3", 155, 55, 50),
            ("en-us+steph", 160, 50, 50),
            ("en-us+john", 150, 40, 50),
            ("en+linda", 160, 55, 50),
        )
    )
)
HELDOUT_VOICES = (
    Voice("exam0", "en-us+michael", 158, 45, 55),
    Voice("exam1", "en-us+belinda", 148, 52, 50),
    Voice("exam2", "en-us+m8", 172, 42, 50),
    Voice("exam3", "en+anika", 162, 50, 50),
    Voice("exam4", "en+max", 144, 48, 60),
    Voice("exam5", "en-us+alicia", 168, 50, 45),
)
FLITE_VOICES = ("slt", "rms", "kal16")  # codec training only: flite tells no word times
_VOICES = {voice.name: voice for voice in TRAIN_VOICES + HELDOUT_VOICES}


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def available() -> bool:
    """Whether libespeak-ng can be loaded here."""
    try:
        with _lock:
            _fresh_espeak()
    except (OSError, RuntimeError):
        return False
    return True


def voice(name: str) -> Voice:
    """The voice of that name; KeyError if there is none."""
    return _VOICES[name]


def speak(text: str, voice: Voice) -> Spoken:
    """Say `text` (lower-case words, punctuation attached or apart); the same call gives the same samples.

    Silence at the ends is trimmed to 40 ms. ValueError where the text is empty, too long or the voice unknown.
    """
    count = len(_word_starts(text))
    if not count or len(text) > MAX_CHARS:
        raise ValueError(f"a text to speak has 1 word or more and at most {MAX_CHARS} characters: {text[:40]!r}")
    with _lock:
        samples, rate, events = _fresh_espeak().say(text, voice)
    samples = _resample(samples, rate)
    first, last = _loud(samples)
    samples, end = samples[first:last], (last - first) / RATE
    at = functools.partial(_seconds, rate=rate, first=first, end=end)
    starts = [at(sample) for sample in _start_samples(text, events, int((last / RATE) * rate))]
    words = tuple(zip(starts, [*starts[1:], end], strict=True))
    assert len(words) == count
    marks = [(label, at(sample)) for kind, _, sample, label in events if kind == _PHONEME]
    marks = marks + [("", end)]
    phonemes = tuple((a[0], a[1], b[1]) for a, b in zip(marks, marks[1:], strict=False) if b[1] > a[1])
    return Spoken(samples, words, phonemes)


def flite(text: str, name: str) -> np.ndarray:
    """(N,) float32 at 16 kHz by the flite command; RuntimeError where it is absent or fails."""
    import soundfile

    if name not in FLITE_VOICES or shutil.which("flite") is None:
        raise RuntimeError(f"flite with the voice {name} is not there.")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "said.wav")
        subprocess.run(["flite", "-voice", name, "-t", text, "-o", path], check=True, capture_output=True, timeout=20)
        samples, rate = soundfile.read(path, dtype="float32")
    samples = _resample(samples, rate)
    first, last = _loud(samples)
    return samples[first:last]


def room(samples: np.ndarray, rng: np.random.Generator, strength: float = 1.0, shift: bool = True) -> np.ndarray:
    """Augment (N,) float32: small resampling pitch shift, EQ, decaying reverberation, noise, level.

    Only the pitch shift changes times (by at most 6%); `shift=False` leaves them exact.
    """
    if shift and rng.random() < 0.5 * strength:
        ratio = float(np.exp2(rng.uniform(-1, 1) / 12))
        at = np.arange(0, len(samples) - 1, ratio)
        samples = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    count = len(samples)
    size = 1 << (count + RATE // 8).bit_length()
    spectrum = np.fft.rfft(samples, size)
    if rng.random() < 0.5 * strength:
        tilt = np.interp(np.linspace(0, 1, size // 2 + 1), np.linspace(0, 1, 6), rng.normal(0, 2, 6))
        spectrum *= 10 ** (tilt / 20)
    if rng.random() < 0.4 * strength:
        seconds = rng.uniform(0.02, 0.1)
        tail = rng.normal(0, 1, RATE // 8) * np.exp(-np.arange(RATE // 8) / (seconds * RATE / 3))
        tail *= rng.uniform(0.1, 0.4) / np.sqrt(np.sum(tail**2))
        tail[0] = 1.0
        spectrum *= np.fft.rfft(tail, size)
    out = np.fft.irfft(spectrum, size)[:count]
    if rng.random() < 0.5 * strength:
        noise = rng.normal(0, 1, count)
        if rng.random() < 0.5:  # pink
            noise = np.fft.irfft(np.fft.rfft(noise, size) / np.sqrt(np.arange(1, size // 2 + 2)), size)[:count]
        level = np.sqrt(np.mean(out**2) + 1e-9) * 10 ** (-rng.uniform(25, 45) / 20)
        out = out + noise * level / (np.std(noise) + 1e-9)
    peak = np.max(np.abs(out)) + 1e-6
    wanted = 0.6 * 10 ** (-rng.uniform(0, 10 * strength) / 20)
    return (out * wanted / peak).astype(np.float32)


def hush(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) float32: what a microphone hears of a room where nobody speaks, from digital silence to a faint hiss."""
    level = 0.0 if rng.random() < 0.3 else 10 ** rng.uniform(-4.5, -2.7)
    return rng.normal(0, level, int(seconds * RATE)).astype(np.float32)


def in_time(samples: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """(N,) float32 as people record: half of them wait before and after they speak. And the seconds before."""
    if rng.random() < 0.5:
        return samples, 0.0
    before, after = (hush(seconds, rng) for seconds in rng.uniform(0, 0.6, 2))
    return np.concatenate([before, samples, after]), len(before) / RATE


class _Espeak:
    """The loaded library; `chunks` and `events` are filled by its callback during one `say`."""

    def __init__(self):
        self.process = ctypes.CDLL(None)
        self.library = ctypes.CDLL(_library_name())
        self.chunks: list[np.ndarray] = []
        self.events: list[tuple[int, int, int, str]] = []  # type, text position, sample, phoneme
        self.callback = _CALLBACK(self._hear)  # kept: the library holds only a pointer
        self.rate = self.library.espeak_Initialize(_SYNCHRONOUS, 200, None, _PHONEME_EVENTS | _DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng is installed, but its voice data could not be read.")
        self.library.espeak_SetSynthCallback(self.callback)

    def say(self, text: str, voice: Voice) -> tuple[np.ndarray, int, list]:
        """Samples (N,) float32, their rate and the events of one text."""
        self.chunks, self.events = [], []
        if self.library.espeak_SetVoiceByName(voice.espeak.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.espeak!r}.")
        for parameter, value in ((_RATE, voice.rate), (_VOLUME, 100), (_PITCH, voice.pitch), (_RANGE, voice.range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self.process.srand(1)  # espeak's noise is the C library's rand()
        self.library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
        if not self.chunks:
            raise ValueError(f"espeak-ng said nothing for {text[:40]!r}.")
        return np.concatenate(self.chunks).astype(np.float32) / 32768, self.rate, self.events

    def close(self) -> None:
        """Unload the library, so that the next one starts from its first state."""
        self.library.espeak_Terminate()
        self.process.dlclose(ctypes.c_void_p(self.library._handle))

    def _hear(self, wave, count, events) -> int:
        if wave and count > 0:
            self.chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type:
            event = events[index]
            if event.type in (_WORD, _PHONEME):
                label = event.id.string.decode("utf-8", "replace") if event.type == _PHONEME else ""
                self.events.append((event.type, event.text_position, event.sample, label))
            index += 1
        return 0


_loaded: list[_Espeak] = []  # at most one
_lock = threading.RLock()  # the library is one, and loading it anew takes it from under whoever speaks


def _fresh_espeak() -> _Espeak:
    """The library loaded anew (about 1 ms): noise and flutter go on from call to call, and nothing else resets them."""
    _unload()
    _loaded.append(_Espeak())
    return _loaded[0]


def _unload() -> None:
    while _loaded:
        _loaded.pop().close()


def _before_fork() -> None:
    """A child that inherits the library would wait for ever to close it."""
    _lock.acquire()
    _unload()


os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)


def _library_name() -> str:
    return ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"


def _word_starts(text: str) -> list[int]:
    """Character positions of the words of `text`; a mark that stands alone is no word."""
    starts, at = [], 0
    for token in text.split():
        at = text.index(token, at)
        if not set(token) <= PUNCTUATION:
            starts.append(at)
        at += len(token)
    return starts


def _start_samples(text: str, events: list, end: int) -> list[float]:
    """Where each word starts, in espeak's samples; a word that espeak joined to the one before shares its span."""
    positions = _word_starts(text)
    known: dict[int, float] = {}
    for kind, position, sample, _ in events:
        if kind == _WORD:
            word = int(np.searchsorted(positions, position - 1, side="right")) - 1
            known.setdefault(max(0, word), float(sample))
    known.setdefault(0, 0.0)
    places = [positions[word] for word in sorted(known)] + [len(text)]
    times = [known[word] for word in sorted(known)] + [float(end)]
    return list(np.maximum.accumulate(np.interp(positions, places, times)))


def _seconds(sample: float, rate: int, first: int, end: float) -> float:
    return float(min(max(sample / rate - first / RATE, 0.0), end))


def _loud(samples: np.ndarray) -> tuple[int, int]:
    """First and last sample to keep: what is louder than -50 dB of the peak, and 40 ms around it."""
    loud = np.flatnonzero(np.abs(samples) > 0.003 * np.max(np.abs(samples)))
    if not len(loud):
        return 0, len(samples)
    edge = int(EDGE_S * RATE)
    return max(0, int(loud[0]) - edge), min(len(samples), int(loud[-1]) + edge)


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """(N,) at `rate` to float32 at 16 kHz by a cut spectrum; blocks of a length that both rates divide."""
    if rate == RATE:
        return samples.astype(np.float32)
    divisor = np.gcd(rate, RATE)
    down, up = rate // divisor, RATE // divisor
    blocks = -(-len(samples) // down) + 2
    blocks = next(n for n in range(blocks, 4 * blocks) if _smooth(n))
    spectrum = np.fft.rfft(samples, blocks * down)[: blocks * up // 2 + 1]
    out = np.fft.irfft(spectrum, blocks * up) * (up / down)
    return out[: len(samples) * up // down].astype(np.float32)


def _smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1
