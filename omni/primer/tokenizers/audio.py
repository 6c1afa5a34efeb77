"""Sound as codes: 16 kHz samples to one code of 1,000 every 20 ms, and back; whole or as a stream.

The encoder hears mel bands and the tracked pitch, looks at most 40 ms ahead and ends in finite scalar quantisation
(FSQ, arXiv 2309.15505). The decoder does not draw a waveform: it predicts pitch, voicing and two spectral envelopes
every 10 ms, and shapes a comb of harmonics and noise with them in the STFT domain (DDSP, arXiv 2001.04643; NSF,
arXiv 1904.12088). So speech is voiced and tones are in tune at a few million parameters.

Knows nothing of training; fit_audio.py asks for the parts it needs (`latents`, `controls`, `render`).
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

RATE = 16000
HOP = 320  # samples a code
CODES = 1000
LEVELS = (8, 5, 5, 5)
STEP = HOP // 2  # samples between two controls of the source: 10 ms
MELS, BANDS, WINDOW = 80, 64, 640
TRACK = 768  # samples that the pitch tracker sees
PITCH_LOW, PITCH_HIGH, CENTS = 60.0, 1000.0, 20  # pitch classes are 20 cents wide
PITCHES = int(1200 * math.log2(PITCH_HIGH / PITCH_LOW) / CENTS) + 1  # 244
LOOKAHEAD = 2  # codes to the right that the decoder's network sees; the overlap-add adds 1.5 (70 ms in all)
EDGE = 3  # controls repeated at both ends, so that every sample is covered by four windows
_NOISE = 1 << 17


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of the two networks; the rates, bands and levels are fixed by this module."""

    encoder_width: int = 192
    encoder_blocks: int = 4
    decoder_width: int = 224
    decoder_blocks: int = 6
    expand: int = 3


@dataclass(frozen=True)
class Controls:
    """What drives the source, one row every 10 ms: pitch in Hz and voicing 0-1 (B, J), log amplitudes (B, J, 64)."""

    pitch: Tensor
    voicing: Tensor
    harmonic: Tensor
    noise: Tensor

    def slice(self, start: int, stop: int) -> "Controls":
        """Rows start..stop."""
        return Controls(*(part[:, start:stop] for part in (self.pitch, self.voicing, self.harmonic, self.noise)))


@dataclass
class SourceState:
    """What the renderer carries between two pushes of controls."""

    index: int = 0  # samples of noise drawn so far
    phase: Tensor | None = None  # (B, 1) cycles, float64
    last: Controls | None = None  # the row before
    tail: Tensor | None = None  # (B, 2, 480) last samples of the comb and of the noise
    overlap: Tensor | None = None  # (B, 3, 160) sums still open


