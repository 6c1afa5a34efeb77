"""The watermark: unseen and unheard, found after what is done to files, never found where it is not.

What Primer makes is measured by omni.bench.watermark; here are pictures and sounds of the test's own making.
"""

from __future__ import annotations

import io
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import fill, hum, photo, sound_track, tone
from PIL import Image

from omni import media
from omni.media.audio import resample
from omni.provenance.marks import SpreadSpectrum, watermark_of
from omni.provenance.picture_mark import PictureMark
from omni.provenance.sound_mark import SoundMark
from omni.provenance.watermark import FIRST_WEEK, PAYLOADS, Found, bound, chips, payload_of

KEY = b"a key of the tests"
PICTURES, SOUNDS = PictureMark(KEY), SoundMark(KEY)
RATE = 16_000
WEEK = 46


def scene(seed: int, size: int = 256) -> np.ndarray:
    """(size, size, 3) uint8: soft blots on a ground, as Primer draws."""
    rng = np.random.default_rng(seed)
    small = np.full((8, 8, 3), rng.integers(0, 256, 3), np.uint8)
    small[2:6, 2:6] = rng.integers(0, 256, (4, 4, 3))
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(pixels: np.ndarray, times: float) -> np.ndarray:
    size = (round(pixels.shape[1] * times), round(pixels.shape[0] * times))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def coded(samples: np.ndarray, kind: str, codec: str, rate: int) -> np.ndarray:
    """Through a codec and back."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as out:
        fill(out, sound_track(out, codec, rate), samples, rate)
    file.seek(0)
    with av.open(file) as back:
        resampler = av.AudioResampler("flt", "mono", rate)
        frames = [piece for frame in back.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


CHANGES = {
    "nothing": lambda pixels: pixels,
    "JPEG 75": lambda pixels: jpeg(pixels, 75),
    "half its size": lambda pixels: resized(pixels, 0.5),
    "twice its size": lambda pixels: resized(pixels, 2.0),
    "a tenth cut off": lambda pixels: pixels[13:-13, 13:-13],
    "one side cut off": lambda pixels: pixels[:, 26:],
    "darker": lambda pixels: (pixels * 0.9).astype(np.uint8),
    "a screenshot": lambda pixels: jpeg(np.pad(resized(pixels, 1.25), ((50, 40), (70, 30), (0, 0))), 85),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_is_known_again(change: str):
    found = PICTURES.find(CHANGES[change](PICTURES.mark(scene(1), WEEK)))
    assert found.sure and found.payload == WEEK


@pytest.mark.parametrize("shape", [(128, 128), (256, 400), (300, 1000), (1024, 768)])
def test_pictures_of_many_sizes_are_known_again(shape: tuple[int, int]):
    found = PICTURES.find(jpeg(PICTURES.mark(photo(*shape[::-1]), WEEK), 75))
    assert found.sure and found.payload == WEEK


def test_the_grain_of_a_picture_is_faint():
    for seed in range(5):
        marked = PICTURES.mark(scene(seed), seed)
        error = np.mean((marked.astype(float) - scene(seed)) ** 2)
        assert marked.dtype == np.uint8 and 10 * np.log10(255**2 / error) >= 38


def test_a_picture_too_small_or_too_thin_has_no_mark_and_no_error():
    for shape in [(8, 8), (1, 1), (20, 400)]:
        pixels = np.zeros((*shape, 3), np.uint8)
        assert PICTURES.mark(pixels, 1).shape == pixels.shape and not PICTURES.find(pixels).sure


@pytest.mark.parametrize("payload", [0, 1, 31, 32, 1023])
def test_every_week_can_be_told(payload: int):
    assert PICTURES.find(PICTURES.mark(scene(2), payload)).payload == payload
    assert SOUNDS.find(SOUNDS.mark(hum(2), RATE, payload), RATE).payload == payload


HARM = {
    "nothing": lambda samples: samples,
    "MP3": lambda samples: coded(samples, "mp3", "libmp3lame", RATE),
    "Opus": lambda samples: coded(samples, "ogg", "libopus", RATE),
    "8 kHz": lambda samples: resample(resample(samples, RATE, 8_000), 8_000, RATE),
    "half as loud": lambda samples: samples / 2,
    "a second from its middle": lambda samples: samples[9_137:25_137],
}


@pytest.mark.parametrize("harm", HARM)
def test_a_voice_is_known_again(harm: str):
    found = SOUNDS.find(HARM[harm](SOUNDS.mark(hum(3), RATE, WEEK)), RATE)
    assert found.sure and found.payload == WEEK


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_voices_of_many_rates_are_known_again(rate: int):
    samples = hum(4, rate=rate)
    marked = SOUNDS.mark(samples, rate, WEEK)
    assert SOUNDS.find(marked, rate) == Found(SOUNDS.find(marked, rate).p, WEEK) and SOUNDS.find(marked, rate).sure


def test_the_noise_in_a_voice_is_faint_from_the_first_second_on():
    for seed in range(5):
        samples = hum(seed)
        error = SOUNDS.mark(samples, RATE, WEEK) - samples
        for end in (RATE, len(samples)):
            assert 10 * np.log10(np.sum(samples[:end] ** 2) / np.sum(error[:end] ** 2)) >= 30


def test_a_voice_is_marked_the_same_in_whatever_pieces_it_comes():
    samples, rng = hum(5), np.random.default_rng(5)
    stream, pieces, start = SOUNDS.stream(RATE, WEEK), [], 0
    while start < len(samples):
        size = int(rng.integers(0, 900))
        pieces.append(stream.push(samples[start : start + size]))
        assert len(pieces[-1]) == len(samples[start : start + size])  # nothing is held back
        start += size
    assert (np.concatenate(pieces) == SOUNDS.mark(samples, RATE, WEEK)).all()


def test_what_comes_later_does_not_change_what_was_said():
    one, other = hum(6), np.concatenate([hum(6)[:8_000], hum(7)])
    assert (SOUNDS.mark(one, RATE, WEEK)[:8_000] == SOUNDS.mark(other, RATE, WEEK)[:8_000]).all()


def test_silence_stays_silent_and_loud_samples_stay_in_range():
    assert not SOUNDS.mark(np.zeros(RATE, np.float32), RATE, WEEK).any()
    assert np.abs(SOUNDS.mark(np.clip(9 * tone(), -1, 1), RATE, WEEK)).max() <= 1
    assert not SOUNDS.find(np.zeros(RATE, np.float32), RATE).sure
    assert not SOUNDS.find(np.zeros(0, np.float32), RATE).sure


def test_a_clip_is_known_by_its_frames_and_by_its_sound(tmp_path: Path):
    frames = np.stack([np.roll(scene(8), 16 * index, axis=1) for index in range(8)])
    samples = hum(8)
    mark = SpreadSpectrum(KEY)
    both = media.write_video(mark.mark_frames(frames, WEEK), 4, SOUNDS.mark(samples, RATE, WEEK), RATE, tmp_path)
    seen = media.write_video(mark.mark_frames(frames, WEEK), 4, samples, RATE, tmp_path)
    heard = media.write_video(frames, 4, SOUNDS.mark(samples, RATE, WEEK), RATE, tmp_path)
    for part in (both, seen, heard):
        assert mark.find(part).sure and mark.find(part).payload == WEEK
    assert not mark.find(media.write_video(frames, 4, samples, RATE, tmp_path)).sure


def test_a_clip_is_known_after_a_hard_compression(tmp_path: Path):
    frames = np.stack([np.roll(scene(9), 16 * index, axis=0) for index in range(8)])
    mark, path = SpreadSpectrum(KEY), tmp_path / "hard.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(4), options={"crf": "28"})
        stream.width = stream.height = 256
        for frame in mark.mark_frames(frames, WEEK):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    found = mark.find(media.take(path, tmp_path))
    assert found.sure and found.payload == WEEK


def test_nothing_is_found_where_nothing_is():
    rng = np.random.default_rng(10)
    for seed in range(4):
        assert not PICTURES.find(scene(seed)).sure
        assert not PICTURES.find(rng.integers(0, 256, (200, 150, 3), np.uint8)).sure
        assert not SOUNDS.find(hum(seed), RATE).sure


def test_another_key_finds_nothing():
    picture, voice = PICTURES.mark(scene(1), WEEK), SOUNDS.mark(hum(1), RATE, WEEK)
    assert not PictureMark(b"another key").find(picture).sure and not SoundMark(b"another key").find(voice, RATE).sure


def test_a_bound_is_a_chance_and_is_met_by_fair_chips():
    assert bound(0.0, 10) == 1.0 and bound(-5.0, 10) == 1.0 and bound(40.0, 1e9) == 0.0
    rng = np.random.default_rng(11)
    seen = np.exp(3 * rng.standard_normal(64))  # as uneven as can be: few places hold nearly all
    scores = np.array([chips(rng.bytes(8), "test", 64) @ seen for _ in range(20_000)]) / np.linalg.norm(seen)
    for p in (0.1, 0.01, 0.001):
        assert np.mean(scores > np.sqrt(-2 * np.log(p))) <= p


def test_chips_are_fair_and_belong_to_key_and_purpose():
    one = chips(b"key", "a", 8_000)
    assert set(np.unique(one)) == {-1.0, 1.0} and abs(one.mean()) < 0.05
    for other in (chips(b"kez", "a", 8_000), chips(b"key", "b", 8_000), chips(b"ke", "ya", 8_000)):
        assert abs(np.mean(one * other)) < 0.05


def test_a_week_is_read_as_its_monday():
    assert Found(0.0, payload_of(date(2026, 11, 24))).week == date(2026, 11, 23)
    assert payload_of(FIRST_WEEK) == 0 and payload_of(FIRST_WEEK + timedelta(weeks=PAYLOADS)) == 0


def test_the_patterns_of_a_key_are_made_once():
    assert watermark_of(KEY) is watermark_of(KEY)
