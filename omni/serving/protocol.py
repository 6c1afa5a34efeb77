"""What a program may ask for: OpenAI's requests, as far as they are taken here, and what omni servers add to them.

Fields that are not named are passed over, as programs send many that say nothing to an omni model.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from omni.engine import Modality, Wish
from omni.errors import Refused
from omni.media import LIMITS

AS_ASKED = "auto"  # among the modalities: the model decides
OUTPUTS: dict[str, Modality] = {"text": "text", "audio": "speech", "image": "image", "video": "video"}
STREAMED_SOUND = ("pcm16", "pcm")
SPEECH_RATE = 24_000  # samples a second of OpenAI's pcm16
MOST_TOKENS = 8192


class Address(BaseModel):
    url: str


class Sound(BaseModel):
    data: str  # base64
    format: str = "wav"


class Attached(BaseModel):
    """A document, or any other file; without a name it has to be a PDF, a picture, a sound or a clip."""

    file_data: str | None = None  # a ``data:`` address, or bare base64
    filename: str = "document"


class ContentPart(BaseModel):
    """One piece of a message: words, or a file that the request itself carries."""

    type: str
    text: str | None = None
    image_url: Address | None = None
    video_url: Address | None = None
    audio_url: Address | None = None
    input_audio: Sound | None = None
    file: Attached | None = None
    caption: str = ""  # ours, of the pictures and clips of an earlier reply


class ChatMessage(BaseModel):
    role: str
    content: str | list[ContentPart] | None = None


class SpeechWish(BaseModel):
    """``sample_rate`` of null is ours: as the model makes it, without resampling."""

    voice: str | None = None
    format: str | None = None
    sample_rate: int | None = Field(SPEECH_RATE, ge=8_000, le=48_000)


class StreamOptions(BaseModel):
    """``include_progress`` is ours: what is understood, being done and half made comes in a field ``omni`` too."""

    include_usage: bool = False
    include_progress: bool = False


class Asked(BaseModel):
    """What every request may say."""

    model: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)


class ChatRequest(Asked):
    """``/v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    modalities: list[str] | None = None
    audio: SpeechWish = SpeechWish()
    voice: str | None = None  # as vLLM-Omni takes it
    temperature: float = Field(Wish().temperature, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def wish(self) -> Wish:
        """What is wished for; nothing said is text, as with OpenAI. Raises Refused for unknown modalities."""
        asked = self.modalities or ["text"]
        if unknown := sorted(set(asked) - {*OUTPUTS, AS_ASKED}):
            known = ", ".join(OUTPUTS)
            raise Refused(f"Unsupported output modalities {', '.join(unknown)}. Supported modalities: {known}.")
        outputs = None if AS_ASKED in asked else frozenset(OUTPUTS[name] for name in asked)
        most = self.max_completion_tokens or self.max_tokens or Wish().max_tokens
        voice = self.audio.voice or self.voice
        return Wish(outputs, voice, self.temperature, self.seed, min(most, MOST_TOKENS))


class ImageRequest(Asked):
    """``/v1/images/generations``."""

    prompt: str = Field(min_length=1, max_length=LIMITS.prompt_characters)
    n: int = Field(1, ge=1, le=4)
    size: str | None = None
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"


class SpeechRequest(Asked):
    """``/v1/audio/speech``."""

    input: str = Field(min_length=1, max_length=LIMITS.prompt_characters)
    voice: str | dict[str, Any] | None = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["audio"] = "audio"
    speed: Literal[1] = 1

    @property
    def voice_name(self) -> str | None:
        """OpenAI's voices may also come as ``{"id": name}``."""
        return self.voice.get("id") if isinstance(self.voice, dict) else self.voice


class VideoRequest(Asked):
    """``/v1/videos``, whose fields come in a form or as JSON."""

    prompt: str = Field(min_length=1, max_length=LIMITS.prompt_characters)
    size: str | None = None
    seconds: str | None = None


def check_size(size: str | None) -> None:
    """Raise Refused where a size is asked for: the models here have one of their own."""
    if size not in (None, "", "auto"):
        raise Refused("This model makes pictures and clips in a size of its own; please leave the size out.")
