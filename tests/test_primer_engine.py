"""Primer behind the protocol, at a tiny random size, with real files."""

from dataclasses import replace

import numpy as np
import pytest
from primer_tiny import tiny_model, tiny_tokenizers

from omni import media
from omni.conversation import Audio, Conversation, Message, Text
from omni.engine import Wish
from omni.engines.primer import MAX_CONTEXT, PrimerEngine, Tally, plan_of
from omni.errors import OmniError
from omni.events import ClipPreview, ClipReady, Finished, Heard, ImagePreview, ImageReady, SpeechChunk, TextDelta
from omni.primer import sampling, vocabulary


@pytest.fixture
def engine() -> PrimerEngine:
    return PrimerEngine(tiny_model(), tiny_tokenizers())


def _asked(folder, *parts) -> Conversation:
    return Conversation(
        folder, (Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts)),)
    )


def _of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def _wish(*outputs, **more) -> Wish:
    return Wish(outputs=frozenset(outputs), seed=3, **more)


def test_a_picture_sharpens_in_at_least_four_previews(engine, tmp_path):
    events = list(engine.reply(_asked(tmp_path, "draw a cat"), _wish("text", "image")))
    ready = next(place for place, event in enumerate(events) if isinstance(event, ImageReady))
    previews = _of(ImagePreview, events[:ready])
    assert len(previews) >= 4
    assert [one.done for one in previews] == sorted(one.done for one in previews)
    assert events[ready].pixels.shape == (256, 256, 3)
    assert isinstance(events[-1], Finished)


def test_a_clip_comes_frame_by_frame_and_then_whole_with_its_sound(engine, tmp_path):
    events = list(engine.reply(_asked(tmp_path, "a clip"), _wish("video")))
    assert [one.index for one in _of(ClipPreview, events)] == list(range(8))
    (clip,) = _of(ClipReady, events)
    assert len(clip.frames) / clip.fps == len(clip.samples) / clip.rate == 2.0


def test_chunks_of_speech_join_without_gap(engine, tmp_path):
    events = list(engine.reply(_asked(tmp_path, "hello"), _wish("text", "speech", max_tokens=200)))
    chunks, at = _of(SpeechChunk, events), 0
    assert len(chunks) > 1
    for chunk in chunks:
        assert chunk.start == at
        assert chunk.samples.dtype == np.float32
        at += len(chunk.samples)
    assert events[-1].usage.speech_seconds == pytest.approx(at / 16_000)


def test_no_words_are_shown_where_only_a_picture_was_wished_for(engine, tmp_path):
    events = list(engine.reply(_asked(tmp_path, "draw a cat"), _wish("image")))
    assert not _of(TextDelta, events)
    assert _of(ImageReady, events)[0].caption


def test_the_same_seed_gives_the_same_events(engine, tmp_path):
    first, second = (
        [event for event in engine.reply(_asked(tmp_path, "draw a cat"), _wish("text", "image"))] for _ in range(2)
    )
    assert [type(event) for event in first] == [type(event) for event in second]
    assert np.array_equal(_of(ImageReady, first)[0].pixels, _of(ImageReady, second)[0].pixels)


def test_sound_is_transcribed_before_the_reply(engine, tmp_path):
    sound = media.write_audio(np.zeros(16_000, np.float32), 16_000, tmp_path)
    events = list(engine.reply(_asked(tmp_path, sound), _wish("text")))
    kinds = [type(event) for event in events if isinstance(event, (Heard, TextDelta))]
    assert kinds[0] is Heard


def test_every_kind_of_file_is_read(engine, tmp_path):
    picture = media.write_image(np.zeros((90, 160, 3), np.uint8), tmp_path)
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    clip = media.write_video(frames, 4, np.zeros(32_000, np.float32), 16_000, tmp_path)
    sound = media.write_audio(np.zeros(16_000, np.float32), 16_000, tmp_path)
    tally = Tally()
    sequence, heard = engine.read(_asked(tmp_path, "what is this", sound, clip, picture), tally)
    assert heard
    assert tally.tokens_in["image"] == 64
    assert tally.tokens_in["video"] == 64 + 7 * 16
    assert tally.tokens_in["audio"] == 51
    assert vocabulary.modality(sequence.ids[3]) == "visual"  # media come before the words


def test_the_last_picture_of_two_exchanges_is_remembered(engine, tmp_path):
    picture = media.write_image(np.zeros((64, 64, 3), np.uint8), tmp_path)
    drawn = Message("user", (Text("draw a cat"),)), Message("assistant", (Text("Here is a cat."), picture))
    said = Message("user", (Text("thank you"),)), Message("assistant", (Text("You are welcome!"),))
    question = Message("user", (Text("now a dog"),))

    def read(*earlier: Message) -> list[int]:
        return engine.read(Conversation(tmp_path, (*earlier, question)), Tally())[0].ids

    alone, after_it = read(), read(*drawn)
    assert alone.count(vocabulary.USER) == 1 and after_it.count(vocabulary.USER) == 2
    assert read(*drawn * 3) == read(*said, *drawn) == read(*drawn, *said) == after_it
    assert read(*said) == read(*drawn, *said, *said) == alone