def mel_matrix(bins: int, bands: int, low: float = 30.0, high: float = 8000.0) -> Tensor:
    """(bands, bins) triangles with unit peaks, evenly spaced in mel."""
    top, bottom = (2595 * math.log10(1 + hertz / 700) for hertz in (high, low))
    edges = 700 * (10 ** (np.linspace(bottom, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, bins)[None]
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return torch.tensor(np.maximum(0, np.minimum(rise, fall)), dtype=torch.float32)


def track_pitch(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch in Hz and periodicity 0-1, both (B, 2 * frames), of (B, N): autocorrelation divided by its window's.

    Boersma 1993, with the first strong peak taken instead of a path. Where nothing is periodic the pitch is noise.
    """
    frames = _subframes(samples, TRACK)  # (B, J, 768)
    window = torch.hann_window(TRACK)
    frames = (frames - frames.mean(-1, keepdim=True)) * window
    size = 2048
    power = torch.fft.rfft(frames, size).abs().square()
    own = torch.fft.irfft(torch.fft.rfft(window, size).abs().square(), 2 * size)
    correlation = torch.fft.irfft(power, 2 * size)  # lags in half samples
    low, high = int(2 * RATE / PITCH_HIGH), int(2 * RATE / PITCH_LOW) + 2
    energy = correlation[..., :1]
    correlation = correlation[..., low - 1 : high + 1] / (energy + 1e-7) * (own[0] / own[low - 1 : high + 1])
    middle, left, right = correlation[..., 1:-1], correlation[..., :-2], correlation[..., 2:]
    peak = torch.where((middle >= left) & (middle > right), middle, torch.zeros(()))
    best = peak.amax(-1, keepdim=True)
    strong = (peak >= 0.87 * best) & (peak > 0)
    lag = strong.to(torch.uint8).argmax(-1, keepdim=True)
    a, b, c = (part.gather(-1, lag)[..., 0] for part in (left, middle, right))
    offset = (0.5 * (a - c) / (a - 2 * b + c).clamp(max=-1e-6)).clamp(-0.5, 0.5)
    pitch = 2 * RATE / (lag[..., 0] + low + offset)
    loud = energy[..., 0] > 1e-3  # about -65 dB
    return pitch.clamp(PITCH_LOW, PITCH_HIGH), (best[..., 0] * loud).clamp(0, 1)


def _subframes(samples: Tensor, size: int) -> Tensor:
    """(B, N) to (B, 2 * frames, size): windows around the middle of each 10 ms, zeros outside."""
    frames = -(-samples.shape[-1] // HOP)
    left = (size - STEP) // 2
    padded = F.pad(samples, (left, left + frames * HOP - samples.shape[-1]))
    return padded.unfold(-1, size, STEP)


class Block(nn.Module):
    """ConvNeXt block over time (arXiv 2201.03545), (B, T, C) to the same; `right` frames of look-ahead."""

    def __init__(self, width: int, expand: int, right: int = 0, kernel: int = 7):
        super().__init__()
        self.left, self.right = kernel - 1 - right, right
        self.depthwise = nn.Parameter(torch.randn(kernel, width) / math.sqrt(kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width * expand)
        self.down = nn.Linear(width * expand, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, self.left, self.right))
        mixed = self.bias
        for tap in range(len(self.depthwise)):  # shifted sums: faster here than a grouped convolution
            mixed = mixed + padded[:, tap : tap + x.shape[1]] * self.depthwise[tap]
        return x + self.scale * self.down(F.gelu(self.up(self.norm(mixed))))


class AudioTokenizer(nn.Module):
    """Encoder, FSQ and harmonic-plus-noise decoder for mono sound at 16 kHz; about 3M parameters."""

    def __init__(self, config: AudioConfig | None = None):
        super().__init__()
        self.config = config = config or AudioConfig()
        wide, deep, expand = config.encoder_width, config.decoder_width, config.expand
        self.hear = nn.Linear(2 * (MELS + 2), wide)
        self.encoder = nn.Sequential(
            *(Block(wide, expand, right=1 if i == 0 else 0) for i in range(config.encoder_blocks)), nn.LayerNorm(wide)
        )
        self.squeeze = nn.Linear(wide, len(LEVELS))
        nn.init.normal_(self.squeeze.weight, std=1.2 / math.sqrt(wide))  # all levels in use from the first step on
        self.expand = nn.Linear(len(LEVELS), deep)
        looks = [1 if i < LOOKAHEAD else 0 for i in range(config.decoder_blocks)]
        self.decoder = nn.Sequential(*(Block(deep, expand, right=right) for right in looks))
        self.finer = nn.Linear(deep, 2 * deep)
        self.fine = nn.Sequential(Block(deep, expand, kernel=5), nn.LayerNorm(deep))
        self.source = nn.Linear(deep, PITCHES + 1)  # pitch classes, voicing
        self.envelopes = nn.Linear(deep, 2 * BANDS)
        self.left = 6 * config.decoder_blocks + 4  # codes to the left that one control depends on, and some more
        bins = WINDOW // 2 + 1
        spread = mel_matrix(bins, BANDS)
        spread[0, :2], spread[-1, -1] = 1.0, 1.0  # bins outside of all bands: the nearest, else their gain would be 1
        noise = np.random.default_rng(7).standard_normal(_NOISE).astype(np.float32)
        self.register_buffer("mel", mel_matrix(513, MELS).T.contiguous(), persistent=False)
        self.register_buffer("spread", spread / spread.sum(0).clamp(min=1e-3), persistent=False)
        self.register_buffer("noise", torch.from_numpy(noise), persistent=False)
        self.register_buffer("levels", torch.tensor(LEVELS), persistent=False)
        self.register_buffer("places", torch.tensor([1, 8, 40, 200]), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def features(self, samples: Tensor, pitch: Tensor, periodic: Tensor) -> Tensor:
        """(B, frames, 164): two sub-frames a code, each 80 log-mel bands, log pitch where periodic, periodicity."""
        spectrum = torch.fft.rfft(_subframes(samples, WINDOW) * self.window, 1024).abs()
        mel = torch.log10(spectrum @ self.mel + 1e-3)
        tone = torch.log2(pitch / 200) * (periodic > 0.5)
        rows = torch.cat([mel, 2 * tone[..., None], 2 * periodic[..., None]], -1)
        return rows.reshape(rows.shape[0], -1, 2 * rows.shape[-1])

    def latents(self, features: Tensor) -> Tensor:
        """(B, frames, 164) to quantised latents (B, frames, 4) in -1..1; gradients pass straight through."""
        z = self.squeeze(self.encoder(self.hear(features))).float()
        half = (self.levels - 1) * (1 - 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bound = torch.tanh(z + torch.atanh(offset / half)) * half - offset
        return (bound + (bound.round() - bound).detach()) / (self.levels // 2)

    def to_codes(self, latents: Tensor) -> Tensor:
        """Quantised latents (..., 4) to codes (...,) in 0..999."""
        width = self.levels // 2
        return ((latents * width + width).round().long() * self.places).sum(-1)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Codes (...,) to latents (..., 4); the inverse of `to_codes`."""
        if codes.numel() and (codes.min() < 0 or codes.max() >= CODES):
            raise ValueError(f"An audio code lies between 0 and {CODES - 1}.")
        width = self.levels // 2
        return ((codes[..., None] // self.places) % self.levels - width) / width

    def controls(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, T, 4) to pitch logits (B, 2T, 244), voicing logit (B, 2T), harmonic and noise log envelopes."""
        x = self.decoder(self.expand(latents))
        x = self.fine(self.finer(x).reshape(x.shape[0], -1, x.shape[-1]))
        source, envelopes = self.source(x).float(), self.envelopes(x).float().clamp(-6, 4) * 2 - 4
        return source[..., :-1], source[..., -1], envelopes[..., :BANDS], envelopes[..., BANDS:]

    def predict(self, latents: Tensor) -> Controls:
        """(B, T, 4) to the controls of 2T rows: the pitch is the mean around its likeliest class."""
        logits, voicing, harmonic, noise = self.controls(latents)
        best = logits.argmax(-1, keepdim=True)
        steps = torch.arange(-4, 5)
        weights = torch.softmax(logits.gather(-1, (best + steps).clamp(0, PITCHES - 1)), -1)
        classes = best[..., 0] + (weights * steps).sum(-1).double()  # float64: rounding would add up in the phase
        pitch = PITCH_LOW * torch.exp2(classes * (CENTS / 1200))
        return Controls(pitch, torch.sigmoid(4 * voicing), harmonic, noise)

    def render(self, controls: Controls, state: SourceState) -> Tensor:
        """Samples (B, 160 * J), three rows late; `state` is changed, so that the next rows go on without a seam."""
        batch, rows = controls.pitch.shape
        if state.last is None:
            state.last = controls.slice(0, 1)
            state.phase = torch.zeros(batch, 1, dtype=torch.float64)
            state.tail, state.overlap = torch.zeros(batch, 2, WINDOW - STEP), torch.zeros(batch, 3, STEP)
        joined = Controls(*(torch.cat([getattr(state.last, name), getattr(controls, name)], 1) for name in _PARTS))
        comb = self._comb(joined.pitch.double(), state)
        index = (state.index + torch.arange(rows * STEP)) % _NOISE
        both = torch.stack([comb, self.noise[index].expand(batch, -1)], 1)
        both = torch.cat([state.tail, both], -1)  # (B, 2, 480 + 160 J)
        spectra = torch.fft.rfft(both.unfold(-1, WINDOW, STEP) * self.window)  # (B, 2, J, 321)
        shape = joined.slice(0, rows)  # a window's middle is one row before its end
        harmonic = torch.exp(shape.harmonic @ self.spread) * shape.voicing[..., None]
        spectrum = spectra[:, 0] * harmonic + spectra[:, 1] * torch.exp(shape.noise @ self.spread)
        frames = torch.fft.irfft(spectrum, WINDOW) * (self.window / 1.5)
        quarters = frames.view(batch, rows, 4, STEP)
        out = F.pad(state.overlap, (0, 0, 0, rows))
        for quarter in range(4):
            out = out + F.pad(quarters[:, :, quarter], (0, 0, quarter, 3 - quarter))
        state.index, state.last = state.index + rows * STEP, joined.slice(rows, rows + 1)
        state.tail, state.overlap = both[..., -(WINDOW - STEP) :], out[:, rows:]
        return out[:, :rows].reshape(batch, rows * STEP)

    def _comb(self, pitch: Tensor, state: SourceState) -> Tensor:
        """(B, J + 1) Hz to (B, 160 J): all harmonics below 7.8 kHz in equal strength, unit power, phase carried on.

        Closed form of the sum of cosines (Dirichlet's kernel), in float64; the last harmonic fades with the pitch.
        """
        ramp = torch.arange(1, STEP + 1, dtype=torch.float64) / STEP
        hertz = (pitch[:, :-1, None] + (pitch[:, 1:] - pitch[:, :-1])[..., None] * ramp).flatten(1)
        phase = state.phase + torch.cumsum(hertz / RATE, 1)
        state.phase = phase[:, -1:] % 1
        angle = 2 * math.pi * (phase % 1)
        number = 7800 / hertz
        whole = number.floor()
        half = torch.sin(angle / 2)
        safe = torch.where(half.abs() < 1e-5, torch.ones_like(half), half)
        kernel = torch.sin((whole + 0.5) * angle) / (2 * safe) - 0.5
        kernel = torch.where(half.abs() < 1e-5, whole, kernel)
        kernel = kernel + (number - whole) * torch.cos((whole + 1) * angle)
        return (kernel * torch.sqrt(2 / number)).float()

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """(N,) or (B, N) float32 at 16 kHz to codes (frames,) or (B, frames), frames = ceil(N / 320)."""
        if samples.dim() == 1:
            return self.encode(samples[None])[0]
        if samples.shape[-1] == 0:
            return torch.zeros(samples.shape[0], 0, dtype=torch.long)
        samples = samples.float()
        return self.to_codes(self.latents(self.features(samples, *track_pitch(samples))))

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """(frames,) codes to (320 * frames,) float32: what a stream of the same codes gives, in one push."""
        stream = self.stream()
        return torch.cat([stream.push(codes), stream.finish()])

    def stream(self) -> "SpeechStream":
        """A decoder that is fed codes as they come."""
        return SpeechStream(self)

    def save(self, path: str | Path) -> None:
        """Write fp16 weights with the sizes in the metadata."""
        state = {name: value.detach().to(torch.float16).contiguous() for name, value in self.state_dict().items()}
        save_file(state, str(path), metadata={"config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path) -> "AudioTokenizer":
        """The tokenizer that `save` wrote, in float32, in evaluation mode."""
        with safe_open(str(path), framework="pt") as file:
            config = AudioConfig(**json.loads(file.metadata()["config"]))
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
        model = cls(config)
        model.load_state_dict(state)
        return model.eval()


_PARTS = ("pitch", "voicing", "harmonic", "noise")


@dataclass
class SpeechStream:
    """Codes in, samples out, at most 70 ms late; all pushes and `finish` together equal `decode` of all codes.

    State: the last codes (the network is run again over them, its reach is finite), how many were rendered, and the
    source's phase, noise position and open windows. A finished stream takes no more codes.
    """

    model: AudioTokenizer
    codes: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))  # from `offset` on
    offset: int = 0
    rendered: int = 0  # codes
    last: Controls | None = None
    source: SourceState = field(default_factory=SourceState)
    drop: int = 2 * EDGE * STEP  # samples of the run-in
    finished: bool = False

    def push(self, codes: Tensor) -> Tensor:
        """(K,) codes to as many samples as can be told by now, float32 (M,), M a multiple of 160 or 0."""
        if self.finished:
            raise RuntimeError("This speech stream is finished; open a new one.")
        self.codes = torch.cat([self.codes, codes.reshape(-1).long()])
        return self._advance(self.offset + len(self.codes) - LOOKAHEAD)

    def finish(self) -> Tensor:
        """The rest of the samples."""
        if self.finished:
            raise RuntimeError("This speech stream is finished; open a new one.")
        out = self._advance(self.offset + len(self.codes))
        self.finished = True
        if self.last is None:
            return out
        return torch.cat([out, self._render(_repeat(self.last, EDGE))])

    @torch.inference_mode()
    def _advance(self, until: int) -> Tensor:
        if until <= self.rendered:
            return torch.zeros(0)
        controls = self.model.predict(self.model.from_codes(self.codes)[None])
        controls = controls.slice(2 * (self.rendered - self.offset), 2 * (until - self.offset))
        run_in = torch.zeros(0)
        if self.last is None:
            run_in = self._render(_repeat(controls.slice(0, 1), EDGE))
        self.last = controls.slice(-1, controls.pitch.shape[1])
        self.rendered = until
        keep = max(0, self.rendered - self.model.left - self.offset)
        self.codes, self.offset = self.codes[keep:], self.offset + keep
        return torch.cat([run_in, self._render(controls)])

    @torch.inference_mode()
    def _render(self, controls: Controls) -> Tensor:
        out = self.model.render(controls, self.source)[0]
        dropped = min(self.drop, len(out))
        self.drop -= dropped
        return out[dropped:]


def _repeat(row: Controls, times: int) -> Controls:
    return Controls(*(getattr(row, name).repeat_interleave(times, 1) for name in _PARTS))
