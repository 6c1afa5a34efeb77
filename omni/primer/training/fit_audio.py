"""Train the audio tokenizer on speech, tones and motion sounds made in this process.

    python -m omni.primer.training.fit_audio --out FILE --minutes 30 --threads 1 --resume

The decoder is driven by the tracked pitch while it learns to predict it. Codes are asked for content as well as for
spectrum: a small head names the phoneme of each frame from the latents. SMOKE=1 in the environment shrinks it all.
"""

import argparse
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omni.primer.tokenizers.audio import (
    CENTS,
    HOP,
    PITCH_LOW,
    PITCHES,
    RATE,
    STEP,
    AudioConfig,
    AudioTokenizer,
    Controls,
    SourceState,
    mel_matrix,
    track_pitch,
)
from omni.primer.training import precision, sounds, voices
from omni.primer.training.budget import Budget, load_checkpoint, save_checkpoint
from omni.primer.training.optim import muon_for, set_rate

log = logging.getLogger(__name__)
SMOKE = bool(os.environ.get("SMOKE"))
CLIP = RATE  # samples a clip
BANK, BATCH = (24, 2) if SMOKE else (2000, 8)
REFRESH = 1  # clips made anew after each step
LEARNING_RATE, ADAM_RATE = 0.01, 1.5e-3
VOICED = 0.6  # periodicity from which a row counts as voiced
CHECKPOINT_S, EVALUATE_S = 120, 300
PHONEMES = (
    "",
    "other",
    "_",
    "p b t d k g f v T D s z S Z h m n N l r j w tS dZ",
    "@ @2 3 3: a aa a# A: A@ A E e i i: I I2 0 O"
    " O: O@ o@ oU V u u: U eI aI aU OI e@ i@ i@3 U@ aI@ aI3 @L @5 VR I# t# t2 ; ? x l# r- n- C u@ e: o: 02 E2 _: _!",
)
PHONEME_ID = {label: i for i, label in enumerate(PHONEMES[:3] + tuple(" ".join(PHONEMES[3:]).split()))}
SENTENCES = (
    "a {x} above a {y} on {c}",
    "what do you see ?",
    "two {c} balls left of a {x}",
    "the {x} moves {m}",
    "hello there",
    "a {c} {x} on the left",
    "how many {x} are there ?",
    "there are {n} of them",
    "what is {n} plus {n} ?",
    "yes",
    "no",
    "where is the {x} ?",
    "the {x} is right of the {y}",
    "make it {c}",
    "now say it",
    "move it {m}",
    "good morning",
    "show me a {x} and a {y}",
    "i do not know that yet",
    "one day a {c} {x} met a {y} .",
    "thank you very much",
    "play a high {t}",
    "is the {x} bigger than the {y} ?",
    "{n} and {n} make {n}",
    "they were happy and went home .",
    "i see a small {c} {x} in the middle",
    "this is a {x} , not a {y}",
    "i can hear a {t} and the word {x}",
    "{r} {r} {r}",
)
WORDS = {
    "x": "cat dog rocket tree house car ghost cake bird fish horse apple banana pizza ball star moon sun cloud flower "
    "train boat plane bus bike frog lion tiger monkey rabbit mouse bear pig cow chicken penguin snake spider butterfly "
    "face robot heart fire guitar drum book key clock phone camera gift balloon crown hat shoe umbrella cup lemon",
    "c": "red green blue yellow black white purple orange pink brown grey",
    "m": "left right up down bounces spins grows in a circle",
    "n": "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty",
    "t": "tone bell note tune sound beep song",
    "r": "jump quick vision measure think that church judge yellow shoe young voice point south boy laugh strange "
    "world thing because water other under over before after great should could garden picture question answer every "
    "never always people zebra thousand breathe pleasure joy usual exam wonderful little much together happy sad angry",
}
WORDS = {key: value.split() for key, value in WORDS.items()} | {"y": WORDS["x"].split()}


@dataclass
class Bank:
    """Clips and what is known of them: samples (K, 16000), phonemes (K, 50), -1 where untold, pitch, periodic."""

    samples: Tensor
    phonemes: Tensor
    pitch: Tensor
    periodic: Tensor

    def put(self, row: int, samples: np.ndarray, phonemes: np.ndarray) -> None:
        """Replace one clip."""
        self.samples[row], self.phonemes[row] = torch.from_numpy(samples), torch.from_numpy(phonemes)
        pitch, periodic = track_pitch(self.samples[row][None])
        self.pitch[row], self.periodic[row] = pitch[0], periodic[0]


