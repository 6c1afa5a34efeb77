"""The line under the thread: what is going on, and when it is done, what it took."""

from __future__ import annotations

from omni.events import Usage
from omni.ui.draft import Draft

OUR_FAULT = "Something went wrong on our side; nothing was lost."
NAMES = {"audio": "sound", "image": "picture", "video": "clip", "speech": "speech", "text": "text"}

Status = dict[str, str]


def quiet() -> Status:
    """Nothing to say."""
    return {"state": "quiet", "text": "", "more": ""}


def waiting() -> Status:
    """Sent, and not begun yet."""
    return {"state": "busy", "text": "Waiting for the model", "more": ""}


def opening() -> Status:
    """A saved chat is being read, file by file."""
    return {"state": "busy", "text": "Opening the chat", "more": ""}


def busy(draft: Draft, seconds: float) -> Status:
    """What the model is doing."""
    share = "" if draft.done is None else f" {draft.done:.0%}"
    return {"state": "busy", "text": f"{draft.doing}{share}", "more": f"{seconds:.1f} s"}


def stopped() -> Status:
    """The visitor ended the reply."""
    return {"state": "stopped", "text": "Stopped", "more": ""}


def failed(sentence: str) -> Status:
    """The reply or an upload failed."""
    return {"state": "failed", "text": sentence, "more": ""}


def noted(sentences: list[str]) -> Status:
    """Something that a visitor should know of what was attached."""
    return {"state": "noted", "text": " · ".join(sentences), "more": ""}


def finished(draft: Draft) -> Status:
    """Times and tokens of a complete reply, after what kept its files from being signed."""
    word = "Ended at the limit of tokens" if draft.cut else "Done"
    notices = draft.imprint.notices if draft.imprint else []
    return {"state": "done", "text": word, "more": " · ".join([*notices, *(took(draft.usage) if draft.usage else [])])}


def took(usage: Usage) -> list[str]:
    """The figures of a reply, those that there are, in a fixed order."""
    times = {
        "first words": usage.first_text,
        "first sound": usage.first_speech,
        "picture": usage.image,
        "clip": usage.clip,
        "all": usage.seconds or None,
    }
    figures = [f"{name} {seconds:.1f} s" for name, seconds in times.items() if seconds is not None]
    if usage.speech_seconds:
        figures.append(f"{usage.speech_seconds:.1f} s of speech")
    ways = {"in": usage.tokens_in, "out": usage.tokens_out}
    figures += [f"{way} {counted(tokens)}" for way, tokens in ways.items() if tokens]
    if usage.bytes_fetched:
        figures.append(f"{usage.experts_fetched:,} experts fetched ({usage.bytes_fetched / 1e6:,.1f} MB)")
    if usage.peak_memory_mb is not None:
        figures.append(f"{usage.peak_memory_mb:,.0f} MB")
    return figures


def counted(tokens: dict[str, int]) -> str:
    """``{"text": 20, "image": 64}`` is "84 tokens (20 text, 64 picture)"."""
    each = [f"{count} {NAMES.get(modality, modality)}" for modality, count in tokens.items() if count]
    return f"{sum(tokens.values())} tokens ({', '.join(each)})"
