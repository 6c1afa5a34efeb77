"""What happens to files on their way through the world, done to pixels, samples and clips."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from PIL import Image as Pillow

from omni.media import LIMITS
from omni.media.audio import normalise_sound, resample
from omni.media.mp4 import BT601, Clip
from omni.media.video import even

RATE = 16_000
Pixels = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Samples = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Frames = Callable[[bytes, np.random.Generator], bytes]  # of an MP4


def saved(kind: str, quality: int) -> Pixels:
    """Saved with loss and opened again."""

    def attack(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, kind, quality=quality)
        return np.asarray(Pillow.open(file).convert("RGB"))

    return attack


def resized(times: float) -> Pixels:
    """Smaller or larger."""

    def attack(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
        height, width = (round(side * times) for side in pixels.shape[:2])
        return np.asarray(Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BICUBIC))

    return attack


def brighter(times: float) -> Pixels:
    """Lighter or darker."""
    return lambda pixels, _: np.clip(np.rint(pixels * times), 0, 255).astype(np.uint8)


def cropped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth of width and height gone, from anywhere: a fifth of the picture."""
    height, width = (round(0.9 * side) for side in pixels.shape[:2])
    top, left = rng.integers(0, pixels.shape[0] - height + 1), rng.integers(0, pixels.shape[1] - width + 1)
    return pixels[top : top + height, left : left + width]


def screenshot(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shown a quarter larger in a window of another program, and that saved as JPEG 85."""
    large = resized(1.25)(pixels, rng)
    around = rng.integers(20, 90, 4)
    window = np.pad(large, ((*around[:2],), (*around[2:],), (0, 0)), constant_values=245)
    return saved("JPEG", 85)(window, rng)


PICTURES: dict[str, Pixels] = {
    "untouched": lambda pixels, _: pixels,
    "jpeg90": saved("JPEG", 90),
    "jpeg75": saved("JPEG", 75),
    "jpeg50": saved("JPEG", 50),
    "webp80": saved("WEBP", 80),
    "resize_0.5": resized(0.5),
    "resize_0.75": resized(0.75),
    "resize_2": resized(2.0),
    "crop10": cropped,
    "bright+10": brighter(1.1),
    "bright-10": brighter(0.9),
    "screenshot": screenshot,
}


def coded(container: str, codec: str, bits: int) -> Samples:
    """Through a lossy codec, and read as an upload is read."""

    def attack(samples: np.ndarray, _: np.random.Generator) -> np.ndarray:
        file = io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=48_000 if codec == "libopus" else RATE, layout="mono")
            stream.bit_rate = bits
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
            frame.rate = RATE
            size = {"libopus": 960, "libmp3lame": 1152}[codec]
            into = av.AudioResampler(stream.codec_context.format, "mono", stream.rate, frame_size=size)
            for piece in (*into.resample(frame), *into.resample(None)):
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
        facts, wav = normalise_sound(file, container, LIMITS)
        read = np.frombuffer(wav[44:], "<i2").astype(np.float32) / 32768
        return resample(read, facts["rate"], RATE)

    return attack


def resampled(rate: int) -> Samples:
    """To another rate and back."""
    return lambda samples, _: resample(resample(samples, RATE, rate), rate, RATE)


def louder(times: float) -> Samples:
    """At another level."""
    return lambda samples, _: np.clip(samples * np.float32(times), -1, 1)


def noisy(decibels: float) -> Samples:
    """With white noise that far below."""

    def attack(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        level = np.sqrt(np.mean(samples**2)) * 10 ** (-decibels / 20)
        return (samples + level * rng.standard_normal(len(samples))).astype(np.float32)

    return attack


def trimmed(seconds: float) -> Samples:
    """That much of it, from anywhere."""

    def attack(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start = rng.integers(0, max(1, len(samples) - round(seconds * RATE)))
        return samples[start : start + round(seconds * RATE)]

    return attack


SOUNDS: dict[str, Samples] = {
    "untouched": lambda samples, _: samples,
    "mp3_128k": coded("mp3", "libmp3lame", 128_000),
    "opus_64k": coded("ogg", "libopus", 64_000),
    "opus_32k": coded("ogg", "libopus", 32_000),
    "resample_8k": resampled(8_000),
    "resample_44k": resampled(44_100),
    "gain_half": louder(0.5),
    "noise_20db": noisy(20.0),
    "trim_4s": trimmed(4.0),
    "trim_1s": trimmed(1.0),
}


def encoded(crf: int, times: float = 1.0, keep: float = 1.0, sound: bool = True) -> Frames:
    """Compressed once more, at another size, a part of it from anywhere, with or without its sound."""

    def attack(clip: bytes, rng: np.random.Generator) -> bytes:
        with av.open(io.BytesIO(clip), format="mov") as file:
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
            fps = Fraction(file.streams.video[0].average_rate)
        with av.open(io.BytesIO(clip), format="mov") as file:
            into = av.AudioResampler("flt", "mono", RATE)
            pieces = [piece for frame in file.decode(audio=0) for piece in into.resample(frame)]
            samples = np.concatenate([piece.to_ndarray()[0] for piece in (*pieces, *into.resample(None))])
        count = max(1, round(keep * len(frames)))
        first = int(rng.integers(0, len(frames) - count + 1))
        height, width = frames[0].shape[:2]
        size = even(round(width * times), round(height * times), 4096)
        made = Clip(*size, fps, crf)
        for frame in frames[first : first + count]:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            made.add(picture.reformat(*size, "rgb24", interpolation="BICUBIC", **BT601).to_ndarray())
        start, end = (round(place / fps * RATE) for place in (first, first + count))
        return made.finish(samples[start:end] if sound else samples[:0], RATE)

    return attack


CLIPS: dict[str, Frames] = {
    "untouched": lambda clip, _: clip,
    "h264_crf28": encoded(28),
    "h264_crf28_mute": encoded(28, sound=False),
    "trim_half": encoded(23, keep=0.5),
    "trim_half_mute": encoded(23, keep=0.5, sound=False),
    "resize_0.5": encoded(23, times=0.5),
    "resize_0.5_mute": encoded(23, times=0.5, sound=False),
}
