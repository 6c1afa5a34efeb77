"""What people bring is taken: each kind, under any name, in the size that is kept."""

from __future__ import annotations

import av
import numpy as np
import pytest
from media_files import clip_file, fill, peak_hertz, photo, picture_file, sound_file, sound_track, tone
from PIL import Image as Pillow

from omni import media
from omni.conversation import Audio, Image, Text, Video


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "conversation"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_becomes_a_png_in_the_folder(tmp_path, folder, kind):
    part = media.take(picture_file(tmp_path / "p", photo(), kind), folder)
    assert isinstance(part, Image) and part.path.parent == folder and part.path.suffix == ".png"
    pixels = media.read_image(part)
    assert pixels.shape == (part.height, part.width, 3) == (300, 400, 3)
    assert np.abs(pixels.astype(int) - photo()).mean() < 4  # JPEG and WebP lose a little


def test_a_picture_on_its_side_is_turned_upright_and_told_so_no_longer(tmp_path, folder):
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"  # turned by 90 degrees; a maker
    part = media.take(picture_file(tmp_path / "p", photo(), "JPEG", exif=exif), folder)
    assert (part.width, part.height) == (300, 400)
    assert media.read_image(part)[20, -20] @ (1, -1, -1) > 200  # the red corner went from left to right
    with Pillow.open(part.path) as file:
        assert not file.getexif() and not file.info


def test_what_is_transparent_becomes_white(tmp_path, folder):
    pixels = np.dstack([photo(), np.full((300, 400), 255, np.uint8)])
    pixels[100:, :, 3] = 0
    part = media.take(picture_file(tmp_path / "p", pixels), folder)
    assert (media.read_image(part)[120:] == 255).all()


def test_a_large_picture_is_shrunk_to_the_longest_side(tmp_path, folder):
    part = media.take(picture_file(tmp_path / "p", photo(3000, 2000), "JPEG"), folder)
    assert (part.width, part.height) == (1024, 683)


def test_sixteen_bit_grey_keeps_its_levels(tmp_path, folder):
    grey = np.linspace(0, 65_535, 64 * 64).astype(np.uint16).reshape(64, 64)
    part = media.take(picture_file(tmp_path / "p", grey), folder)
    assert np.abs(media.read_image(part)[..., 0].astype(int) - (grey >> 8)).max() <= 1


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a", "webm"])
def test_a_sound_becomes_a_mono_wav_with_its_tone(tmp_path, folder, kind):
    part = media.take(sound_file(tmp_path / "s", tone(1.0), kind), folder)
    assert isinstance(part, Audio) and part.path.suffix == ".wav"
    samples = media.read_audio(part, 24_000)
    assert abs(part.seconds - 1.0) < 0.1 and abs(len(samples) - part.seconds * 24_000) <= 1
    assert abs(peak_hertz(samples, 24_000) - 440) < 5


def test_a_sound_keeps_its_own_rate_up_to_the_highest(tmp_path, folder):
    low = media.take(sound_file(tmp_path / "low", tone(0.5, rate=8_000), "wav", 8_000), folder)
    high = media.take(sound_file(tmp_path / "high", tone(0.5, rate=96_000), "wav", 96_000), folder)
    assert (low.rate, high.rate) == (8_000, 48_000)


def test_stereo_is_mixed_to_mono(tmp_path, folder):
    stereo = np.stack([tone(0.5, 440), tone(0.5, 440)], axis=1)
    part = media.take(sound_file(tmp_path / "s", stereo, "wav"), folder)
    assert np.abs(media.read_audio(part, 16_000)).max() == pytest.approx(0.5, abs=0.02)


def test_a_browser_recording_named_wav_is_heard(tmp_path, folder):
    part = media.take(sound_file(tmp_path / "audio.wav", tone(1.0), "webm", live="1"), folder)
    assert isinstance(part, Audio)
    assert abs(peak_hertz(media.read_audio(part, 16_000), 16_000) - 440) < 5


