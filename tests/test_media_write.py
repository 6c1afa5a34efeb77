"""What an engine makes becomes files that players play and that read back as they were."""

from __future__ import annotations

import av
import numpy as np
import pytest
from media_files import peak_hertz, photo, tone

from omni import media
from omni.conversation import Video


def clip(count: int = 8, side: int = 64) -> np.ndarray:
    """(T, side, side, 3) uint8, each frame of another colour, with a square that wanders."""
    frames = np.zeros((count, side, side, 3), np.uint8)
    for index in range(count):
        frames[index] = (30 * index % 256, 120, 255 - 30 * index % 256)
        frames[index, 8:24, 4 * index : 4 * index + 16] = 255
    return frames


def boxes(data: bytes) -> list[bytes]:
    """The names of an MP4's outermost boxes, in order."""
    names, at = [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def test_a_picture_reads_back_bit_by_bit(tmp_path):
    part = media.write_image(photo(65, 33), tmp_path, "a field")
    assert (part.width, part.height, part.caption) == (65, 33, "a field")
    assert (media.read_image(part) == photo(65, 33)).all()


def test_a_sound_reads_back_within_its_last_bit(tmp_path):
    part = media.write_audio(tone(1.0, rate=24_000), 24_000, tmp_path, "hello")
    assert (part.seconds, part.rate, part.transcript) == (1.0, 24_000, "hello")
    assert np.abs(media.read_audio(part, 24_000) - tone(1.0, rate=24_000)).max() <= 2**-15


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_a_sound_is_resampled_in_pitch_and_length(tmp_path, rate):
    samples = media.read_audio(media.write_audio(tone(1.0), 16_000, tmp_path), rate)
    assert len(samples) == rate and samples.dtype == np.float32
    assert abs(peak_hertz(samples, rate) - 440) < 2


def test_loud_samples_are_clipped_and_not_wrapped(tmp_path):
    part = media.write_audio(np.full(100, 3.0, np.float32), 16_000, tmp_path)
    assert media.read_audio(part, 16_000).min() > 0.99


@pytest.mark.parametrize("side", [64, 128])
def test_a_clip_reads_back_nearly_as_it_was(tmp_path, side):
    part = media.write_video(clip(side=side), 8, tone(1.0), 16_000, tmp_path, "a walk")
    frames, samples = media.read_video(part, 8, side, 16_000)
    assert frames.shape == (8, side, side, 3) and samples.shape == (16_000,)
    assert np.abs(frames.astype(int) - clip(side=side)).mean() < 3  # of 255: 4:2:0 and H.264
    assert abs(peak_hertz(samples, 16_000) - 440) < 2


def test_a_small_clip_is_shown_large_and_plays_everywhere(tmp_path):
    part = media.write_video(clip(side=65), 8, tone(1.0), 16_000, tmp_path)
    with av.open(str(part.path), format="mov") as file:
        pictures, sound = file.streams.video[0].codec_context, file.streams.audio[0].codec_context
        assert (pictures.name, pictures.pix_fmt, sound.name) == ("h264", "yuv420p", "aac")
        assert (pictures.width, pictures.height) == (part.width, part.height)
    assert min(part.width, part.height) >= 256 and part.width % 2 == part.height % 2 == 0
    assert boxes(part.path.read_bytes()).index(b"moov") < boxes(part.path.read_bytes()).index(b"mdat")


@pytest.mark.parametrize(("fps", "rate"), [(8, 24_000), (7.5, 16_000), (12, 44_100), (29.97, 17_000)])
def test_frames_and_samples_drift_less_than_a_frame(tmp_path, fps, rate):
    frames = np.zeros((40, 64, 64, 3), np.uint8)
    frames[30:] = 255  # white from here on,
    samples = np.zeros(round(40 / fps * rate), np.float32)
    samples[round(30 / fps * rate) :] = tone(10, rate=rate)[: len(samples) - round(30 / fps * rate)]  # and loud
    part = media.write_video(frames, fps, samples, rate, tmp_path)
    with av.open(str(part.path), format="mov") as file:
        seen = next(f.time for f in file.decode(video=0) if f.to_ndarray(format="rgb24").mean() > 128)
    with av.open(str(part.path), format="mov") as file:
        heard = next(f.time for f in file.decode(audio=0) if np.abs(f.to_ndarray()).max() > 0.1)
    assert abs(seen - heard) < 1 / fps
    assert abs(part.seconds - 40 / fps) < 1 / fps


def test_sound_that_outlasts_the_frames_is_not_cut(tmp_path):
    part = media.write_video(clip(4), 8, tone(1.5), 16_000, tmp_path)
    frames, samples = media.read_video(part, 8, 64, 16_000)
    assert part.seconds == 1.5 and len(frames) == 12 and len(samples) == 24_000
    assert np.abs(samples[-4_000:]).max() > 0.3


def test_a_silent_clip_has_no_sound(tmp_path):
    part = media.write_video(clip(), 8, np.zeros(0, np.float32), 16_000, tmp_path)
    assert isinstance(part, Video) and not part.has_sound
    assert len(media.read_video(part, 8, 64, 16_000)[1]) == 0


def test_a_clip_of_one_frame_stands(tmp_path):
    part = media.write_video(clip(1), 8, np.zeros(0, np.float32), 16_000, tmp_path)
    assert media.read_video(part, 8, 64, 16_000)[0].shape == (1, 64, 64, 3)


def test_reading_at_another_rate_keeps_the_clock(tmp_path):
    part = media.write_video(clip(8), 8, tone(1.0), 16_000, tmp_path)
    slow, _ = media.read_video(part, 4, 64, 16_000)
    fast, _ = media.read_video(part, 16, 64, 16_000)
    assert np.abs(slow.astype(int) - clip(8)[::2]).mean() < 3
    assert np.abs(fast.astype(int) - clip(8).repeat(2, axis=0)).mean() < 3


def test_a_wide_clip_is_cropped_to_its_middle(tmp_path):
    frames = np.zeros((4, 128, 256, 3), np.uint8)
    frames[:, :, 64:192] = 200
    part = media.write_video(frames, 8, np.zeros(0, np.float32), 16_000, tmp_path)
    read, _ = media.read_video(part, 8, 32, 16_000)
    assert read[:, :, 1:-1].min() > 180


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_pixels_of_another_shape_or_kind_are_an_error_of_the_caller(tmp_path, pixels):
    with pytest.raises(ValueError, match="pixels"):
        media.write_image(pixels, tmp_path)
    with pytest.raises(ValueError, match="frames"):
        media.write_video(pixels[None], 8, np.zeros(0, np.float32), 16_000, tmp_path)


@pytest.mark.parametrize("samples", [np.zeros((4, 2)), np.array([np.nan]), np.zeros(0)])
def test_samples_that_are_no_sound_are_an_error_of_the_caller(tmp_path, samples):
    with pytest.raises(ValueError, match="samples"):
        media.write_audio(samples, 16_000, tmp_path)
