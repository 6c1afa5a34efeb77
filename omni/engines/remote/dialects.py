"""How servers differ in what they take and how they answer: one class each.

``OpenAI`` is the standard, as OpenAI itself, ``transformers serve`` and our own server speak it; the others say in
their docstrings where they leave it. Versions read: vLLM-Omni 0.30, SGLang-Omni 0.1.9, the documents of DashScope
of October 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from omni.engines.remote.chunks import (
    RATE,
    Choice,
    Chunk,
    ContentPart,
    Ended,
    File,
    Piece,
    Sound,
    Words,
    inline,
    unpacked,
)
from omni.engines.remote.line import Line
from omni.engines.remote.offer import Offer, has_route, refusal_of, voices_of

Body = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One question in the words that all servers share."""

    model: str
    messages: list[Body]
    modalities: list[str]  # text, audio, image, video; or auto, where our own server decides
    voice: str | None
    temperature: float
    seed: int | None
    max_tokens: int
    sound_in_clips: bool  # there are clips, and all of them have sound
    progress: bool  # the server can tell what it is doing


class OpenAI:
    """The standard: speech in ``delta.audio``, asked for as pcm16; pictures and clips as content parts."""

    sound_format = "pcm16"
    kinds_a_message = 3  # of files beside words
    file_bytes = 64 * 2**20  # of one file in base64
    all_kinds = ("text", "image", "audio", "video")

    def body(self, turn: Turn) -> Body:
        """The request of a streamed reply."""
        body: Body = {
            "model": turn.model,
            "messages": turn.messages,
            "temperature": turn.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.limit(turn.max_tokens),
        }
        if turn.seed is not None:
            body["seed"] = turn.seed
        if turn.modalities != ["text"]:
            body["modalities"] = turn.modalities
        if {"audio", "auto"} & set(turn.modalities):
            body["audio"] = self.audio(turn)
        if turn.progress:
            body["stream_options"]["include_progress"] = True
        return body

    def limit(self, tokens: int) -> Body:
        """The most tokens of the reply."""
        return {"max_completion_tokens": tokens}

    def audio(self, turn: Turn) -> Body:
        """How speech is to come. Our own server, which tells its progress, sends it as it is made."""
        rate = {"sample_rate": None} if turn.progress else {}
        return {"format": self.sound_format, **({"voice": turn.voice} if turn.voice else {}), **rate}

    def speech(self, model: str, text: str, voice: str | None) -> Body:
        """The request of a text read aloud, as bare samples that come while it is read."""
        body = {"model": model, "input": text, "response_format": "pcm", "stream_format": "audio"}
        return body | ({"voice": voice} if voice else {})

    def sound(self, data: str) -> Body:
        """A WAV file in base64 as a content part."""
        return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}

    def voices(self, model: str) -> tuple[str, ...]:
        """The voices that are known without asking."""
        return ()

    def offer(self, model: str) -> Offer:
        """What a server that says nothing of itself is taken to give."""
        return Offer(model, chat=frozenset({"text"}), inputs=frozenset(self.all_kinds))

    def explore(self, line: Line, offer: Offer) -> Offer:
        """Ask a server for more than its models, without making it work."""
        draws, films = has_route(line, "/images/generations"), has_route(line, "/videos")
        speech = has_route(line, "/audio/speech")
        return replace(offer, draws=draws, films=films, reads_aloud=speech, voices=voices_of(line) or offer.voices)

    def pieces(self, chunk: Chunk) -> Iterator[Piece]:
        """What a chunk holds. Raises Garbled."""
        for choice in chunk.choices[:1]:
            yield from self.content(chunk, choice)
            if choice.delta and choice.delta.audio and choice.delta.audio.data:
                yield Sound(unpacked(choice.delta.audio.data), self.rate(choice))
            if choice.finish_reason:
                yield Ended(choice.finish_reason)
        if chunk.omni is not None:
            yield chunk.omni
        if chunk.usage is not None:
            yield chunk.usage

    def content(self, chunk: Chunk, choice: Choice) -> Iterator[Piece]:
        """Words and files of a delta."""
        content = choice.delta.content if choice.delta else None
        if isinstance(content, str) and content:
            yield Words(content)
        for part in content if isinstance(content, list) else ():
            yield from self.part(part)

    def part(self, part: ContentPart) -> Iterator[Piece]:
        if part.text:
            yield Words(part.text)
        if part.image_url:
            yield File("image", inline(part.image_url.url), part.caption)
        if part.video_url:
            yield File("video", inline(part.video_url.url), part.caption)

    @staticmethod
    def rate(choice: Choice) -> int:
        """Samples a second of the speech in a choice."""
        return (choice.audio_metadata and choice.audio_metadata.sample_rate_hz) or RATE


