"""The audio tokenizer with tiny random weights: codes, streams, files; and the tones it is trained on."""

import logging

import numpy as np
import pytest
import torch

from omni.primer.tokenizers.audio import (
    CODES,
    HOP,
    RATE,
    AudioConfig,
    AudioTokenizer,
    Controls,
    SourceState,
    track_pitch,
)
from omni.primer.training import sounds


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Many small operations: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> AudioTokenizer:
    torch.manual_seed(5)
    return AudioTokenizer(AudioConfig(24, 2, 24, 3, 2)).eval()


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return torch.randint(0, CODES, (83,), generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("count", [1, 319, 320, 321, 5000])
def test_a_code_every_320_samples_the_last_one_padded(tokenizer, count):
    samples = torch.randn(count, generator=torch.Generator().manual_seed(count)) * 0.1
    made = tokenizer.encode(samples)
    assert made.dtype == torch.long and made.shape == (-(-count // HOP),)
    assert made.min() >= 0 and made.max() < CODES
    assert tokenizer.decode(made).shape == (HOP * len(made),)


def test_no_samples_are_no_codes_and_no_codes_are_silence_of_no_length(tokenizer):
    assert tokenizer.encode(torch.zeros(0)).shape == (0,)
    assert tokenizer.decode(torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_a_batch_is_encoded_as_its_rows_are(tokenizer):
    samples = torch.randn(3, 4000, generator=torch.Generator().manual_seed(1)) * 0.1
    rows = torch.stack([tokenizer.encode(row) for row in samples])
    assert torch.equal(tokenizer.encode(samples), rows)


def test_every_code_survives_its_latents(tokenizer):
    every = torch.arange(CODES)
    assert torch.equal(tokenizer.to_codes(tokenizer.from_codes(every)), every)


def test_a_code_outside_of_the_codebook_is_refused(tokenizer):
    with pytest.raises(ValueError, match="between 0 and 999"):
        tokenizer.decode(torch.tensor([3, CODES]))


@pytest.mark.parametrize("chunk", [1, 2, 5, 40])
def test_a_stream_joins_to_the_whole_without_a_seam(tokenizer, codes, chunk):
    """83 codes are longer than the network's reach, so the stream forgets old codes on the way."""
    stream = tokenizer.stream()
    parts = [stream.push(codes[at : at + chunk]) for at in range(0, len(codes), chunk)] + [stream.finish()]
    assert torch.allclose(torch.cat(parts), tokenizer.decode(codes), atol=1e-4)


def test_a_stream_is_at_most_four_codes_late(tokenizer, codes):
    stream, heard = tokenizer.stream(), 0
    for at in range(len(codes)):
        heard += len(stream.push(codes[at : at + 1]))
        assert heard >= HOP * (at + 1 - 4)


def test_a_finished_stream_takes_no_more(tokenizer, codes):
    stream = tokenizer.stream()
    stream.push(codes)
    stream.finish()
    with pytest.raises(RuntimeError, match="finished"):
        stream.push(codes)


def test_codes_do_not_wait_for_more_than_40_ms(tokenizer):
    """The encoder may be run on sound that still comes: what lies 640 samples ahead changes nothing."""
    samples = torch.randn(8000, generator=torch.Generator().manual_seed(2)) * 0.1
    changed = samples.clone()
    changed[4000 + 640 :] = 0.3
    done = 4000 // HOP
    assert torch.equal(tokenizer.encode(samples)[:done], tokenizer.encode(changed)[:done])


def test_saved_weights_load_to_the_same_sound(tokenizer, codes, tmp_path):
    tokenizer.save(tmp_path / "audio.safetensors")
    once = AudioTokenizer.load(tmp_path / "audio.safetensors")
    once.save(tmp_path / "again.safetensors")  # fp16 once rounded stays as it is
    again = AudioTokenizer.load(tmp_path / "again.safetensors")
    assert once.config == tokenizer.config
    assert torch.equal(once.decode(codes[:20]), again.decode(codes[:20]))


def test_the_source_sings_in_tune_and_rumbles_not(tokenizer):
    """Guards the bins outside of all bands: their gain was once exp(0), a rumble louder than the voice."""
    rows = torch.ones(1, 100)
    controls = Controls(120 * rows, rows, torch.full((1, 100, 64), -3.0), torch.full((1, 100, 64), -12.0))
    out = tokenizer.render(controls, SourceState())[:, 640:]
    pitch, _ = track_pitch(out)
    assert torch.all((1200 * torch.log2(pitch[0, 8:80] / 120)).abs() < 5)
    power = torch.fft.rfft(out[0, :8000]).abs().square()
    assert power[:40].sum() < 0.01 * power.sum()  # below 80 Hz


@pytest.mark.parametrize("timbre", sounds.TIMBRES)
@pytest.mark.parametrize("note", ["c", "a", "high c"])
def test_a_tone_has_its_note_pitch(note, timbre):
    samples = sounds.tone(note, timbre, 1.0)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * RATE))
    assert abs(1200 * np.log2(spectrum.argmax() / 8 / sounds.NOTES[note])) < 5
    assert samples.dtype == np.float32 and np.abs(samples).max() <= 1


def test_the_tracker_hears_every_note_within_five_cents():
    tones = [sounds.tone(note, timbre, 0.5) for note in sounds.NOTES for timbre in sounds.TIMBRES]
    wanted = torch.tensor([hertz for hertz in sounds.NOTES.values() for _ in sounds.TIMBRES])
    pitch, periodic = track_pitch(torch.from_numpy(np.stack(tones)))
    assert torch.all((1200 * torch.log2(pitch.median(1).values / wanted)).abs() < 5)
    assert periodic[:, 10:20].min() > 0.9


@pytest.mark.parametrize("motion", sounds.MOTIONS)
def test_each_motion_has_a_sound_that_can_be_made_again(motion):
    made = sounds.motion_sound(motion, 1.5, events=(0.3, 0.9))
    assert made.shape == (24000,) and made.dtype == np.float32 and 0.05 < np.abs(made).max() <= 1
    assert np.array_equal(made, sounds.motion_sound(motion, 1.5, events=(0.3, 0.9)))


def test_a_bounce_is_heard_when_it_happens():
    made = np.abs(sounds.motion_sound("bounce", 2.0, events=(0.5, 1.25)))
    loud = np.flatnonzero(made > 0.05) / RATE
    assert abs(loud[0] - 0.5) < 0.01 and abs(loud[loud > 1][0] - 1.25) < 0.01


def test_up_rises_and_down_falls():
    for motion, sign in (("up", 1), ("down", -1)):
        pitch, _ = track_pitch(torch.from_numpy(sounds.motion_sound(motion, 1.0))[None])
        assert sign * (pitch[0, 90] - pitch[0, 10]) > 100


def test_the_fit_runs_and_leaves_weights(tmp_path, monkeypatch, caplog):
    from omni.primer.training import fit_audio, voices

    if not voices.available():
        pytest.skip("libespeak-ng is not there")
    monkeypatch.setattr(fit_audio, "SMOKE", True)
    monkeypatch.setattr(fit_audio, "BANK", 6)
    monkeypatch.setattr(fit_audio, "BATCH", 2)
    with caplog.at_level(logging.INFO):
        fit_audio.fit(tmp_path / "audio.safetensors", fit_audio.start(None, minutes=0.02))
    assert AudioTokenizer.load(tmp_path / "audio.safetensors").encode(torch.zeros(1000)).shape == (4,)
    assert "voicing_f1" in caplog.text
