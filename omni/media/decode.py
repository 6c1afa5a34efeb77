"""The program that runs in the sandbox: uploads in, a normalised file out for each.

Started by ``sandbox.decode`` as ``python -m omni.media.decode REQUEST``. Imports numpy, Pillow, av, soundfile and
pypdfium2 and no model library, so that it starts in a fraction of a second. Knows neither the upload's name nor where
the file goes.
"""

from __future__ import annotations

import gc
import io
import json
import sys
import traceback
from typing import BinaryIO

import av
import av.subtitles.codeccontext
import av.subtitles.stream
from PIL import Image as Pillow
from PIL import JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from omni.errors import Refused
from omni.media.audio import normalise_sound
from omni.media.image import normalise_picture
from omni.media.limits import Limits
from omni.media.pdf import read_pdf
from omni.media.sandbox import confine
from omni.media.sniff import Found
from omni.media.streams import has_picture_stream
from omni.media.video import normalise_clip

# av.subtitles and Pillow's plug-ins stand above because their libraries import them late, when no file can be opened.

DAMAGED = "This file is damaged or cut off; please save it again or choose another one."
TOO_LARGE = "This file needs too much memory to be read; please try a smaller one."


def normalise(upload: BinaryIO, found: Found, limits: Limits) -> tuple[dict, bytes]:
    """Decode the upload as what was found.

    Returns facts (with ``part``: image, audio, video or document) and the bytes of a file; of a document, see ``pdf``.
    """
    if found.kind == "document":
        return read_pdf(upload, limits)
    if found.kind == "picture":
        return normalise_picture(upload, found.container, limits)
    if found.kind == "stream" and has_picture_stream(upload, found.container):
        return normalise_clip(upload, found.container, limits)
    return normalise_sound(upload, found.container, limits)


def main() -> None:
    """Answer one request on the standard files."""
    request = json.loads(sys.argv[1])
    limits, sizes = Limits(**request["limits"]), request["sizes"]
    Pillow.preinit()
    av.logging.set_level(None)
    confine(limits, len(sizes))
    for size, found in zip(sizes, request["found"], strict=True):
        upload = sys.stdin.buffer.raw if len(sizes) == 1 else io.BytesIO(sys.stdin.buffer.read(size))
        facts, payload = answer(upload, Found(**found), limits)
        sys.stdout.buffer.write(json.dumps({**facts, "bytes": len(payload)}).encode() + b"\n" + payload)
        gc.collect()  # coders hold each other, and the memory of all files together is bounded
        if "refused" in facts:
            break
    sys.stdout.buffer.flush()


def answer(upload: BinaryIO, found: Found, limits: Limits) -> tuple[dict, bytes]:
    """``normalise``, or why not."""
    try:
        return normalise(upload, found, limits)
    except Refused as refusal:
        return {"refused": str(refusal)}, b""
    except MemoryError:
        return {"refused": TOO_LARGE}, b""
    except Exception:  # a parser may fail in any way on bytes that were made to break it
        traceback.print_exc(limit=-3)
        return {"refused": DAMAGED}, b""


if __name__ == "__main__":
    main()