def sentence(rng: np.random.Generator) -> str:
    """A sentence of the picture book, or random words of it."""
    text = SENTENCES[rng.integers(len(SENTENCES))]
    while "{" in text:
        key = text[text.index("{") + 1]
        text = text.replace("{" + key + "}", str(rng.choice(WORDS[key])), 1)
    return text


def _cut(samples: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A window of one clip's length that starts on a frame, zeros where the sound is short."""
    extra = max(0, len(samples) - CLIP // 2)
    start = int(rng.integers(0, extra // HOP + 1)) * HOP
    out, names = np.zeros(CLIP, np.float32), np.zeros(CLIP // HOP, np.int64)
    piece, named = samples[start : start + CLIP], labels[start // HOP : (start + CLIP) // HOP]
    out[: len(piece)], names[: len(named)] = piece, named
    return out, names


def frame_phonemes(spoken: voices.Spoken) -> np.ndarray:
    """(frames,) phoneme of the middle of each 20 ms."""
    frames = -(-len(spoken.samples) // HOP)
    labels = np.zeros(frames, np.int64)
    for label, start, end in spoken.phonemes:
        labels[round(start * 50) : round(end * 50)] = PHONEME_ID.get(label, 1)
    return labels


def speech_clip(rng: np.random.Generator, choice: tuple[voices.Voice, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Samples and phonemes of a piece of a sentence, augmented without moving time."""
    base = choice[rng.integers(len(choice))]
    rate, pitch, spread = base.rate + rng.integers(-15, 16), base.pitch + rng.integers(-25, 26), rng.integers(-20, 21)
    fresh = replace(
        base,
        rate=int(np.clip(rate, 130, 190)),
        pitch=int(np.clip(pitch, 5, 95)),
        range=int(np.clip(base.range + spread, 5, 95)),
    )
    spoken = voices.speak(sentence(rng), fresh)
    return _cut(voices.room(spoken.samples, rng, 0.6, shift=False), frame_phonemes(spoken), rng)


def sound_clip(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A tone, a tune or a motion's sound; its frames have no phoneme."""
    kind, names = rng.random(), list(sounds.NOTES)
    timbre = sounds.TIMBRES[rng.integers(4)]
    if kind < 0.4:
        out = sounds.tone(names[rng.integers(8)], timbre, rng.uniform(0.5, 1.5), rng)
    elif kind < 0.6:
        out = sounds.tune([names[i] for i in rng.integers(0, 8, 4)], timbre, rng.uniform(0.2, 0.5), rng)
    else:
        events = np.cumsum(rng.uniform(0.2, 0.8, 4))
        out = sounds.motion_sound(sounds.MOTIONS[rng.integers(8)], rng.uniform(1, 2.5), events, rng)
    return _cut(out, np.full(-(-len(out) // HOP), -1), rng)


def clip(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One training clip: speech in three cases of four."""
    return speech_clip(rng, voices.TRAIN_VOICES) if rng.random() < 0.75 else sound_clip(rng)


def make_bank(count: int, make, rng: np.random.Generator) -> Bank:
    """`count` clips by `make(rng)`."""
    rows, names = CLIP // STEP, CLIP // HOP
    bank = Bank(
        torch.zeros(count, CLIP), torch.zeros(count, names, dtype=torch.long), torch.zeros(count, rows),
        torch.zeros(count, rows),
    )  # fmt: skip
    for row in range(count):
        bank.put(row, *make(rng))
    return bank


class Spectra(nn.Module):
    """Distances between waveforms (B, N): log magnitudes at three resolutions and mel bands, L1."""

    def __init__(self):
        super().__init__()
        self.sizes = (256, 640, 1536)
        self.register_buffer("mel", mel_matrix(513, 80).T.contiguous())

    def bands(self, samples: Tensor) -> Tensor:
        """(B, N) to log10 mel (B, frames, 80), 10 ms apart."""
        window = torch.hann_window(1024)
        padded = F.pad(samples, (512, 512))
        return torch.log10(torch.fft.rfft(padded.unfold(-1, 1024, STEP) * window).abs() @ self.mel + 1e-3)

    def forward(self, made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        loss = made.new_zeros(())
        for size in self.sizes:
            window, pair = torch.hann_window(size), []
            for samples in (made, wanted):
                frames = samples.unfold(-1, size, size // 4) * window
                pair.append((torch.fft.rfft(frames).abs().square() + 1e-7).sqrt())
            log_gap = (torch.log(pair[0] + 1e-2) - torch.log(pair[1] + 1e-2)).abs().mean()
            loss = loss + log_gap + 0.5 * (pair[0] - pair[1]).norm() / (pair[1].norm() + 1)
        return loss / len(self.sizes), (self.bands(made) - self.bands(wanted)).abs().mean()


class PhonemeHead(nn.Module):
    """Phoneme logits (B, T, P) from latents (B, T, 4) with 60 ms around each frame."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4 * 7, 128), nn.GELU(), nn.Linear(128, len(PHONEME_ID)))

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(F.pad(latents, (0, 0, 3, 3)).unfold(1, 7, 1).flatten(2))


def losses(model: AudioTokenizer, head: PhonemeHead, spectra: Spectra, batch: Bank) -> dict[str, Tensor]:
    """The terms of one batch, each a scalar, in fp32; the networks run in bf16."""
    with precision.autocast():
        latents = model.latents(model.features(batch.samples, batch.pitch, batch.periodic))
        logits, voicing, harmonic, noise = model.controls(latents)
        phonemes = head(latents)
    voiced = (batch.periodic > VOICED).float()
    made = model.render(Controls(held(batch.pitch, voiced), voiced, harmonic, noise), SourceState())
    # three rows late: compare from the first whole window on
    stft, mel = spectra(made[:, 3 * STEP :], batch.samples[:, : -3 * STEP])
    cents = 1200 * torch.log2(batch.pitch / PITCH_LOW) / CENTS
    classes = torch.exp(-0.5 * ((torch.arange(PITCHES) - cents[..., None]) / 1.2).square())
    classes = classes / classes.sum(-1, keepdim=True)
    cross = -(classes * torch.log_softmax(logits, -1)).sum(-1)
    named = F.cross_entropy(phonemes.float().transpose(1, 2), batch.phonemes, ignore_index=-1, reduction="none")
    return {
        "stft": stft,
        "mel": mel,
        "pitch": (cross * voiced).sum() / (voiced.sum() + 1),
        "voicing": F.binary_cross_entropy_with_logits(voicing, voiced),
        "phoneme": named.sum() / ((batch.phonemes >= 0).sum() + 1),
    }


WEIGHTS = {"stft": 1.0, "mel": 4.0, "pitch": 2.0, "voicing": 0.5, "phoneme": 0.2}


def held(pitch: Tensor, voiced: Tensor) -> Tensor:
    """The pitch (B, J) with each unvoiced row given the last voiced one's (150 Hz before the first)."""
    rows = torch.arange(pitch.shape[1]) * (voiced > 0)
    last = torch.cummax(rows, 1).values
    return torch.where((voiced.cumsum(1) > 0), pitch.gather(1, last), torch.full_like(pitch, 150.0))


@torch.no_grad()
def evaluate(model: AudioTokenizer, head: PhonemeHead, spectra: Spectra, bank: Bank) -> dict[str, float]:
    """Round trip of clips: mel L1, F1 of voiced rows within 50 cents, median pitch error in cents, phonemes right."""
    codes = model.encode(bank.samples)
    back = torch.stack([model.decode(row) for row in codes])
    pitch, periodic = track_pitch(back)
    told, true = periodic > VOICED, bank.periodic > VOICED
    cents = (1200 * torch.log2(pitch / bank.pitch)).abs()
    both = told & true
    hits = (both & (cents < 50)).sum().item()
    named = bank.phonemes >= 0
    right = (head(model.from_codes(codes)).argmax(-1) == bank.phonemes)[named]
    return {
        "mel_l1": (spectra.bands(back) - spectra.bands(bank.samples)).abs().mean().item(),
        "voicing_f1": 2 * both.sum().item() / max(1, (told.sum() + true.sum()).item()),
        "voicing_f1_50": 2 * hits / max(1, (told.sum() + true.sum()).item()),
        "pitch_cents": cents[both].median().item() if both.any() else float("nan"),
        "phonemes": right.float().mean().item() if len(right) else float("nan"),
        "codes_used": len(codes.unique()),
    }


@dataclass
class Run:
    """One training: the networks, their optimizer, how far it is and the clock, which goes on where it stopped."""

    model: AudioTokenizer
    head: PhonemeHead
    optimizer: torch.optim.Optimizer
    budget: Budget
    step: int = 0

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {part: getattr(self, part).state_dict() for part in ("model", "head", "optimizer")}
        save_checkpoint(path, state | {"step": self.step, "spent": self.budget.spent})

    def update(self, terms: dict[str, Tensor]) -> None:
        """One step of the optimizer; one with an infinite gradient is left out."""
        set_rate(self.optimizer, self.budget.rate(decay=0.6))
        self.optimizer.zero_grad()
        sum(WEIGHTS[name] * value for name, value in terms.items()).backward()
        parameters = [*self.model.parameters(), *self.head.parameters()]
        if torch.isfinite(nn.utils.clip_grad_norm_(parameters, 3.0)):
            self.optimizer.step()
        self.step += 1


def start(checkpoint: Path | None, minutes: float, keep_codes: bool = False, start_from: Path | None = None) -> Run:
    """A new run, from saved weights where they are named, or the one that the checkpoint holds.

    With ``keep_codes`` only the way back from the codes learns.
    """
    if start_from is not None:
        model = AudioTokenizer.load(start_from).train()
    else:
        model = AudioTokenizer(AudioConfig(32, 2, 32, 2, 2) if SMOKE else AudioConfig())
    for module in (model.hear, model.encoder, model.squeeze) if keep_codes else ():
        module.requires_grad_(False)
    head = PhonemeHead()
    adam = ("depthwise", "squeeze")  # kernels a channel, and the four channels that are rounded
    optimizer = muon_for(nn.ModuleList([model, head]), LEARNING_RATE, ADAM_RATE, adam)
    run = Run(model, head, optimizer, Budget(minutes))
    if checkpoint is not None and (state := load_checkpoint(checkpoint)):
        for part in ("model", "head", "optimizer"):
            getattr(run, part).load_state_dict(state[part])
        run.step, run.budget = state["step"], Budget(minutes, state["spent"])
    return run


def fit(out: Path, run: Run, seed: int = 0) -> None:
    """Train until the minutes are over, those before a resumption counted, and write `out` beside its checkpoint."""
    # 1. data: new clips after a resumption, the same exam
    spectra, checkpoint = Spectra(), out.with_suffix(".checkpoint")
    rng, exam_rng = np.random.default_rng((seed, run.step)), np.random.default_rng(99)
    exams = {
        "speech": make_bank(4 if SMOKE else 48, lambda r: speech_clip(r, voices.HELDOUT_VOICES), exam_rng),
        "sounds": make_bank(4 if SMOKE else 24, sound_clip, exam_rng),
    }
    bank = make_bank(BANK, clip, rng)
    log.info("a bank of %d clips", BANK)
    # 2. steps
    means: dict[str, float] = {}
    saved = evaluated = run.budget.spent
    while run.budget.share < 1:
        picked = torch.from_numpy(rng.integers(0, BANK, BATCH))
        batch = Bank(bank.samples[picked], bank.phonemes[picked], bank.pitch[picked], bank.periodic[picked])
        terms = losses(run.model, run.head, spectra, batch)
        run.update(terms)
        for name, value in terms.items():
            means[name] = 0.98 * means.get(name, value.item()) + 0.02 * value.item()
        for _ in range(REFRESH):
            bank.put(int(rng.integers(BANK)), *clip(rng))
        if run.step % (20 if SMOKE else 100) == 0:
            log.info(
                "step %d %.0f s %s", run.step, run.budget.spent, " ".join(f"{k} {v:.3f}" for k, v in means.items())
            )
        if run.budget.spent - evaluated > EVALUATE_S:
            evaluated = run.budget.spent
            _report(run, spectra, exams)
        if run.budget.spent - saved > CHECKPOINT_S:
            saved = run.budget.spent
            run.save(checkpoint)
    # 3. the end
    run.save(checkpoint)
    _report(run, spectra, exams)
    run.model.save(out)
    log.info("saved %s after %d steps", out, run.step)


def _report(run: Run, spectra: Spectra, exams: dict[str, Bank]) -> None:
    for name, bank in exams.items():
        figures = evaluate(run.model.eval(), run.head, spectra, bank)
        log.info("step %d %s %s", run.step, name, " ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    run.model.train()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="train the audio tokenizer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--keep-codes", action="store_true", help="leave the encoder as it is: models know its codes")
    parser.add_argument("--from", dest="start_from", type=Path, help="saved weights to start from")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    checkpoint = options.out.with_suffix(".checkpoint") if options.resume else None
    fit(options.out, start(checkpoint, options.minutes, options.keep_codes, options.start_from), options.seed)


if __name__ == "__main__":
    main()