@pytest.mark.parametrize("container", ["mp4", "mov", "webm"])
@pytest.mark.parametrize("sound", [True, False])
def test_a_clip_becomes_an_mp4_with_or_without_sound(tmp_path, folder, container, sound):
    part = media.take(clip_file(tmp_path / "c", container=container, sound=sound), folder)
    assert isinstance(part, Video) and part.path.suffix == ".mp4" and part.has_sound is sound
    assert abs(part.seconds - 1.0) < 0.2 and (part.width, part.height) == (160, 120)
    frames, samples = media.read_video(part, 4, 32, 16_000)
    assert frames.shape[1:] == (32, 32, 3) and abs(len(frames) - 4) <= 1
    assert bool(len(samples)) is sound
    assert frames[0, 16, 16, 2] > 150 and frames[-1, 16, 16, 0] > 120  # from blue to red
    if sound:
        assert abs(peak_hertz(samples, 16_000) - 440) < 5


def test_a_webcam_recording_without_length_is_taken(tmp_path, folder):
    path = clip_file(tmp_path / "sample.webm", seconds=2.0, container="webm", live=True)
    with av.open(str(path), format="matroska") as file:
        assert file.duration is None  # it is what a browser records
    assert abs(media.take(path, folder).seconds - 2.0) < 0.2


def test_a_large_fast_clip_is_shrunk_and_slowed_to_what_is_kept(tmp_path, folder):
    part = media.take(clip_file(tmp_path / "c", seconds=0.5, fps=60, size=(1280, 720)), folder)
    assert (part.width, part.height, part.fps) == (640, 360, 15)
    assert abs(part.seconds - 0.5) < 0.1


def test_a_phone_clip_is_turned_upright(tmp_path, folder):
    path = clip_file(tmp_path / "c", sound=False)
    data = bytearray(path.read_bytes())
    one, zero = (1 << 16).to_bytes(4, "big"), bytes(4)
    minus = (-(1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    track = data.index(b"tkhd") + 44  # its display matrix: turned by 90 degrees
    data[track : track + 36] = (
        zero + one + zero + minus + zero + zero + (120 << 16).to_bytes(4, "big") + zero + b"\x40\0\0\0"
    )
    path.write_bytes(data)
    part = media.take(path, folder)
    assert (part.width, part.height) == (120, 160)


def test_the_cover_of_a_song_does_not_make_it_a_clip(tmp_path, folder):
    path = tmp_path / "song"
    with av.open(str(path), "w", format="mp4") as file:
        cover = file.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        track = sound_track(file, "aac", 16_000)
        file.mux(cover.encode(av.VideoFrame.from_ndarray(photo(64, 64)).reformat(format="yuvj420p")))
        fill(file, track, tone(1.0), 16_000)
    assert isinstance(media.take(path, folder), Audio)


@pytest.mark.parametrize("name", ["photo.wav", "photo.mp4", "photo.html", "photo"])
def test_a_picture_is_a_picture_under_any_name_and_the_name_is_not_kept(tmp_path, folder, name):
    part = media.take(picture_file(tmp_path / name, photo(64, 64)), folder)
    assert isinstance(part, Image) and "photo" not in part.path.name


def test_the_same_file_taken_twice_has_two_names(tmp_path, folder):
    path = picture_file(tmp_path / "p", photo(64, 64))
    assert media.take(path, folder).path != media.take(path, folder).path
    assert len(list(folder.iterdir())) == 2


def test_words_are_stripped_of_what_cannot_be_seen():
    assert media.take_text("  a\x00b\u202ec\r\nd\t\x1b[0m\ud800 ") == Text("abc\nd\t[0m")


def test_words_of_all_scripts_stay():
    said = "می‌خواهم 日本語 Grüße 👩‍🚀 שלום"
    assert media.take_text(said) == Text(said)


def test_a_prompt_may_be_exactly_as_long_as_allowed():
    assert len(media.take_text("x" * 8_000).text) == 8_000
