"""What leaves through the protocol: marked as it is made, and signed where it becomes a file."""

from __future__ import annotations

from collections.abc import Iterator

from omni.conversation import Audio, Conversation, Image
from omni.engine import Capabilities, Engine, Wish
from omni.events import Event
from omni.media.files import fresh
from omni.provenance.imprint import Imprint
from omni.provenance.keys import Keys


class Leaving:
    """An engine whose replies carry this playground's mark, and the imprint for their files."""

    def __init__(self, engine: Engine, keys: Keys):
        self.engine, self.keys = engine, keys

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    def imprint(self, asked: Conversation) -> Imprint:
        """How the files of a reply to ``asked`` are finished; they are made in its folder."""
        return Imprint(asked.folder, self.keys, self.engine.name, asked)

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        """See omni.engine.Engine."""
        return self.imprint(conversation).marked(self.engine.reply(conversation, wish))


def picture_signed(content: bytes, kind: str, imprint: Imprint) -> bytes:
    """A picture file of that kind (png, jpeg, webp) with credentials in it."""
    path = fresh(imprint.folder, f".{kind}")
    path.write_bytes(content)
    return imprint.signed(Image(path, 0, 0)).path.read_bytes()


def sound_signed(content: bytes, kind: str, imprint: Imprint) -> bytes:
    """A sound file of that kind with credentials in it, where it can carry them: wav, flac and mp3 can."""
    if kind not in ("wav", "flac", "mp3"):
        return content
    path = fresh(imprint.folder, f".{kind}")
    path.write_bytes(content)
    return imprint.signed(Audio(path, 0.0, 0)).path.read_bytes()
