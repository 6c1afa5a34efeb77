"""Reading words back from speech: phonemes frame by frame, then the likeliest row of words of the book.

The network is a TDNN (Peddinti et al. 2015), fitted to the phoneme times that espeak tells; the search is a hidden
Markov model in which every word may follow every other, so no grammar mends what is not to be heard.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.primer.tokenizers.audio import mel_matrix

RATE = 16000
MELS, FFT, MEL_HOP = 64, 512, 160
FRAME = 2 * MEL_HOP  # samples of one reading
QUIETEST = -3.0  # log-mel of the loudest moment of any speech
SILENCE = 0  # class of silence
BEFORE, AFTER = 3 * FRAME, 10 * FRAME  # silence added around a sound
NEW_WORD = -12.0  # log-probability of beginning a word: against words that are not there
FLOOR = -9.0  # of a frame's log-probability: no single frame forbids a word

Lexicon = dict[str, list[list[str]]]  # a word's pronunciations, each a row of phonemes


def log_mels(samples: Tensor) -> Tensor:
    """(B, N) at 16 kHz to (B, 64, 2 T) with silence around them, each sound at the same level."""
    samples = F.pad(samples, (BEFORE, AFTER))
    frames = 2 * -(-samples.shape[-1] // FRAME)
    padded = F.pad(samples, (FFT // 2, FFT // 2 + frames * MEL_HOP - samples.shape[-1]))
    window = torch.hann_window(FFT)
    power = torch.fft.rfft(padded.unfold(-1, FFT, MEL_HOP)[:, :frames] * window).abs().square()
    mels = (power @ mel_matrix(FFT // 2 + 1, MELS).T).clamp_min(1e-7).log().mT
    loudest = mels.amax((1, 2), keepdim=True).clamp_min(QUIETEST)
    return (mels - loudest).clamp_min(-12) / 4 + 1  # 52 dB below the loudest is silence


class Skip(nn.Module):
    """Layers around a skip."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _layer(inner: int, outer: int, kernel: int, dilation: int = 1, stride: int = 1) -> nn.Sequential:
    """A convolution over time, batch-normed and rectified."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv1d(inner, outer, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm1d(outer), nn.ReLU())


class Ear(nn.Module):
    """Log-mels (B, 64, 2 T) to logits (B, 1 + phonemes, T); class 0 is silence. ``words`` reads a whole sound."""

    def __init__(self, phonemes: tuple[str, ...], lexicon: Lexicon, width: int = 176):
        super().__init__()
        self.phonemes, self.lexicon = phonemes, lexicon
        self.first = _layer(MELS, width, 5, stride=2)
        self.blocks = nn.Sequential(*(Skip(_layer(width, width, 3, dilation)) for dilation in (1, 2, 4, 1, 2, 4)))
        self.head = nn.Conv1d(width, 1 + len(phonemes), 1)

    def forward(self, mels: Tensor) -> Tensor:
        return self.head(self.blocks(self.first(mels)))

    @torch.inference_mode()
    def words(self, samples: np.ndarray) -> str:
        """The words in (N,) float32 samples at 16 kHz."""
        logits = self(log_mels(torch.as_tensor(samples, dtype=torch.float32)[None]))
        return self.search.best(logits[0].log_softmax(0).clamp_min(FLOOR).T.numpy())

    @cached_property
    def search(self) -> Search:
        return Search(self.phonemes, self.lexicon)


class Search:
    """Viterbi over a loop of all words. State: none between sounds; the words are laid out as one row of states."""

    def __init__(self, phonemes: tuple[str, ...], lexicon: Lexicon):
        index = {phoneme: 1 + place for place, phoneme in enumerate(phonemes)}
        rows = [("", [SILENCE])]
        rows += [(word, [index[one] for one in sounds]) for word, ways in lexicon.items() for sounds in ways]
        self.names = [name for name, _ in rows]
        self.classes = np.array([sound for _, sounds in rows for sound in sounds])
        lengths = np.array([len(sounds) for _, sounds in rows])
        self.last = np.cumsum(lengths) - 1  # state in which each row ends
        self.first = self.last - lengths + 1
        self.entry = np.where([name == "" for name in self.names], 0.0, NEW_WORD)

    def best(self, shares: np.ndarray) -> str:
        """The likeliest words for log-probabilities (T, 1 + phonemes)."""
        score = np.full(len(self.classes), -np.inf)
        since = np.zeros(len(self.classes), np.int64)  # frame at which the row of each state was entered
        ended, ended_score = [], 0.0  # by frame: the row that ends there best, and since when
        for frame, share in enumerate(shares):
            moved, moved_since = np.roll(score, 1), np.roll(since, 1)
            moved[self.first] = ended_score + self.entry
            moved_since[self.first] = frame
            since = np.where(moved > score, moved_since, since)
            score = np.maximum(moved, score) + share[self.classes]
            row = int(score[self.last].argmax())
            ended.append((row, int(since[self.last[row]])))
            ended_score = score[self.last[row]]
        said, frame = [], len(shares)
        while frame > 0:
            row, frame = ended[frame - 1]
            said.append(self.names[row])
        return " ".join(word for word in reversed(said) if word)
