"""Frames and samples to an MP4 that every browser plays: H.264 4:2:0 and AAC, index in front, one clock.

Works in memory, so that the confined process can use it too. Does not resize: frames come in their final, even size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

from omni.media.audio import fit, resample

AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
AAC_FRAME = 1024  # samples
BT601 = {"dst_colorspace": "ITU601", "dst_color_range": 1}  # what players assume of small pictures, also written down


def one_clock(count: int, fps: Fraction, samples: np.ndarray, rate: int) -> tuple[int, np.ndarray]:
    """How many frames there have to be, and samples of exactly that length.

    Sound that outlasts the pictures by more than half a frame is not cut: the last frame has to stand longer.
    """
    if not len(samples):
        return count, samples
    count = max(count, math.ceil(len(samples) / rate * fps - 0.5))
    return count, fit(samples, round(count / fps * rate))


class Clip:
    """An MP4 that is being made. State: the encoders, and the packets so far.

    Frames are encoded as they come, so that only the packets stay in memory; ``finish`` lays pictures and sound
    beside each other.
    """

    def __init__(self, width: int, height: int, fps: Fraction, crf: int) -> None:
        self.fps = fps
        self.count = 0
        self._buffer = io.BytesIO()
        self._container = av.open(
            self._buffer, "w", format="mp4", options={"movflags": "+faststart"}, io_open=self._reopen
        )
        self._pictures = self._container.add_stream("libx264", rate=fps)
        self._pictures.options = {"crf": str(crf), "preset": "veryfast"}
        self._pictures.width, self._pictures.height = width, height
        self._pictures.pix_fmt = "yuv420p"
        context = self._pictures.codec_context
        context.color_range, context.colorspace = 1, 6  # limited range, BT.601
        context.color_primaries, context.color_trc = 1, 1  # BT.709, as for sRGB
        context.thread_count = 2
        self._packets: list[av.Packet] = []
        self._last: np.ndarray | None = None

    def add(self, frame: np.ndarray, times: int = 1) -> None:
        """Append one (height, width, 3) uint8 frame, to be shown for ``times`` ticks of the clock."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", interpolation="AREA", **BT601)
        for _ in range(times):
            picture.pts, picture.time_base = self.count, 1 / self.fps
            self._packets += self._pictures.encode(picture)
            self.count += 1
        self._last = frame

    def finish(self, samples: np.ndarray, rate: int) -> bytes:
        """The file's bytes. ``samples`` (N,) float32 start with the first frame; empty makes a silent clip."""
        count, samples = one_clock(self.count, self.fps, samples, rate)
        if count > self.count:
            self.add(self._last, count - self.count)
        if len(samples):
            self._packets += self._sound(samples, rate)
        self._packets += self._pictures.encode(None)
        self._packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in self._packets:
            self._container.mux(packet)
        self._container.close()
        return self._buffer.getvalue()

    def _sound(self, samples: np.ndarray, rate: int) -> Iterable[av.Packet]:
        """The packets of an AAC stream."""
        if rate not in AAC_RATES:
            samples, rate = resample(samples, rate, 48_000), 48_000
        sound = self._container.add_stream("aac", rate=rate, layout="mono")
        sound.bit_rate = 128_000 if rate >= 32_000 else 64_000
        packets: list[av.Packet] = []
        for start in range(0, len(samples), AAC_FRAME):
            piece = np.ascontiguousarray(samples[None, start : start + AAC_FRAME], np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            packets += sound.encode(frame)
        return packets + sound.encode(None)

    def _reopen(self, url: str, flags: int, options: dict) -> io.BytesIO:
        """The second reading of the file, with which the muxer moves the index to the front."""
        return io.BytesIO(self._buffer.getvalue())