def test_every_sentence_of_a_story_has_its_picture_and_a_line_of_its_own(engine, tmp_path, monkeypatch):
    going_on = iter([vocabulary.WRITE, vocabulary.WRITE, vocabulary.END])
    monkeypatch.setattr(sampling, "_greedy_mark", lambda decoder, marks: next(going_on))
    monkeypatch.setattr(sampling, "MAX_WORDS", 6)  # random weights would go on and on
    events = list(engine.reply(_asked(tmp_path, "a story"), _wish("text", "image")))
    told = [event for event in events if isinstance(event, (TextDelta, ImageReady))]
    pictures = _of(ImageReady, events)
    assert len(pictures) == 3 and isinstance(told[-1], ImageReady)
    said = "".join(event.text if isinstance(event, TextDelta) else "|" for event in told)
    assert [one.strip() for one in said.split("|")] == [*(one.caption for one in pictures), ""]
    assert all(one.startswith("\n") for one in said.split("|")[1:-1] if one)


def test_a_story_is_read_again_sentence_by_sentence(engine, tmp_path):
    picture = media.write_image(np.zeros((64, 64, 3), np.uint8), tmp_path)
    sentences = "There was a cat.", "It met a dog."
    told = [part for words in sentences for part in (Text(words), replace(picture, caption=words))]
    story = Message("user", (Text("a story"),)), Message("assistant", tuple(told))
    sequence, _ = engine.read(Conversation(tmp_path, (*story, Message("user", (Text("hi"),)))), Tally())
    marks = [one for one in sequence.ids if one in (vocabulary.WRITE, vocabulary.IMAGE, vocabulary.END)]
    assert marks == [vocabulary.WRITE, vocabulary.IMAGE] * 2 + [vocabulary.END]


def test_more_than_fits_is_refused_with_a_sentence(engine, tmp_path):
    picture = media.write_image(np.zeros((64, 64, 3), np.uint8), tmp_path)
    with pytest.raises(OmniError, match="more than Primer can take in"):
        list(engine.reply(_asked(tmp_path, *[picture] * (MAX_CONTEXT // 64 + 1)), Wish()))


def test_a_long_sound_is_refused_with_a_sentence(engine, tmp_path):
    with pytest.raises(OmniError, match="10 seconds"):
        list(engine.reply(_asked(tmp_path, Audio(tmp_path / "long.wav", 11.0, 16_000)), Wish()))


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(OmniError, match="missing or damaged"):
        PrimerEngine.open("cpu", tmp_path)


@pytest.fixture(scope="module")
def slabs(tmp_path_factory):
    return tmp_path_factory.mktemp("slabs")


def _answer(engine, folder) -> tuple[str, np.ndarray, np.ndarray]:
    """Words, speech and picture of a reply of the shipped model."""
    events = list(engine.reply(_asked(folder, "draw a cat on green"), _wish("text", "speech", "image")))
    words = "".join(one.text for one in _of(TextDelta, events))
    speech = np.concatenate([one.samples for one in _of(SpeechChunk, events)])
    return words, speech, _of(ImageReady, events)[0].pixels


def test_any_memory_gives_the_same_answer(slabs, tmp_path):
    whole = PrimerEngine.open("cpu", slabs=slabs)
    wanted = _answer(whole, tmp_path)
    least = whole.experts.least_bytes
    for memory in (least, whole.experts.most_bytes // 2):
        tight = PrimerEngine.open("cpu", memory=str(memory), slabs=slabs)
        words, speech, picture = _answer(tight, tmp_path)
        assert tight.experts.bytes_held <= memory
        assert words == wanted[0]
        assert np.array_equal(speech, wanted[1])
        assert np.array_equal(picture, wanted[2])


def test_usage_tells_how_many_experts_had_to_be_fetched(slabs, tmp_path):
    engine = PrimerEngine.open("cpu", slabs=slabs)
    *_, first = engine.reply(_asked(tmp_path, "hello"), _wish("text"))
    *_, again = engine.reply(_asked(tmp_path, "hello"), _wish("text"))
    assert first.usage.experts_used == again.usage.experts_used > 0
    assert first.usage.experts_fetched > 0
    assert first.usage.bytes_fetched > 0
    assert again.usage.experts_fetched == 0


@pytest.mark.parametrize("memory", ["1kB", "plenty"])
def test_a_memory_that_cannot_work_is_refused_with_a_sentence(memory, slabs):
    with pytest.raises(OmniError, match="Primer cannot start"):
        PrimerEngine.open("cpu", memory=memory, slabs=slabs)


def test_an_unwritable_folder_for_the_experts_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OmniError, match="file"):
        PrimerEngine.open("cpu", slabs=tmp_path / "file" / "experts")


def test_what_is_wished_for_is_what_the_grammar_allows():
    plan = plan_of(Wish(outputs=frozenset({"speech", "image", "video"}), voice="ben", seed=1))
    assert plan.spoken
    assert plan.voice == "ben"
    assert plan.must_make == (vocabulary.IMAGE, vocabulary.FILM)
    assert plan_of(Wish(seed=1)).spoken is None
    aloud = plan_of(Wish(seed=1, aloud=True))
    assert aloud.spoken and vocabulary.IMAGE in aloud.may_make and not aloud.must_make
