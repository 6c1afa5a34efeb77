"""From a conversation to what Qwen3-Omni reads: transformers' processor, media within a budget, the model's template.

The processor is transformers' own but for clips: its clip reader needs torchvision, so the picture reader reads each
frame. What users write cannot become a control token.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, Qwen3OmniMoeProcessor, WhisperFeatureExtractor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.video_processing_utils import VideoProcessorMixin

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Part, Text, Video
from omni.errors import OmniError

RATE = 16_000  # samples a second that the ear takes
FPS = 2.0  # frames a second of a clip
SOUND_TOKENS = 13  # a second
CLIP_PIXELS = Qwen3OmniMoeProcessor.videos_kwargs["size"]  # least and most of a frame
KINDS = {Image: "picture", Audio: "sound", Video: "clip"}
END_OF_THOUGHT = "</think>"


class FrameReader(VideoProcessorMixin):
    """Clips as patches: those of the picture reader for each frame, laid together in pairs."""

    model_input_names = ["pixel_values_videos", "video_grid_thw"]

    def __init__(self, pictures: Qwen2VLImageProcessorPil):
        super().__init__()
        self.pictures = pictures
        self.merge_size, self.temporal_patch_size = pictures.merge_size, pictures.temporal_patch_size

    def __call__(self, videos: Sequence[np.ndarray], size: dict[str, int], **kwargs) -> BatchFeature:
        """Clips, each (T, H, W, 3) uint8; a last frame without a partner is doubled."""
        patches, grids = zip(*(self._read(frames, size) for frames in videos), strict=True)
        return BatchFeature({"pixel_values_videos": torch.cat(patches), "video_grid_thw": torch.tensor(grids)})

    def _read(self, frames: np.ndarray, size: dict[str, int]) -> tuple[Tensor, list[int]]:
        """A clip to patches (grid, channels * time * height * width) and its grid in time, height and width."""
        depth = self.temporal_patch_size
        frames = np.concatenate([frames, frames[-1:].repeat(-len(frames) % depth, axis=0)])
        seen = self.pictures(list(frames), size=size, temporal_patch_size=1, return_tensors="pt")
        _, height, width = seen["image_grid_thw"][0].tolist()
        area = self.pictures.patch_size**2
        flat = seen["pixel_values"].view(len(frames) // depth, depth, height * width, 3, area)
        return flat.permute(0, 2, 3, 1, 4).reshape(-1, 3 * depth * area), [len(frames) // depth, height, width]


class Processor(Qwen3OmniMoeProcessor):
    """transformers' processor, with a FrameReader; without torchvision the original knows no class of clip readers."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> type:
        if argument_name == "video_processor":
            return VideoProcessorMixin
        return super().check_argument_for_proper_class(argument_name, argument)


@dataclass(frozen=True)
class Reading:
    """A conversation as the model reads it."""

    inputs: dict[str, Tensor]  # of one row, as the thinker takes them
    sound_in_clips: bool  # the sound of clips stands between their frames
    tokens: dict[str, int]  # by modality
    left_out: tuple[str, ...]  # kinds of the media that no longer fit, oldest first
    thinks: bool  # the reply begins with thoughts

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]


