"""Frames of the camera in a live turn: how one is taken, and which of them the engine gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omni import media
from omni.conversation import Image
from omni.errors import Refused
from omni.media import LIMITS

PICTURES = replace(LIMITS, upload_bytes=500_000, picture_side=512, decode_seconds=5.0)


def taken(picture: bytes, folder: Path) -> Image:
    """A frame of the camera as a part, through the door for uploads. Raises Refused."""
    part = media.take_bytes(picture, folder, PICTURES)
    if not isinstance(part, Image):
        part.path.unlink()
        raise Refused("What the camera sent is no picture; please choose another camera.")
    return part


def spread(pictures: list[Image], most: int) -> list[Image]:
    """At most ``most`` of the pictures, evenly over the time, the latest among them."""
    if len(pictures) <= most:
        return list(pictures)
    step = len(pictures) / most
    return [pictures[round((place + 1) * step) - 1] for place in range(most)]


def put_away(pictures: list[Image]) -> None:
    """Delete the files of pictures that nobody needs."""
    for picture in pictures:
        picture.path.unlink(missing_ok=True)
