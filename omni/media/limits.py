"""How much of an upload is taken: the one place where these numbers stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what comes in, and the size of what is kept of it.

    What is declared in a header is checked before decoding; the same bound is counted again while decoding,
    because a header may lie or be absent.
    """

    upload_bytes: int = 100 * 2**20
    prompt_characters: int = 8_000

    picture_pixels: int = 50_000_000  # of the upload
    picture_side: int = 1024  # longest side that is kept

    sound_seconds: float = 60.0
    sound_rate: int = 48_000  # highest rate that is kept
    sound_rates: tuple[int, int] = (1_000, 384_000)  # of the upload, samples a second
    sound_channels: int = 8

    clip_seconds: float = 30.0
    clip_frames: int = 3_600  # decoded, of the upload
    clip_pixels: int = 4_000_000  # a frame of the upload
    clip_side: int = 640  # longest side that is kept
    clip_fps: int = 15  # highest rate that is kept

    document_bytes: int = 32 * 2**20
    document_characters: int = 24_000  # that are kept
    document_pages: int = 200  # of which words are read
    document_pictures: int = 4  # first pages that are kept as pictures

    saved_bytes: int = 400 * 2**20  # of a conversation that was saved, as it lies there and unpacked
    saved_files: int = 900  # pictures, sounds and clips of it
    saved_messages: int = 2_000
    saved_seconds: float = 300.0  # wall clock of decoding all its files

    decode_seconds: float = 20.0  # wall clock of the decoding process
    decode_bytes: int = 2**30  # address space of the decoding process


LIMITS = Limits()
