"""Uploads come in here as files, leave as parts; arrays of an engine come in here, leave as files.

Only this package makes media parts. It knows nothing of engines, models or the page.
"""

from omni.media.audio import Resampler, encode_audio, read_audio, resample, write_audio
from omni.media.bundle import Opened, description, open_bundle, pack
from omni.media.document import SUFFIXES, Document, is_document, take_document
from omni.media.image import read_image, write_image
from omni.media.intake import laid_down, take, take_bytes, take_text
from omni.media.limits import LIMITS, Limits
from omni.media.video import read_video, write_video

__all__ = [
    "LIMITS",
    "SUFFIXES",
    "Document",
    "Limits",
    "Opened",
    "Resampler",
    "description",
    "encode_audio",
    "is_document",
    "laid_down",
    "open_bundle",
    "pack",
    "read_audio",
    "read_image",
    "read_video",
    "resample",
    "take",
    "take_bytes",
    "take_document",
    "take_text",
    "write_audio",
    "write_image",
    "write_video",
]
