"""Real media for the tests, made on the spot: no network, no files kept in the repository."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

RATE = 16_000


def tone(seconds: float = 1.0, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    """(N,) float32, half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def hum(seed: int, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """(N,) float32: a voice-like buzz with formants and pauses, as Primer speaks."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 20 * np.sin(2 * np.pi * 1.5 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum(np.sin(k * phase) * np.exp(-k * 120 / 1500) for k in range(1, 40) if k * 140 < rate / 2)
    breath = 0.05 * rng.standard_normal(len(time))
    loud = np.clip(np.sin(2 * np.pi * 2 * time) + 0.6, 0, 1)
    return (0.1 * (buzz + breath) * loud).astype(np.float32)


def photo(width: int = 400, height: int = 300) -> np.ndarray:
    """(H, W, 3) uint8: a smooth picture with a red upper left corner."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 - 128 * x // width, 200 * y // height, 200 * x // width], axis=-1).astype(np.uint8)
    pixels[: height // 4, : width // 4] = (255, 0, 0)
    return pixels


def picture_file(path: Path, pixels: np.ndarray, kind: str = "PNG", **options) -> Path:
    Image.fromarray(pixels).save(path, kind, **options)
    return path


def sound_file(path: Path, samples: np.ndarray, kind: str, rate: int = RATE, **options: str) -> Path:
    """A sound in one of wav, flac, mp3, ogg, m4a (AAC in MP4), webm (Opus); ``options`` are the muxer's."""
    if kind in ("wav", "flac"):
        soundfile.write(path, samples, rate, format=kind.upper(), subtype="PCM_16")
        return path
    container = {"m4a": "mp4"}.get(kind, kind)
    codec = {"mp3": "libmp3lame", "ogg": "libopus", "webm": "libopus", "m4a": "aac"}[kind]
    with av.open(str(path), "w", format=container, options=options) as file:
        fill(file, sound_track(file, codec, rate), samples, rate)
    return path


def sound_track(file, codec: str, rate: int):
    """A stream of sound; all streams of a file have to be there before the first packet."""
    return file.add_stream(codec, rate=48_000 if codec == "libopus" else rate, layout="mono")


def fill(file, stream, samples: np.ndarray, rate: int) -> None:
    """Encode all samples into a stream."""
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.rate = rate
    size = {"libopus": 960, "opus": 960, "aac": 1024, "libmp3lame": 1152, "mp3": 1152}[stream.codec_context.name]
    resampler = av.AudioResampler(stream.codec_context.format, "mono", stream.rate, frame_size=size)
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        file.mux(stream.encode(piece))
    file.mux(stream.encode(None))


def clip_file(
    path: Path,
    seconds: float = 1.0,
    fps: int = 10,
    size: tuple[int, int] = (160, 120),
    container: str = "mp4",
    sound: bool = True,
    live: bool = False,
    hertz: float = 440.0,
) -> Path:
    """A clip that turns from blue to red. ``live`` writes it as a browser records: without length or index."""
    webm = container == "webm"
    with av.open(str(path), "w", format=container, options={"live": "1"} if live else {}) as file:
        pictures = file.add_stream("libvpx" if webm else "libx264", rate=fps)
        pictures.width, pictures.height = size
        pictures.pix_fmt = "yuv420p"
        pictures.options = {"deadline": "realtime", "cpu-used": "8"} if webm else {"preset": "ultrafast"}
        track = sound_track(file, "libopus" if webm else "aac", 48_000) if sound else None
        count = round(seconds * fps)
        for index in range(count):
            red = round(255 * index / max(1, count - 1))
            pixels = np.full((size[1], size[0], 3), (red, 0, 255 - red), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels).reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode(None))
        if track is not None:
            fill(file, track, tone(seconds, hertz, 48_000), 48_000)
    return path


def wav_header(rate: int, channels: int = 1, bits: int = 16, tag: int = 1, data: bytes = b"\0\0" * 100) -> bytes:
    """A WAV with any fields in its header."""
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", tag, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + fields + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bomb_png(side: int = 13_000) -> bytes:
    """A PNG of one grey, side x side pixels, in some twenty kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compressobj(9)
    row = b"\0" * (side // 8 + 2)
    data = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pdf_bytes(*pages: str, locked: bool = False, size: tuple[int, int] = (300, 400)) -> bytes:
    """A PDF with a red square and a line of words on each page; an empty line leaves only the square.

    ``locked`` asks for a password that nobody knows.
    """
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, words in enumerate(pages):
        drawn = f"1 0 0 rg 0 0 {size[0]} {size[1] // 2} re f 0 g".encode()
        if words:
            drawn += f" BT /F1 12 Tf 20 {size[1] - 40} Td ({words}) Tj ET".encode()
        uses = f"/Contents {5 + 2 * number} 0 R/Resources<</Font<</F1 3 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]} {size[1]}]{uses}>>".encode())
        objects.append(f"<</Length {len(drawn)}>>stream\n".encode() + drawn + b"\nendstream")
    lock = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<00><00>]" % (b"5a" * 32, b"a5" * 32)
    data, starts = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        starts.append(len(data))
        data += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    end = b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1, lock if locked else b"", len(data)
    )  # fmt: skip
    return data + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def jpeg_bytes(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def peak_hertz(samples: np.ndarray, rate: int) -> float:
    """The loudest frequency of a sound."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))
