"""Pictures: an upload to a PNG, a part to pixels, pixels to a part.

Does not manage colours: a picture with a wide gamut is read as if it were sRGB. Of an animation it reads the first
picture.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from omni.conversation import Image
from omni.errors import Refused
from omni.media.files import fresh
from omni.media.limits import Limits


def normalise_picture(upload: BinaryIO, container: str, limits: Limits) -> tuple[dict, bytes]:
    """Decode a picture, turn it upright, shrink it and lay it on white. Runs in the sandbox.

    Returns the facts of an Image and the bytes of a PNG. Raises Refused where it has too many pixels; whatever
    Pillow raises where it is damaged.
    """
    Pillow.MAX_IMAGE_PIXELS = None  # one bound, checked below, instead of a warning and an error at twice as much
    upload.seek(0)
    with Pillow.open(upload, formats=(container,)) as picture:
        width, height = picture.size
        if width * height > limits.picture_pixels:
            most = limits.picture_pixels // 10**6
            raise Refused(f"This picture has {width} x {height} pixels; at most {most} million can be read.")
        picture.draft("RGB", (limits.picture_side, limits.picture_side))  # JPEG decodes straight to a smaller size
        picture.load()
        orientation = picture.getexif().get(0x0112, 1)
        small = eight_bits(picture)
    small.thumbnail((limits.picture_side, limits.picture_side), Pillow.Resampling.BICUBIC)
    small.getexif()[0x0112] = orientation
    small = on_white(ImageOps.exif_transpose(small))
    return {"part": "image", "width": small.width, "height": small.height}, png(small, compress_level=4)


def eight_bits(picture: Pillow.Image) -> Pillow.Image:
    """The picture as L, RGB or RGBA. Sixteen-bit grey is scaled, where Pillow's own conversion clips."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).clip(0, 65_535) >> 8
        return Pillow.fromarray(levels.astype(np.uint8))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert("RGB") if picture.mode != "RGB" else picture.copy()


def on_white(picture: Pillow.Image) -> Pillow.Image:
    """The picture as RGB, with white where it was transparent."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    white = Pillow.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def png(picture: Pillow.Image, compress_level: int = 6) -> bytes:
    """The bytes of a PNG of the pixels alone, without metadata."""
    buffer = io.BytesIO()
    Pillow.fromarray(np.asarray(picture)).save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def read_image(part: Image) -> np.ndarray:
    """The pixels of a part: (H, W, 3) uint8."""
    with Pillow.open(part.path, formats=("PNG", "JPEG", "WEBP")) as picture:
        return np.array(on_white(eight_bits(picture)))


def write_image(pixels: np.ndarray, folder: Path, caption: str = "") -> Image:
    """Write (H, W, 3) uint8 pixels as a PNG into ``folder``. Raises ValueError for another shape or dtype."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"pixels must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    path = fresh(Path(folder), ".png")
    path.write_bytes(png(Pillow.fromarray(pixels)))
    return Image(path, width=pixels.shape[1], height=pixels.shape[0], caption=caption)
