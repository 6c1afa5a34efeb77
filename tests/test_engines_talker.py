"""The streaming talker against transformers' ``generate(return_audio=True)``, in float32 on random weights.

Run alone: ``pytest tests/test_engines_talker.py``
"""

from __future__ import annotations

import copy

import pytest
import torch
from omni_tiny import CODES, GROUPS, asked
from transformers import Qwen3OmniMoeForConditionalGeneration

from omni.engines.qwen3_omni_reading import Reader
from omni.engines.sampling import Chooser, Sampling
from omni.engines.talker import FIRST_CHUNK, Speech, Talker
from omni.engines.thinker import Thinker
from omni.engines.vocoder import Snake, Vocoder

TOKENS, FRAMES = 8, 24
ROUNDING = 5e-6  # of waves up to 0.7 in float32, summed in another order


@pytest.fixture(scope="module")
def model(tiny_omni):
    return Qwen3OmniMoeForConditionalGeneration.from_pretrained(tiny_omni, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def reader(tiny_omni):
    return Reader(tiny_omni, media_tokens=1000, system="Be short.")


@pytest.fixture
def codes_of_generate(model, monkeypatch):
    """What transformers makes of a reading with the likeliest choices: text tokens, codes (frames, groups), wave."""
    seen = []
    decode = model.code2wav.chunked_decode
    monkeypatch.setattr(model.code2wav, "chunked_decode", lambda codes, **k: seen.append(codes) or decode(codes, **k))

    def generate(reading, voice="ethan"):
        ids, wave = model.generate(
            **reading.inputs,
            use_audio_in_video=reading.sound_in_clips,
            speaker=voice,
            thinker_max_new_tokens=TOKENS,
            thinker_do_sample=False,
            thinker_eos_token_id=model.config.im_end_token_id,
            talker_max_new_tokens=FRAMES + 1,
            talker_do_sample=False,
        )
        return ids[0, reading.length :].tolist(), seen[-1][0].T, wave[0, 0]

    return generate


def stream(model, reading, voice="ethan", seed=0, greedy=True, frames=FRAMES):
    """Text and speech side by side. Returns tokens, codes, chunks, and how many frames stood after each token."""
    thinker = Thinker(model, Chooser(Sampling(0.0), 0, model.device))
    prompt = thinker.read(reading.inputs, reading.sound_in_clips, for_talker=True)
    talker = Talker(model, prompt, voice, seed, greedy, frames)
    speech, codes = Speech(talker), []
    step = talker.step
    talker.step = lambda: codes.append(step()) or codes[-1]
    tokens, chunks, after = [], [], []
    while True:
        tokens.append(thinker.choose())
        if tokens[-1] == model.config.im_end_token_id or len(tokens) == TOKENS:
            break
        talker.hear(tokens[-1])
        if talker.ready:
            chunks += speech.step()
        after.append((talker.frames, len(chunks)))
        thinker.step(tokens[-1])
    talker.end()
    while not talker.finished:
        chunks += speech.step()
    return tokens, torch.stack([frame for frame in codes if frame is not None]), chunks, after


QUESTIONS = {
    "words": [("What do you see?",)],
    "picture": [("What do you see?", "picture")],
    "sound": [("What do you hear?", "sound")],
    "silent clip": [("What happens?", "silent_clip")],
    "several turns": [("A", "picture"), ("B",), ("And now?", "picture"), ("I see.",), ("What else?",)],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_text_codes_and_wave_are_those_of_generate(question, model, reader, codes_of_generate, omni_samples):
    reading = reader.read(asked(omni_samples, *QUESTIONS[question]))
    wanted_tokens, wanted_codes, wanted_wave = codes_of_generate(reading)
    tokens, codes, chunks, _ = stream(model, reading)
    assert tokens == wanted_tokens
    assert torch.equal(codes, wanted_codes)
    torch.testing.assert_close(torch.cat(chunks), wanted_wave, rtol=0, atol=ROUNDING)


def test_sound_beside_a_picture_is_spoken_about_too(model, reader, codes_of_generate, omni_samples, monkeypatch):
    """transformers 5.23 fails here: its talker looks for the ear's configuration in its own, which has none."""
    reading = reader.read(asked(omni_samples, ("What?", "picture", "sound")))
    with pytest.raises(AttributeError, match="audio_config"):
        codes_of_generate(reading)
    monkeypatch.setattr(model.talker.config, "audio_config", model.config.thinker_config.audio_config, raising=False)
    _, wanted_codes, _ = codes_of_generate(reading)
    assert torch.equal(stream(model, reading)[1], wanted_codes)


def test_a_frame_follows_each_token_of_text(model, reader, omni_samples):
    _, _, chunks, after = stream(model, reader.read(asked(omni_samples, *QUESTIONS["words"])))
    assert [frames for frames, _ in after] == list(range(1, TOKENS))
    assert after[FIRST_CHUNK - 1][1] == 1  # sound before the 12th token: with the 4th
    assert len(chunks) > 2


def test_speech_waits_for_text_and_for_nothing_else(model, reader, omni_samples):
    thinker = Thinker(model, Chooser(Sampling(0.0), 0, model.device))
    talker = Talker(model, thinker.read(reader.read(asked(omni_samples, ("Hello",))).inputs), "ethan", greedy=True)
    assert not talker.ready
    talker.hear(5)
    assert talker.ready
    talker.step()
    assert not talker.ready
    talker.end()
    assert talker.ready


def test_a_reply_without_words_is_silent(model, reader, omni_samples):
    thinker = Thinker(model, Chooser(Sampling(0.0), 0, model.device))
    talker = Talker(model, thinker.read(reader.read(asked(omni_samples, ("Hello",))).inputs), "ethan")
    talker.end()
    assert talker.finished
    assert talker.frames == 0


def test_the_same_seed_gives_the_same_speech(model, reader, omni_samples):
    reading = reader.read(asked(omni_samples, *QUESTIONS["words"]))
    first, second, other = (stream(model, reading, seed=seed, greedy=False)[1] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_reset_begins_the_same_speech_again(model, reader, omni_samples):
    thinker = Thinker(model, Chooser(Sampling(0.0), 0, model.device))
    reading = reader.read(asked(omni_samples, *QUESTIONS["words"]))
    talker = Talker(model, thinker.read(reading.inputs), "ethan", seed=1)
    takes = []
    for _ in range(2):
        talker.reset()
        for token in (5, 6, 7):
            talker.hear(token)
        takes.append(torch.stack([talker.step() for _ in range(3)]))
    assert torch.equal(*takes)


def test_codes_are_sound_and_never_marks(model, reader, omni_samples):
    codes = stream(model, reader.read(asked(omni_samples, ("Hello",))), greedy=False, frames=40)[1]
    assert 0 <= codes.min() <= codes.max() < CODES


def test_voices_differ(model, reader, omni_samples, codes_of_generate):
    reading = reader.read(asked(omni_samples, *QUESTIONS["words"]))
    ethan, aiden = (stream(model, reading, voice)[1] for voice in ("ethan", "aiden"))
    assert not torch.equal(ethan, aiden)
    assert torch.equal(aiden, codes_of_generate(reading, "aiden")[1])


@pytest.fixture(scope="module")
def code2wav(model):
    """In float64, so that rounding does not hide a seam."""
    return copy.deepcopy(model.code2wav).double()


@pytest.fixture(scope="module")
def codes():
    """Five times as many frames as a layer of the transformer looks back on."""
    return torch.randint(0, CODES, (40, GROUPS), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole(code2wav, codes):
    with torch.inference_mode():
        return code2wav(codes.T[None])[0, 0].float()


@pytest.mark.parametrize("cuts", [[40], [1] * 40, [4, 6, 9, 13, 8]], ids=["at once", "one by one", "growing"])
def test_joined_chunks_are_the_whole_decode(cuts, code2wav, codes, whole):
    vocoder = Vocoder(code2wav)
    joined = torch.cat([vocoder.push(one) for one in codes.split(cuts)])
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-7)  # of a wave up to 0.7, told in float32


def test_every_layer_that_looks_back_remembers_what_it_must(code2wav, codes, whole):
    """A convolution that has forgotten its last steps leaves a seam, each of them."""
    vocoder = Vocoder(code2wav)
    vocoder.push(codes[:9])
    for layer in list(vocoder.before):
        vocoder.reset()
        first = vocoder.push(codes[:9])
        vocoder.before[layer] = torch.zeros_like(vocoder.before[layer])
        joined = torch.cat([first, vocoder.push(codes[9:18])])
        assert (joined - whole[: len(joined)]).abs().max() > 1e-7, layer


@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_the_snake_is_the_modules_own(code2wav, spread):
    """In bf16, against the module in float64; its own way rounds five times."""
    module = copy.deepcopy(code2wav.decoder[1].block[0])
    generator = torch.Generator().manual_seed(1)
    for parameter in (module.alpha, module.beta):
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).bfloat16().double()
    x = (spread * torch.randn(1, len(module.alpha), 333, generator=generator)).bfloat16()
    with torch.inference_mode():
        true, made = module(x.double()), Snake(copy.deepcopy(module).bfloat16())(x)
    torch.testing.assert_close(made.double(), true, rtol=2**-7, atol=1e-5)


def test_a_vocoder_begins_again_after_reset(code2wav, codes):
    vocoder = Vocoder(code2wav)
    first = vocoder.push(codes[:5])
    vocoder.reset()
    assert torch.equal(vocoder.push(codes[:5]), first)