class Reader:
    """Tokeniser, processor and template of a checkpoint; no state."""

    def __init__(self, folder: Path, media_tokens: int, system: str = ""):
        """``media_tokens``: how many tokens all media of a conversation may take. Raises OSError or ValueError."""
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        template = self.tokenizer.chat_template
        if (folder / "chat_template.json").is_file():  # the processor's, where it was saved as transformers 4 does
            template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
        self.pictures = Qwen2VLImageProcessorPil.from_pretrained(folder)
        ear = WhisperFeatureExtractor.from_pretrained(folder)
        frames = FrameReader(self.pictures)
        self.processor = Processor(self.pictures, frames, ear, self.tokenizer, chat_template=template)
        self.media_tokens, self.system = media_tokens, system
        self.control = sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True)

    def read(self, conversation: Conversation) -> Reading:
        """The conversation up to the reply that is due. Raises OmniError where the last message alone is too much."""
        kept, left_out = self._within_budget(conversation.messages)
        clips = [part for part in kept if isinstance(part, Video)]
        between = bool(clips) and all(clip.has_sound for clip in clips)  # the model has one way for all clips
        files = _Files(between)
        turns = [{"role": "system", "content": self.system}] if self.system else []
        turns += [self._turn(message, kept, files) for message in conversation.messages]
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        inputs = self.processor(
            text=text,
            images=files.pictures or None,
            videos=files.clips or None,
            audio=files.sounds or None,
            audio_from_video_indices=files.sources if between else None,
            load_audio_from_video=between,
            videos_kwargs={"fps": FPS},
            return_tensors="pt",
        )
        thinks = text.rstrip().endswith("<think>")
        counts = dict(Counter(self.kinds(inputs["input_ids"])))
        return Reading(dict(inputs), between, counts, tuple(left_out), thinks)

    def _within_budget(self, messages: Sequence[Message]) -> tuple[list[Part], list[str]]:
        """The media that are read, and the kinds of the older ones that are not."""
        kept: list[Part] = []
        left_out: list[str] = []
        free = self.media_tokens
        for place, message in reversed(list(enumerate(messages))):
            parts = [part for part in message.parts if type(part) in KINDS] if message.role == "user" else []
            for part in reversed(parts):
                free -= self.cost(part)
                if free >= 0:
                    kept.append(part)
                elif place == len(messages) - 1:
                    raise OmniError(
                        "These files are more than the model can take in at once; please send fewer or shorter ones."
                    )
                else:
                    left_out.insert(0, KINDS[type(part)])
        return kept, left_out

    def cost(self, part: Part) -> int:
        """Tokens that a file takes, told from its measures."""
        match part:
            case Image(width=width, height=height):
                size = self.pictures.size
                return self._patches(height, width, size["shortest_edge"], size["longest_edge"])
            case Audio(seconds=seconds):
                return math.ceil(seconds * SOUND_TOKENS) + 1
            case Video(width=width, height=height, seconds=seconds, has_sound=has_sound):
                pairs = math.ceil(max(1, round(seconds * FPS)) / self.pictures.temporal_patch_size)
                seen = self._patches(height, width, CLIP_PIXELS["shortest_edge"], CLIP_PIXELS["longest_edge"])
                return pairs * seen + (math.ceil(seconds * SOUND_TOKENS) + 1) * has_sound
        return 0

    def _patches(self, height: int, width: int, least: int, most: int) -> int:
        side = self.pictures.patch_size * self.pictures.merge_size
        height, width = smart_resize(height, width, side, least, most)
        return height * width // side**2

    def _turn(self, message: Message, kept: Sequence[Part], files: _Files) -> dict:
        """One message as the template takes it, media first."""
        if message.role == "assistant":
            return {"role": "assistant", "content": self._plain(_words(message))}
        content: list[dict] = []
        for part in sorted(message.parts, key=lambda part: isinstance(part, Text)):
            if isinstance(part, Text):
                content.append({"type": "text", "text": self._plain(part.text)})
            elif any(part is one for one in kept):
                content += files.take(part)
            else:
                content.append({"type": "text", "text": f"(an earlier {KINDS[type(part)]})"})
        return {"role": "user", "content": content}

    def _plain(self, text: str) -> str:
        """The text with its control tokens broken up."""
        for token in self.control:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def kinds(self, ids: Tensor) -> list[str]:
        """The modality of each token of a row (1, T)."""
        processor = self.processor
        media = {
            processor.image_token_id: "image", processor.video_token_id: "video", processor.audio_token_id: "audio"
        }  # fmt: skip
        return [media.get(token, "text") for token in ids[0].tolist()]


class _Files:
    """The decoded media of a prompt in the order of its text.

    State: pictures, clips and sounds so far, and for each sound the clip that it is from.
    """

    def __init__(self, between: bool):
        self.between = between
        self.pictures: list[np.ndarray] = []
        self.clips: list[np.ndarray] = []
        self.sounds: list[np.ndarray] = []
        self.sources: list[int | None] = []

    def take(self, part: Part) -> Iterator[dict]:
        """Decode a file; yields what the template is told of it."""
        match part:
            case Image():
                self.pictures.append(media.read_image(part))
                yield {"type": "image"}
            case Audio():
                yield self._sound(media.read_audio(part, RATE))
            case Video():
                frames, samples = media.read_video(part, FPS, None, RATE)
                self.clips.append(frames)
                yield {"type": "video"}
                if self.between:
                    self._sound(samples, len(self.clips) - 1)
                elif len(samples):
                    yield self._sound(samples)

    def _sound(self, samples: np.ndarray, source: int | None = None) -> dict:
        self.sounds.append(samples)
        self.sources.append(source)
        return {"type": "audio"}


def _words(message: Message) -> str:
    """What a reply said, written or spoken, without its thoughts."""
    spoken = [part.transcript for part in message.parts if isinstance(part, Audio)]
    text = next((words for words in (message.text, *spoken) if words), "")
    return text.rpartition(END_OF_THOUGHT)[2].strip()
