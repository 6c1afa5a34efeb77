"""What leaves through the protocol: marked as it is made, and signed where it becomes a file."""

from __future__ import annotations

from collections.abc import Iterator

from omni.conversation import Audio, Conversation, Image
from omni.engine import Engine, Wish, Wrapped
from omni.events import Event
from omni.media.files import fresh
from omni.provenance.imprint import Imprint
from omni.provenance.keys import Keys

PICTURES, SOUNDS = ("png", "jpeg", "webp"), ("wav", "flac", "mp3")  # that carry credentials


class Leaving(Wrapped):
    """An engine whose replies carry this playground's mark, and the imprint for their files."""

    def __init__(self, engine: Engine, keys: Keys):
        super().__init__(engine)
        self.keys = keys

    def imprint(self, asked: Conversation) -> Imprint:
        """How the files of a reply to ``asked`` are finished; they are made in its folder."""
        return Imprint(asked.folder, self.keys, self.engine.name, asked)

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """See omni.engine.Engine."""
        return self.imprint(conversation).marked(self.engine.reply(conversation, wish))


def signed(content: bytes, kind: str, imprint: Imprint) -> bytes:
    """A file of that kind with credentials in it; sounds in a kind that carries none stay as they are."""
    if kind not in PICTURES + SOUNDS:
        return content
    path = fresh(imprint.folder, f".{kind}")
    path.write_bytes(content)
    part = Image(path, 0, 0) if kind in PICTURES else Audio(path, 0.0, 0)
    return imprint.signed(part).path.read_bytes()
