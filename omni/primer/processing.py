"""From media and words to one sequence of tokens with their positions.

A Sequence grows part by part and knows where each token stands on the three axes of the transformer: words and sound
on a line, a picture's codes on its grid, the frames of a clip one after the other on the line with their sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omni.primer import vocabulary as v
from omni.primer.tokenizers.audio import HOP, AudioTokenizer
from omni.primer.tokenizers.image import GRID, ImageTokenizer, to_tensor
from omni.primer.tokenizers.storage import load_module
from omni.primer.tokenizers.text import TextTokenizer
from omni.primer.tokenizers.video import LATER_GRID, VideoTokenizer

IMAGE_CODES = GRID * GRID
FRAMES = 8  # of a clip
FPS = 4
CODES_PER_SECOND = 50  # of sound
TOKENIZERS = ("text.json", "image.safetensors", "video.safetensors", "audio.safetensors")  # their files
FRAME_SPAN = 13  # steps of the line that one frame of a clip takes; at least its audio codes
AUDIO_SPLITS = tuple(round(index * CODES_PER_SECOND / FPS) for index in range(FRAMES + 1))  # of a clip's sound by frame

Position = tuple[float, float, float]  # time, row, column


def visual_position(start: float, index: int, side: int = GRID) -> Position:
    """Where code ``index`` of a picture of side x side codes stands, on the 8 x 8 grid that starts at ``start``."""
    cell = GRID / side
    row, column = divmod(index, side)
    return (start, start + row * cell + (cell - 1) / 2, start + column * cell + (cell - 1) / 2)


@dataclass
class Sequence:
    """Tokens and positions so far. State: ``line``, the next free place on the line."""

    ids: list[int] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    line: float = 0.0

    def __len__(self) -> int:
        return len(self.ids)

    def push(self, token: int) -> None:
        """One token on the line: a word piece, a mark, 20 ms of sound."""
        self.ids.append(token)
        self.positions.append((self.line, self.line, self.line))
        self.line += 1

    def extend(self, tokens: list[int]) -> None:
        for token in tokens:
            self.push(token)

    def append(self, other: Sequence) -> None:
        """Another sequence after this one."""
        self.ids += other.ids
        self.positions += [tuple(self.line + axis for axis in position) for position in other.positions]
        self.line += other.line

    def push_visual(self, code: int, index: int, side: int = GRID) -> None:
        """One visual code of the picture that starts at the line's next place; the line stands still."""
        self.ids.append(v.VISUAL_START + code)
        self.positions.append(visual_position(self.line, index, side))

    def image(self, codes: list[int]) -> None:
        """A whole picture: its mark and 64 codes."""
        self.push(v.IMAGE)
        for index, code in enumerate(codes):
            self.push_visual(code, index)
        self.line += GRID

    def audio(self, codes: list[int]) -> None:
        """A stretch of sound between its marks."""
        self.extend([v.AUDIO, *(v.AUDIO_START + code for code in codes), v.AUDIO_END])

    def video(self, first: list[int], later: list[list[int]], sound: list[int] | None = None) -> None:
        """A clip: 64 codes, then 16 a frame; with ``sound`` (100 codes) each frame is followed by its share of it."""
        self.push(v.VIDEO if sound is None else v.FILM)
        for frame in range(FRAMES):
            side = GRID if frame == 0 else LATER_GRID
            for index, code in enumerate(later[frame - 1] if frame else first):
                self.push_visual(code, index, side)
            start = self.line
            if sound is not None:
                self.extend([v.AUDIO_START + code for code in sound[AUDIO_SPLITS[frame] : AUDIO_SPLITS[frame + 1]]])
            self.line = start + FRAME_SPAN

    def tensors(self, start: int = 0) -> tuple[Tensor, Tensor]:
        """Ids (1, L) int64 and positions (1, L, 3) float32 from token ``start`` on."""
        return torch.tensor([self.ids[start:]]), torch.tensor([self.positions[start:]], dtype=torch.float32)


@dataclass
class Tokenizers:
    """All four tokenisers of Primer, loaded together."""

    text: TextTokenizer
    image: ImageTokenizer
    video: VideoTokenizer
    audio: AudioTokenizer

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """The tokenisers shipped in ``folder``."""
        return cls(
            TextTokenizer.load(folder / "text.json"),
            load_module(ImageTokenizer(), folder / "image.safetensors"),
            load_module(VideoTokenizer(), folder / "video.safetensors"),
            AudioTokenizer.load(folder / "audio.safetensors").eval(),
        )

    @torch.no_grad()
    def encode_images(self, pictures: np.ndarray) -> list[list[int]]:
        """(B, 64, 64, 3) uint8 pictures to 64 codes each."""
        return self.image.encode(to_tensor(pictures)).tolist()

    @torch.no_grad()
    def encode_clips(self, clips: np.ndarray) -> list[tuple[list[int], list[list[int]]]]:
        """(B, 8, 64, 64, 3) uint8 clips to the codes of the first frame and of each later one."""
        frames = to_tensor(clips.reshape(-1, *clips.shape[2:])).unflatten(0, clips.shape[:2])
        first, later = self.video.encode(self.image, frames)
        return list(zip(first.tolist(), later.tolist(), strict=True))

    @torch.no_grad()
    def encode_sounds(self, sounds: list[np.ndarray]) -> list[list[int]]:
        """Sounds of different lengths, (N,) float32 at 16 kHz each, encoded in one batch."""
        padded = np.zeros((len(sounds), max(map(len, sounds))), np.float32)
        for row, samples in zip(padded, sounds, strict=True):
            row[: len(samples)] = samples
        codes = self.audio.encode(torch.from_numpy(padded)).tolist()
        return [row[: -(-len(samples) // HOP)] for row, samples in zip(codes, sounds, strict=True)]

    @torch.no_grad()
    def encode_sound(self, samples: np.ndarray) -> list[int]:
        """(N,) float32 mono samples at 16 kHz to 50 codes a second."""
        return self.audio.encode(torch.as_tensor(samples, dtype=torch.float32)).tolist()
