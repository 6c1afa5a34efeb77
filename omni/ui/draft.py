"""A reply while it is being made: engine events folded into parts, previews and a word on what is going on.

Files are made here, through the reply's imprint, as soon as a picture or clip is complete. Knows nothing of the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omni.conversation import Part, Text
from omni.events import (
    ClipPreview,
    ClipReady,
    Event,
    Finished,
    Heard,
    ImagePreview,
    ImageReady,
    Progress,
    SpeechChunk,
    Telemetry,
    TextDelta,
    Usage,
)
from omni.provenance.imprint import Imprint


@dataclass(frozen=True, eq=False)
class Draft:
    """What an engine has said so far. Without an imprint there are no files, as they would leave unsigned."""

    imprint: Imprint | None = None
    heard: str = ""  # what it understood of the sound in the question
    made: tuple[Part, ...] = ()  # words and finished files, in the order in which they came
    speech: tuple[SpeechChunk, ...] = ()
    preview: ImagePreview | ClipPreview | None = None
    doing: str = "Thinking"
    done: float | None = None  # 0..1 of what it is doing, where that is known
    usage: Usage | None = None  # set when the reply is complete
    cut: bool = False  # the reply ran into its limit of tokens
    broken: str = ""  # the fault that broke the reply off, in a sentence

    def plus(self, event: Event) -> Draft:
        """The draft after one more event, in which marks stand already; finished pictures and clips become files."""
        match event:
            case Heard(text):
                return replace(self, heard=text)
            case TextDelta(text):
                return replace(self, made=_more_words(self.made, text), doing="Writing", done=None)
            case SpeechChunk():
                return replace(self, speech=(*self.speech, event), doing="Speaking", done=None)
            case ImagePreview():
                return replace(self, preview=event, doing="Drawing", done=event.done)
            case ClipPreview():
                return replace(self, preview=event, doing="Filming", done=(event.index + 1) / event.total)
            case ImageReady(pixels, caption):
                return self._with(self.imprint.image(pixels, caption))
            case ClipReady(frames, fps, samples, rate, caption):
                return self._with(self.imprint.video(frames, fps, samples, rate, caption))
            case Progress(doing, done):
                return replace(self, doing=doing, done=done)
            case Telemetry():  # see look.py
                return self
            case Finished(usage, reason, why):
                return replace(self, usage=usage, cut=reason == "length", broken=why if reason == "cut" else "")

    def parts(self) -> tuple[Part, ...]:
        """The parts of the reply as it stands, the speech as one file at their end."""
        if not self.speech:
            return self.made
        words = "\n".join(part.text for part in self.made if isinstance(part, Text)).strip()
        samples = np.concatenate([chunk.samples for chunk in self.speech])
        return (*self.made, self.imprint.audio(samples, self.speech[0].rate, words))

    def _with(self, part: Part) -> Draft:
        return replace(self, made=(*self.made, part), preview=None, done=None)


def _more_words(made: tuple[Part, ...], text: str) -> tuple[Part, ...]:
    """Words go on where words were last; after a file they begin anew."""
    if made and isinstance(made[-1], Text):
        return (*made[:-1], Text(made[-1].text + text))
    text = text.lstrip() if made else text
    return (*made, Text(text)) if text else made
