"""The mark in pictures and in the frames of clips: a faint grain, repeated over the picture.

The grain is laid out for a picture whose shorter side is 256, and scaled with the picture. So a copy at another size is
found at once, and a cropped or framed one by trying the sizes that the whole may have had. It lies between 0.05 and 0.2
cycles a pixel at that size: below what JPEG and H.264 throw away first, above what pictures are mostly made of. It adds
the same to red, green and blue. Turned and mirrored copies are not found.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image as Pillow
from scipy import fft, ndimage

from omni.provenance.watermark import NOTHING, Found, bound, chips

SIDE = 256  # of the shorter side, at which the grain is laid out
TILE = 128  # pixels there, after which it repeats
STEP = 4  # pixels of shift between two payloads
GRID = TILE // STEP
LOWEST, HIGHEST = 0.05, 0.2  # cycles a pixel
STRENGTH = 1.0  # levels of 255, root mean square: 48 dB
SCALES = np.exp(np.arange(np.log(0.5), np.log(1.3), 0.012))  # shorter side of the whole over that of what is seen
FINER = np.exp(np.linspace(-0.009, 0.009, 7))  # about a scale that was found
CLEAR = 9.5  # a score that ends the search: by chance once in 10^10 searches
TRIES = (1 + len(SCALES) * (1 + len(FINER))) * TILE**2 * GRID**2  # also those that a search might have come to
FLAT = 0.3  # variance in levels, below which nothing is made louder
LUMA = np.float32([0.299, 0.587, 0.114])
WINDOW = 9  # pixels over which loud edges are made as quiet as their surroundings
MARGIN = 16  # pixels mirrored around a picture, so that its border does not ring


class PictureMark:
    """Marks pictures with a key and finds its own marks. State: the key's patterns, and grains made so far."""

    def __init__(self, key: bytes) -> None:
        self._where = _spectrum(key, "picture: where")
        self._when = _spectrum(key, "picture: when")
        self._grain = lru_cache(maxsize=8)(self._make_grain)

    def mark(self, pixels: np.ndarray, payload: int) -> np.ndarray:
        """(..., H, W, 3) uint8, one picture or the frames of a clip, with the mark: the same shape and dtype."""
        marked = pixels + self._grain(pixels.shape[-3], pixels.shape[-2], payload)
        return np.rint(marked, out=marked).clip(0, 255).astype(np.uint8)

    def find(self, pixels: np.ndarray) -> Found:
        """The likeliest mark in (H, W, 3) pixels of 0..255, whole, resized, cropped, or inside of something larger."""
        height, width = pixels.shape[:2]
        if min(height, width) < 16 or max(height, width) > 8 * min(height, width):
            return NOTHING
        seen = Pillow.fromarray(np.ascontiguousarray(pixels, np.float32) @ LUMA)
        best, at = self._at(seen, 1.0), 1.0
        for scale in SCALES:
            if best[0] >= CLEAR:
                break
            best, at = max((best, at), (self._at(seen, scale), scale))
        if at != 1.0:
            best = max(best, *(self._at(seen, at * finer) for finer in FINER))
        return Found(bound(best[0], TRIES), best[1])

    def _make_grain(self, height: int, width: int, payload: int) -> np.ndarray:
        """(height, width, 1) float32: what is added to a picture of that size."""
        down, right = divmod(payload, GRID)
        rows, columns = fft.fftfreq(TILE)[:, None], fft.rfftfreq(TILE)[None]
        shifted = self._when * np.exp(-2j * np.pi * STEP * (rows * down + columns * right))
        tile = fft.irfft2((self._where + shifted) * _band(TILE, TILE), s=(TILE, TILE))
        tile = (tile * (STRENGTH / tile.std())).astype(np.float32)
        scale = SIDE / min(height, width)
        tall, wide = height * scale, width * scale
        large = np.tile(tile, (int(tall // TILE) + 3, int(wide // TILE) + 3))
        box = (TILE, TILE, TILE + wide, TILE + tall)
        return np.asarray(Pillow.fromarray(large).resize((width, height), Pillow.Resampling.BICUBIC, box=box))[
            ..., None
        ]

    def _at(self, seen: Pillow.Image, scale: float) -> tuple[float, int]:
        """Score and payload, if what is seen is part of a picture whose shorter side is ``scale`` times its own."""
        ratio = SIDE / (min(seen.size) * scale)
        width, height = (max(1, round(side * ratio)) for side in seen.size)
        folded = _folded(_evened(np.asarray(seen.resize((width, height), Pillow.Resampling.BICUBIC))))
        spectrum = fft.rfft2(folded) * _band(TILE, TILE)
        norm = _norm(spectrum) + 1e-9
        where = fft.irfft2(spectrum * self._where.conj(), s=(TILE, TILE))
        when = fft.irfft2(spectrum * self._when.conj(), s=(TILE, TILE))
        top, left = np.unravel_index(where.argmax(), where.shape)
        codes = np.roll(when, (-top, -left), (0, 1))[::STEP, ::STEP]
        return float((where[top, left] + codes.max()) / norm / np.sqrt(2)), int(codes.argmax())


def _norm(spectrum: np.ndarray) -> float:
    """Of the tile with this half spectrum (Parseval): all columns but the first and the last stand for two."""
    power = np.square(np.abs(spectrum)).sum(axis=0)
    return float(np.sqrt(2 * power.sum() - power[0] - power[-1]) / TILE)


def _spectrum(key: bytes, purpose: str) -> np.ndarray:
    return fft.rfft2(chips(key, purpose, TILE * TILE).reshape(TILE, TILE))


@lru_cache(maxsize=512)
def _band(height: int, width: int) -> np.ndarray:
    """How much of each frequency belongs to the grain, for ``rfft2`` of that size."""
    cycles = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None])
    power = 1 / (1 + (LOWEST / np.maximum(cycles, 1e-9)) ** 8) / (1 + (cycles / HIGHEST) ** 8)
    return np.sqrt(power).astype(np.float32)


def _evened(luma: np.ndarray) -> np.ndarray:
    """The grain's band of a picture (H, W), with edges no louder than flat parts."""
    height, width = luma.shape
    margin = min(MARGIN, height - 1, width - 1)
    wide = np.pad(luma, margin, mode="reflect")
    shape = fft.next_fast_len(wide.shape[0], real=True), fft.next_fast_len(wide.shape[1], real=True)
    band = fft.irfft2(fft.rfft2(wide, s=shape) * _band(*shape), s=shape)
    band = band[margin : margin + height, margin : margin + width]
    return band / np.sqrt(ndimage.uniform_filter(band * band, WINDOW) + FLAT)


def _folded(picture: np.ndarray) -> np.ndarray:
    """All tiles of a picture laid on one."""
    height, width = picture.shape
    padded = np.pad(picture, ((0, -height % TILE), (0, -width % TILE)))
    return padded.reshape(-1, TILE, padded.shape[1] // TILE, TILE).sum(axis=(0, 2))