class VllmOmni(OpenAI):
    """Speech stands in ``delta.content``, told from words by ``modality``; the voice is a field of the request itself.

    ``modalities`` left out would be all that the model has. A clip's sound is heard only where it is asked for.
    """

    def body(self, turn: Turn) -> Body:
        body = super().body(turn) | {"modalities": turn.modalities}
        if turn.voice and "audio" in turn.modalities:
            body["voice"] = turn.voice
        if turn.sound_in_clips:
            body["mm_processor_kwargs"] = {"use_audio_in_video": True}
        return body

    def speech(self, model: str, text: str, voice: str | None) -> Body:
        return super().speech(model, text, voice) | {"stream": True, "sample_rate": RATE}

    def offer(self, model: str) -> Offer:
        return Offer(model, chat=frozenset({"text", "audio"}), inputs=frozenset(self.all_kinds))

    def explore(self, line: Line, offer: Offer) -> Offer:
        """All routes are there whatever the model can do; a refused modality brings the list of those it has."""
        if refusal := refusal_of(line, offer.model):
            offer = offer.without(refusal)
        voices = voices_of(line)
        return replace(
            offer,
            chat=offer.chat - {"video"},
            films="video" in offer.chat,
            reads_aloud=voices is not None and "audio" not in offer.chat,
            voices=voices or (),
        )

    def content(self, chunk: Chunk, choice: Choice) -> Iterator[Piece]:
        content = choice.delta.content if choice.delta else None
        if chunk.modality == "audio" and isinstance(content, str):
            if content:
                yield Sound(unpacked(content), self.rate(choice))
        else:
            yield from super().content(chunk, choice)


class SglangOmni(OpenAI):
    """Bare samples are called pcm; usage comes with the last chunk. A clip's sound is heard only if asked for."""

    sound_format = "pcm"

    def body(self, turn: Turn) -> Body:
        return super().body(turn) | ({"use_audio_in_video": True} if turn.sound_in_clips else {})

    def speech(self, model: str, text: str, voice: str | None) -> Body:
        return super().speech(model, text, voice) | {"stream": True}

    def offer(self, model: str) -> Offer:
        return Offer(model, chat=frozenset({"text", "audio"}), inputs=frozenset(self.all_kinds))


class DashScope(OpenAI):
    """Bare samples under the name wav; one kind of file a message; words of older models in ``audio.transcript``.

    Which model speaks, and with which voices, stands in the documents alone.
    """

    sound_format = "wav"
    kinds_a_message = 1
    file_bytes = 10 * 2**20

    VOICES = {
        "qwen3.5-omni": ("Tina",),
        "qwen3-omni": ("Cherry",),
        "qwen2.5-omni": ("Chelsie", "Ethan"),
        "qwen-omni": ("Chelsie", "Ethan"),
    }

    def limit(self, tokens: int) -> Body:
        return {"max_tokens": tokens}

    def explore(self, line: Line, offer: Offer) -> Offer:
        """There is nothing that can be asked without being paid for."""
        return offer

    def sound(self, data: str) -> Body:
        return {"type": "input_audio", "input_audio": {"data": f"data:;base64,{data}", "format": "wav"}}

    def voices(self, model: str) -> tuple[str, ...]:
        return next((voices for family, voices in self.VOICES.items() if model.startswith(family)), ())

    def offer(self, model: str) -> Offer:
        speaks = {"audio"} if self.voices(model) else set()
        return Offer(model, frozenset({"text"} | speaks), frozenset(self.all_kinds), voices=self.voices(model))

    def content(self, chunk: Chunk, choice: Choice) -> Iterator[Piece]:
        yield from super().content(chunk, choice)
        delta = choice.delta
        if delta and delta.audio and delta.audio.transcript and not delta.content:
            yield Words(delta.audio.transcript)


DIALECTS = {"openai": OpenAI, "vllm": VllmOmni, "sglang": SglangOmni, "dashscope": DashScope}
