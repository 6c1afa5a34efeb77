"""A model on a server behind the engine protocol.

What a server does not send is not made up here: most send no previews of a picture and do not tell what they heard.
Knows no model library; a page in front of a server needs little memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from urllib.parse import urlsplit

from omni.conversation import Audio, Conversation
from omni.engine import Capabilities, Wish
from omni.engines.remote import faults
from omni.engines.remote.dialects import DIALECTS, OpenAI, Turn
from omni.engines.remote.line import USUAL, Line, Patience
from omni.engines.remote.messages import Written, written
from omni.engines.remote.offer import NAMES, OUTPUTS, Offer, discover, listed
from omni.engines.remote.replying import Replying
from omni.errors import OmniError
from omni.events import Event, Finished, Progress

log = logging.getLogger(__name__)

CUTTING = (faults.BrokenOff, faults.TooSlow, faults.ServerFailed, faults.Garbled)


class RemoteEngine:
    """A server and what it offers, which shrinks with what it refuses: the only state between replies."""

    def __init__(self, line: Line, dialect: OpenAI, offer: Offer):
        self.line, self.dialect, self.offer = line, dialect, offer

    @classmethod
    def open(
        cls, server: str, base_url: str, key: str = "", model: str = "", patience: Patience = USUAL
    ) -> RemoteEngine:
        """Find out what ``server`` (a name in DIALECTS) at ``base_url`` offers. Raises OmniError."""
        line, dialect = Line(base_url, key, patience), DIALECTS[server]()
        try:
            offer = discover(line, dialect, model)
        except faults.RemoteFault as fault:
            raise OmniError(f"The server at {line.base_url} cannot be used. {fault}") from fault
        log.info("%s at %s gives %s, takes %s", offer.model, line.base_url, listed(offer.outputs), sorted(offer.inputs))
        return cls(line, dialect, offer)

    @property
    def name(self) -> str:
        return self.offer.model.rpartition("/")[2]

    @property
    def capabilities(self) -> Capabilities:
        return self.offer.capabilities(urlsplit(self.line.base_url).hostname or "")

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """Answer the last message of ``conversation``; see omni.engine.Engine.

        A fault after something was said ends the reply there; before, it is raised. Where the server refuses what was
        not explicitly wished for, it is asked for less.
        """
        yield Progress("Reading")
        self._check(wish)
        message = written(conversation, self.dialect, self.offer.own)
        for again in (True, False):
            replying = Replying(self.line, self.dialect, self.offer.model, _shows_text(wish))
            try:
                yield from self._answer(replying, conversation, message, wish)
                yield Finished(replying.usage(), "length" if replying.reason == "length" else "end")
                return
            except CUTTING as fault:
                if not replying.said:
                    raise
                log.warning("the reply was cut: %s", fault, exc_info=fault.__cause__)
                yield Finished(replying.usage(), "cut", str(fault))
                return
            except faults.Rejected as refusal:
                left = self.offer.without(refusal)
                if left == self.offer:
                    raise
                self.offer = left
                if replying.said or not again or wish.outputs is not None:
                    raise OmniError(self._less()) from refusal

    def _check(self, wish: Wish) -> None:
        """Raise OmniError for what the server does not give."""
        able = self.capabilities
        if missing := (wish.outputs or frozenset()) - able.outputs:
            raise OmniError(f"This model gives no {NAMES[min(missing)]}; it answers with {listed(able.outputs)}.")
        if wish.voice is not None and able.voices and wish.voice not in able.voices:
            raise OmniError(f"There is no voice {wish.voice!r}; choose one of {', '.join(able.voices)}.")

    def _answer(self, replying: Replying, conversation: Conversation, message: Written, wish: Wish) -> Iterator[Event]:
        """Chat, then what only other addresses of the server make. Raises RemoteFault."""
        in_chat = self._modalities(conversation, wish)
        elsewhere = (wish.outputs or frozenset()) - {OUTPUTS.get(word) for word in in_chat}
        if in_chat or "speech" in elsewhere:
            yield from replying.chat(self._turn(in_chat or ["text"], message, wish))
        if "speech" in elsewhere and replying.words.strip():
            yield from replying.speak(replying.words.strip(), self._voice(wish))
        prompt = conversation.messages[-1].text.strip()
        if elsewhere & {"image", "video"} and not prompt:
            raise OmniError("Please write what is to be made; this server makes pictures and clips from words.")
        if "image" in elsewhere:
            yield from replying.draw(prompt)
        if "video" in elsewhere:
            yield from replying.film(prompt, wish.seed)

    def _modalities(self, conversation: Conversation, wish: Wish) -> list[str]:
        """What the chat is asked for. "As asked" is for our own server to decide, else speech answers speech."""
        chat = self.offer.chat
        if wish.outputs is not None:
            return [word for word, output in OUTPUTS.items() if word in chat and output in wish.outputs]
        if self.offer.own:
            return ["auto"]
        spoken_to = any(isinstance(part, Audio) for part in conversation.messages[-1].parts)
        return ["text", "audio"] if spoken_to and "audio" in chat else ["text"]

    def _turn(self, modalities: list[str], message: Written, wish: Wish) -> Turn:
        return Turn(
            model=self.offer.model,
            messages=message.messages,
            modalities=modalities,
            voice=self._voice(wish),
            temperature=wish.temperature,
            seed=wish.seed,
            max_tokens=wish.max_tokens,
            sound_in_clips=message.sound_in_clips,
            progress=self.offer.own,
        )

    def _voice(self, wish: Wish) -> str | None:
        return wish.voice or next(iter(self.offer.voices), None)

    def _less(self) -> str:
        able = self.capabilities
        takes = " and ".join(NAMES[kind] for kind in ("text", "image", "audio", "video") if kind in able.inputs)
        return f"This model turned out to take {takes} and to answer with {listed(able.outputs)}; please ask for that."


def _shows_text(wish: Wish) -> bool:
    return wish.outputs is None or "text" in wish.outputs
