"""What is too large, too long, damaged or disguised is refused with one sentence, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import socket
import time
import zipfile
from fractions import Fraction

import av
import numpy as np
import pytest
from media_files import bomb_png, clip_file, jpeg_bytes, photo, picture_file, sound_file, tone, wav_header
from PIL import Image as Pillow

from omni import media
from omni.conversation import Video
from omni.errors import Refused
from omni.media import sandbox
from omni.media.limits import LIMITS, Limits
from omni.media.sniff import Found


@pytest.fixture
def refusal(tmp_path):
    """Offer bytes (or a file) as an upload; the sentence with which they are refused."""
    folder = tmp_path / "conversation"
    folder.mkdir()

    def offer(upload, name="upload", limits=LIMITS):
        path = upload
        if isinstance(upload, bytes):
            path = tmp_path / name
            path.write_bytes(upload)
        began = time.monotonic()
        with pytest.raises(Refused) as refused:
            media.take(path, folder, limits)
        assert time.monotonic() - began < 10  # two on an idle machine
        assert list(folder.iterdir()) == []
        sentence = str(refused.value)
        assert re.fullmatch(r"[A-Z][^\n]{20,200}\.", sentence) and ". " not in sentence
        return sentence

    return offer


def test_an_empty_file(refusal):
    assert "empty" in refusal(b"")


def test_a_file_that_is_not_there(refusal, tmp_path):
    assert "did not arrive" in refusal(tmp_path / "nothing")


def test_a_pipe_is_not_waited_for(refusal, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "did not arrive" in refusal(tmp_path / "pipe")


def test_more_bytes_than_allowed(refusal):
    assert "at most 1 MB" in refusal(bytes(2**20 + 1), limits=Limits(upload_bytes=2**20))


@pytest.mark.parametrize(
    "text",
    [
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"GIF89a" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"\xff\xfb",
        b"\xff" * 1000,
        bytes(1000),
        b"#!AMR\n",
    ],
)
@pytest.mark.parametrize("name", ["photo.png", "clip.mp4"])
def test_what_is_no_picture_sound_or_clip(refusal, text, name):
    assert "none of the kinds" in refusal(text, name)


def test_a_heic_picture_is_told_what_to_do(refusal):
    assert "save this one as JPEG" in refusal(b"\0\0\0\x18ftypheic" + bytes(100))


@pytest.mark.parametrize("name", ["clip.mp4", "list.m3u8"])
def test_playlists_in_disguise_read_nothing_else(refusal, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    canary = clip_file(tmp_path / "canary.mp4", sound=False)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/x.ts"
    texts = [
        b"ffconcat version 1.0\nfile canary.mp4\n",
        f"ffconcat version 1.0\nfile '{canary}'\n".encode(),
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{canary}\n#EXT-X-ENDLIST\n".encode(),
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n".encode(),
    ]
    os.utime(canary, (1, 1))
    for text in texts:
        refusal(text, name)
        refusal(b"\0\0\0\x18ftypisom" + text, name)
        refusal(b"\x1aE\xdf\xa3" + text, name)
    assert canary.stat().st_atime == 1
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


def test_a_playlist_that_got_past_the_door_opens_nothing(tmp_path, monkeypatch):
    """The second and third wall: an explicit demuxer, and a process that can open no file."""
    monkeypatch.chdir(tmp_path)
    canary = clip_file(tmp_path / "canary.mp4", sound=False)
    os.utime(canary, (1, 1))
    (tmp_path / "upload").write_text("ffconcat version 1.0\nfile canary.mp4\n")
    for container in ("mov", "mp3", "concat", "hls"):
        with (tmp_path / "upload").open("rb") as upload, pytest.raises(Refused):
            sandbox.decode(upload, [Found("stream", container)], [50], LIMITS)
    assert canary.stat().st_atime == 1


def test_a_picture_bomb(refusal):
    bomb = bomb_png()
    assert len(bomb) < 40_000
    assert "13000 x 13000" in refusal(bomb)


def test_a_webp_bomb(refusal):
    buffer = io.BytesIO()
    Pillow.new("L", (16_000, 4_000)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    assert refusal(buffer.getvalue())


def test_a_clip_bomb(refusal, tmp_path):
    bomb = clip_file(tmp_path / "bomb", seconds=1, fps=6, size=(4096, 2304), sound=False)
    assert "4096 x 2304" in refusal(bomb)


def test_frames_that_grow_after_the_first_are_not_decoded(refusal, tmp_path):
    """A stream may hold frames of any size, whatever its header says."""
    path = tmp_path / "c"
    with av.open(str(path), "w", format="webm") as file:
        stream = file.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        large = av.CodecContext.create("libvpx", "w")
        large.width, large.height, large.pix_fmt, large.time_base = 2048, 1200, "yuv420p", Fraction(1, 10)
        stream.options = large.options = {"deadline": "realtime", "cpu-used": "8"}
        for index in range(20):
            encoder = stream if index < 10 else large
            frame = av.VideoFrame(encoder.width, encoder.height, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            for packet in encoder.encode(frame):
                packet.stream = stream
                file.mux(packet)
        for packet in large.encode(None):
            packet.stream = stream
            file.mux(packet)
    assert isinstance(media.take(path, tmp_path / "other"), Video)  # within the usual limits it is a clip
    assert refusal(path, limits=Limits(clip_pixels=1_000_000))


def test_frames_with_more_pixels_than_allowed(refusal, tmp_path):
    small = clip_file(tmp_path / "small", size=(64, 64), container="webm", sound=False)
    assert "64 x 64" in refusal(small, limits=Limits(clip_pixels=1_000))


@pytest.mark.parametrize("live", [False, True])
def test_a_clip_that_is_too_long_is_told_the_limit(refusal, tmp_path, live):
    container = "webm" if live else "mp4"
    path = clip_file(tmp_path / "c", seconds=32, fps=2, size=(64, 64), container=container, sound=False, live=live)
    assert "at most 30 seconds" in refusal(path)


@pytest.mark.parametrize("kind", ["wav", "webm"])
def test_a_sound_that_is_too_long_is_told_the_limit(refusal, tmp_path, kind):
    options = {"live": "1"} if kind == "webm" else {}
    path = sound_file(tmp_path / "s", tone(61, rate=8_000), kind, 8_000, **options)
    assert "at most 60 seconds" in refusal(path)


def test_a_clip_of_too_many_frames(refusal, tmp_path):
    path = clip_file(tmp_path / "c", seconds=1, fps=60, size=(64, 64), sound=False)
    assert "at most 50" in refusal(path, limits=Limits(clip_frames=50))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.0, 0.9])
def test_a_truncated_picture(refusal, tmp_path, kind, part):
    whole = picture_file(tmp_path / "p", photo(), kind).read_bytes()
    assert refusal(whole[: max(20, round(part * len(whole)))])


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a"])
def test_a_truncated_sound(refusal, tmp_path, kind):
    whole = sound_file(tmp_path / "s", tone(2), kind).read_bytes()
    assert "damaged or cut off" in refusal(whole[: len(whole) // 2])


@pytest.mark.parametrize("container", ["mp4", "webm"])
@pytest.mark.parametrize("part", [0.01, 0.5])
def test_a_truncated_clip(refusal, tmp_path, container, part):
    whole = clip_file(tmp_path / "c", seconds=2, container=container, sound=False).read_bytes()
    assert refusal(whole[: round(part * len(whole))])


def test_a_clip_whose_index_stands_in_front_of_half_its_pictures(refusal, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3)).astype(np.uint8)
    whole = media.write_video(frames, 10, np.zeros(0, np.float32), 16_000, tmp_path).path.read_bytes()
    assert "damaged or cut off" in refusal(whole[: len(whole) // 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_wav_of_no_numbers(refusal, value):
    samples = np.zeros(1000, np.float32)
    samples[500] = value
    assert "no sound" in refusal(wav_header(16_000, bits=32, tag=3, data=samples.tobytes()))


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (1, 1), (4_000_000_000, 1), (48_000, 0), (48_000, 60_000)])
def test_a_wav_of_absurd_rate_or_channels(refusal, rate, channels):
    assert refusal(wav_header(rate, channels))


def test_a_wav_without_samples(refusal):
    assert refusal(wav_header(16_000, data=b""))


def test_two_kinds_of_file_in_one(refusal, tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.html", "hello")
    picture = picture_file(tmp_path / "p", photo()).read_bytes()
    assert "two kinds" in refusal(picture + archive.getvalue())
    assert "two kinds" in refusal(picture + b"<html><script>alert(1)</script>")
    assert "two kinds" in refusal(jpeg_bytes(photo(), comment=b"<svg xmlns='http://www.w3.org/2000/svg'>"))
    assert "two kinds" in refusal(wav_header(16_000) + b"\n#EXTM3U\n/etc/passwd\n")


def test_what_stands_behind_a_picture_does_not_come_along(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(jpeg_bytes(photo(), comment=b"where I live") + b"a secret")
    data = media.take(path, tmp_path / "conversation").path.read_bytes()
    assert b"secret" not in data and b"where I live" not in data


@pytest.mark.parametrize("text", ["", "  \n", "\u200b\u202e\x00", "\u200d"])
def test_words_of_which_nothing_is_left(text):
    with pytest.raises(Refused, match="nothing to send"):
        media.take_text(text)


@pytest.mark.parametrize("count", [8_001, 1_000_000])
def test_too_many_words_are_told_the_limit(count):
    with pytest.raises(Refused, match="at most 8,000 characters"):
        media.take_text("x" * count)
