"""The exam's questions, its rows, and a student that goes through it; a tiny model, the figures are no one's."""

import json
from dataclasses import replace

import numpy as np
import pytest
from primer_tiny import tiny_model, tiny_tokenizers

from omni import figures
from omni.exams import __main__ as command
from omni.exams import questions, rows
from omni.exams.exam import PART_OF, PARTS, Exam, nf4_drop
from omni.exams.probes import Probes
from omni.exams.questions import Picture, Question, Sound
from omni.exams.rows import GOALS, Score
from omni.exams.student import Answer, Student
from omni.primer import vocabulary as v
from omni.primer.training import outside, sounds, voices, world

needs_world = pytest.mark.skipif(
    not world.FONT.exists() or not voices.available(), reason="the emoji font or espeak-ng is not here"
)


class Scripted(Student):
    """A student that knows the truth, or never does; its codec changes nothing."""

    def __init__(self, knows: bool):
        self.knows = knows

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False) -> Answer:
        if not self.knows:
            return Answer(words="I see nothing.")
        truth, rng = question.truth, np.random.default_rng(seed)
        match truth:
            case world.Scene():
                return Answer(words=f"I see {world.caption(truth)}.", picture=world.draw(truth, rng))
            case world.Clip():
                return Answer(words=world.clip_caption(truth).capitalize() + ".", frames=world.animate(truth, rng)[0])
            case str() if question.voice:
                return Answer(samples=voices.speak(truth, voices.voice(question.voice)).samples)
            case str():
                return Answer(words=truth, heard=truth)
        return Answer(words=f"I hear {truth.words}.", samples=sounds.tone(truth.note, truth.timbre))

    def recoded(self, medium: np.ndarray) -> np.ndarray:
        return medium


@needs_world
@pytest.mark.parametrize("part", PARTS)
def test_who_knows_everything_meets_every_goal_and_who_knows_nothing_none(part):
    for score in Exam(Scripted(True), Probes(), 8).scores(part):
        assert not rows.row(score, "").missed, score
    for score in Exam(Scripted(False), Probes(), 8).scores(part):
        assert rows.row(score, "").missed, score


def test_every_row_is_measured_by_a_part():
    assert {PART_OF.get(name, name) for name in GOALS} == set(PARTS) | {"nf4_drop"}


@needs_world
def test_the_same_seed_asks_the_same_questions():
    once, again = (questions.spoken(np.random.default_rng(3), 4, voices.HELDOUT_VOICES) for _ in range(2))
    assert [question.truth for question in once] == [question.truth for question in again]
    assert all(np.array_equal(a.parts[-1].samples, b.parts[-1].samples) for a, b in zip(once, again, strict=True))


@needs_world
def test_held_out_rows_ask_for_what_training_leaves_out():
    rng = np.random.default_rng(4)
    assert all(question.truth.held_out for question in questions.captions(rng, 20))
    assert all(question.truth.held_out for question in questions.pictures(rng, 20, held_out=True))
    assert not any(question.truth.held_out for question in questions.pictures(rng, 20, held_out=False))
    assert all(question.truth.held_out for question in questions.clips_asked(rng, 8))


@needs_world
def test_half_of_the_outside_questions_lie_inside():
    asked = questions.in_and_out(np.random.default_rng(5), 16)
    assert [question.truth for question in asked] == [outside.ANSWER, ""] * 8


def test_the_cost_of_four_bits_is_the_worst_row():
    values = {"caption": 90.0, "picture_object": 80.0, "wer_trained": 10.0, "motion_named": 70.0}
    exact, shipped = Exam(None, None), Exam(None, None)
    for name, value in values.items():
        part = PART_OF.get(name, name)
        exact.done[part] = [Score(name, value, 8)]
        shipped.done[part] = [Score(name, value + (3.0 if name == "wer_trained" else -1.0), 8)]
    assert nf4_drop(shipped, exact).value == pytest.approx(3.0)


def test_rows_are_kept_in_order_and_a_missed_one_stays(tmp_path):
    path = tmp_path / "exam.json"
    rows.keep([rows.row(Score("voicing", 12.345, 200), "b"), rows.row(Score("outside", 90.0, 100, 50.0), "b")], path)
    rows.keep([rows.row(Score("caption", 95.0, 200, 0.0, 99.0), "a"), rows.row(Score("voicing", 13.0, 200), "c")], path)
    kept = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in kept] == ["caption", "voicing", "outside"]
    assert kept[1] == {
        "name": "voicing", "value": 13.0, "unit": "%", "goal": 75, "better": "higher", "n": 200,
        "chance": None, "ceiling": None, "machine": figures.machine(), "command": "c",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["exam.json"]


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "captoin"])
    assert "captoin" in capsys.readouterr().err


def test_without_font_or_voices_the_exam_says_so_in_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(world, "FONT", tmp_path / "none.ttf")
    assert command.main(["--quick"]) == 2
    assert capsys.readouterr().err.count(".") == 1


@pytest.fixture
def student() -> Student:
    return Student(tiny_model(), tiny_tokenizers(), max_tokens=60)


def test_a_student_goes_through_tokenisers_and_grammar_and_back(student):
    blank = Picture(np.zeros((64, 64, 3), np.uint8))
    answer = student.answer(Question((blank, "what do you see"), "", 1.0))
    assert answer.heard == "" and isinstance(answer.words, str)
    heard = student.answer(Question((Sound(np.zeros(6400, np.float32)),), ""), listen_only=True)
    assert heard.words == "" and heard.picture is None and heard.samples is None


def test_codes_of_every_kind_become_media(student):
    film = {"film-visual": [5] * (64 + 7 * 16), "film-audio": [1] * 100}
    made = student._made({"image": [7] * 64, "speech": [3] * 20, **film})
    assert made.picture.shape == (64, 64, 3) and made.frames.shape == (8, 64, 64, 3) and made.samples.shape == (6400,)
    assert student._made({"image": [7] * 63}).picture is None


def test_a_sound_is_heard_before_the_reply(student):
    """The sequence is what training showed: begin, user, sound, assistant."""
    ids = student._read(Question((Sound(np.zeros(640, np.float32)), "what note is this"), "")).ids
    assert ids[:3] == [v.BEGIN, v.USER, v.AUDIO] and ids[5] == v.AUDIO_END and ids[-1] == v.ASSISTANT


def test_a_table_marks_what_was_missed(tmp_path):
    (tmp_path / "omni/primer/weights").mkdir(parents=True)
    met = rows.row(Score("caption", 95.0, 200, 0.0, 99.0), "python -m omni.exams --only caption")
    lost = replace(met, name="voicing", value=12.0, goal=75)
    rows.keep([met, lost], tmp_path / figures.EXAM)
    page = tmp_path / "README.md"
    blocks = "<!-- figures:exam -->\nold\n<!-- /figures -->\nafter\n<!-- figures:primer -->\n<!-- /figures -->\n"
    page.write_text(f"before\n{blocks}")
    assert figures.main(["--check"], tmp_path) == 1 and "old" in page.read_text()
    assert figures.main([], tmp_path) == 0
    text = page.read_text()
    assert "| `caption` | 95 % | ≥ 80 | met | 200 | 0 | 99 |" in text
    assert "| `voicing` | 12 % | ≥ 75 | missed | 200 | 0 | 99 |" in text
    assert "`python -m omni.exams`" in text and "Not measured yet." in text and text.startswith("before\n")
    assert figures.main(["--check"], tmp_path) == 0


def test_the_documents_show_the_figures_as_they_are():
    assert figures.main(["--check"]) == 0
