"""The exam's questions go through a real engine and come back; the model is tiny, the figures are no one's."""

import numpy as np
import pytest
from primer_tiny import tiny_model, tiny_tokenizers

from omni.engine import Capabilities
from omni.engines.primer import PrimerEngine
from omni.engines.qwen3_omni import Qwen3OmniEngine
from omni.events import ClipReady, Finished, ImageReady, Progress, SpeechChunk, TextDelta, Usage
from omni.exams.exam import missing
from omni.exams.opening import student_of
from omni.exams.primer import Codec, meanings
from omni.exams.questions import TEXT, Film, Picture, Question, Sound
from omni.exams.student import WRITE_DOWN, Student, collect

BLANK = Picture(np.zeros((64, 64, 3), np.uint8))


@pytest.fixture
def student() -> Student:
    student = student_of(PrimerEngine(tiny_model(), tiny_tokenizers()))
    student.max_tokens = 60
    return student


def test_primer_knows_the_book_and_has_a_codec(student):
    assert not student.explain and isinstance(student.codec, Codec)


def test_a_question_of_every_kind_goes_through_the_engine(student):
    parts = (BLANK, Film(np.zeros((8, 64, 64, 3), np.uint8)), Sound(np.zeros(6400, np.float32)), "what do you see")
    answer = student.answer(Question(parts, "", 1.0, outputs=TEXT))
    assert isinstance(answer.words, str) and answer.picture is None
    assert answer.usage.tokens_in.keys() >= {"text", "image", "video", "audio"}


def test_the_same_seed_gives_the_same_answer(student):
    once, again = (student.answer(Question((BLANK, "what do you see"), "", 1.0), seed=4) for _ in range(2))
    assert (once.words, once.heard) == (again.words, again.heard)


def test_a_picture_reaches_the_engine_pixel_by_pixel(student):
    """Guards a question that is changed on its way: the codes are those of the picture itself."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen = []
    tokenizers = student.engine.tokenizers
    encode = type(tokenizers).encode_images
    spy = type("Spy", (type(tokenizers),), {"encode_images": lambda self, x: seen.append(x[0]) or encode(self, x)})
    student.engine.tokenizers = spy(tokenizers.text, tokenizers.image, tokenizers.video, tokenizers.audio)
    student.answer(Question((Picture(pixels), "what do you see"), "", outputs=TEXT))
    assert np.array_equal(seen[0], pixels)


def test_an_answer_comes_in_the_exams_sizes():
    picture, frame = np.full((256, 256, 3), 7, np.uint8), np.zeros((16, 128, 128, 3), np.uint8)
    chunks = [SpeechChunk(np.zeros(2400, np.float32), 24000, start) for start in (0, 2400)]
    events = [TextDelta("Here "), TextDelta("it is."), *chunks, ImageReady(picture),
              ClipReady(frame, 8.0, np.zeros(48000, np.float32), 24000), Finished(Usage(image=0.5))]  # fmt: skip
    answer = collect(iter(events))
    assert answer.words == "Here it is." and answer.samples.shape == (3200,) and answer.usage.image == 0.5
    assert answer.picture.shape == (64, 64, 3) and (answer.picture == 7).all()
    assert answer.frames.shape == (8, 64, 64, 3) and answer.track.shape == (32000,)
    assert answer.frame_seconds == pytest.approx(15 / 8 / 7)


class Mute:
    """An engine that does not tell what it hears, but writes it down when it is asked to."""

    name = "Mute"
    capabilities = Capabilities(frozenset({"text", "audio"}), TEXT, (), 640, "For tests.")

    def __init__(self):
        self.asked: list[str] = []

    def reply(self, conversation, wish):
        self.asked.append(conversation.messages[-1].text)
        yield Progress("Reading")
        yield TextDelta("a cat" if WRITE_DOWN in self.asked[-1] else "Meow!")
        yield Finished(Usage())


def test_an_engine_that_does_not_tell_what_it_hears_is_asked_to_write_it_down():
    student = student_of(Mute())
    question = Question((Sound(np.zeros(1600, np.float32)),), "a cat")
    assert [student.answer(question, listen_only=True).heard for _ in range(2)] == ["a cat", "a cat"]
    assert student.engine.asked == ["", WRITE_DOWN, WRITE_DOWN]


def test_only_who_has_not_read_the_book_is_told_its_forms():
    student = student_of(Mute())
    student.answer(Question(("what is it",), "", form="Answer so."))
    assert student.engine.asked == ["what is it\nAnswer so."]


def test_primer_has_read_the_book_on_another_machine_too(monkeypatch):
    monkeypatch.setattr(Mute, "name", PrimerEngine.name)
    student = student_of(Mute())
    student.answer(Question(("what is it",), "", form="Answer so."))
    assert student.engine.asked == ["what is it"]


def test_a_codec_gives_media_back_in_their_shapes():
    codec = Codec(tiny_tokenizers())
    for medium in (BLANK.pixels, np.zeros((8, 64, 64, 3), np.uint8), np.zeros(6400, np.float32)):
        assert codec.recoded(medium).shape == medium.shape


def test_what_a_question_means_is_a_unit_vector(student):
    asked = [Question((part,), "") for part in ("draw a cat", BLANK, Sound(np.zeros(640, np.float32)))]
    assert np.allclose(meanings(student.engine, asked).norm(dim=1), 1)


def test_another_engine_sits_the_same_exam(tiny_omni, tmp_path):
    """Qwen3-Omni with random weights: it reads, sees and hears its questions and says nothing of worth."""
    student = student_of(Qwen3OmniEngine.open(str(tiny_omni), device="cpu", slabs=tmp_path))
    student.max_tokens = 4
    assert student.explain and student.codec is None
    seen = student.answer(Question((BLANK, "what do you see"), "", outputs=TEXT, form="Answer so."))
    assert seen.words and seen.usage.tokens_in["image"]
    heard = student.answer(Question((Sound(np.zeros(8000, np.float32)),), ""), listen_only=True)
    assert heard.heard and heard.usage.tokens_in["audio"] and student.tells is False
    reasons = missing(student.engine, is_primer=False)
    assert "caption" not in reasons and reasons["pictures"].endswith("gives no image")
