"""Server-sent events out of a body that comes in blocks, within a bound of memory.

https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only ``data`` matters here.
"""

from __future__ import annotations

from omni.engines.remote import faults

MOST_LINE = 48 * 2**20  # bytes; a clip in base64 is the largest that comes in one


class Events:
    """Blocks of bytes to the data of events. State: the unfinished line, how far it was searched, the event's data."""

    def __init__(self, most_line: int = MOST_LINE):
        self.most_line = most_line
        self._line = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, block: bytes) -> list[bytes]:
        """The events that are complete with this block. Raises Garbled where one is too large."""
        self._line += block
        complete: list[bytes] = []
        while (end := self._line.find(b"\n", self._searched)) >= 0:
            line = bytes(self._line[:end]).removesuffix(b"\r")
            del self._line[: end + 1]
            self._searched = 0
            complete += self._take(line)
        self._searched = len(self._line)
        self._bound(len(self._line))
        return complete

    def _take(self, line: bytes) -> list[bytes]:
        if not line:
            event, self._data, self._size = b"\n".join(self._data), [], 0
            return [event] if event else []
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
            self._bound(0)
        return []

    def _bound(self, more: int) -> None:
        if self._size + more > self.most_line:
            raise faults.Garbled("The model's server sent one piece that is larger than anything that is taken.")
