"""The exam's questions, its rows, and engines that sit it: one that knows the truth, one that knows nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from omni import figures
from omni.conversation import Audio, Conversation
from omni.engine import Capabilities, Wish
from omni.events import ClipReady, Event, Finished, Heard, ImageReady, SpeechChunk, TextDelta, Usage
from omni.exams import __main__ as command
from omni.exams import crossing, questions, rows
from omni.exams.about import About
from omni.exams.exam import DROP_ROWS, Exam, missing, nf4_drop, scores
from omni.exams.parts import PART_OF, PARTS, rng
from omni.exams.probes import Probes
from omni.exams.questions import Question
from omni.exams.rows import GOALS, WHAT, Score
from omni.exams.sitting import Sitting
from omni.exams.student import Student
from omni.primer.training import outside, sounds, voices, world
from omni.primer.training.effects import effect
from omni.primer.training.turns import Effect, Tone

needs_world = pytest.mark.skipif(
    not world.FONT.exists() or not voices.available(), reason="the emoji font or espeak-ng is not here"
)
ANY = frozenset({"text", "image", "audio", "video"})
MADE = frozenset({"text", "speech", "image", "video"})
ASKED = [name for name, part in PARTS.items() if not part.silent]


class Scripted:
    """An engine that answers from a crib, or always with nonsense; the crib is what the exam is about to ask."""

    name = "Scripted"
    capabilities = Capabilities(ANY, MADE, tuple(voices.SPEAKERS), 640, "For tests.")

    def __init__(self, knows: bool):
        self.knows = knows
        self.question: Question | None = None

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        if any(isinstance(part, Audio) for part in conversation.messages[-1].parts):
            yield Heard(self._told())
        if not self.knows:
            yield TextDelta("I see nothing. There is no thing, do not know.")
        else:
            yield from self._answer(wish)
        yield Finished(Usage(first_text=0.1, first_speech=0.2, image=0.3, clip=0.4))

    def _told(self) -> str:
        return self.question.truth if self.knows and isinstance(self.question.truth, str) else "umbrella"

    def _answer(self, wish: Wish) -> Iterator[Event]:
        match self.question.truth:
            case world.Scene() as scene:
                yield TextDelta(f"I see {world.caption(scene)}.")
                yield ImageReady(world.draw(scene, None, 256))
            case world.Clip() as clip:
                frames, events = world.animate(clip, None, 256)
                yield TextDelta(world.clip_caption(clip).capitalize() + ".")
                track = sounds.motion_sound(clip.motion, 2.0, events)
                yield ClipReady(frames, world.FPS, track, sounds.RATE)
            case Tone() as tone:
                yield TextDelta(f"I hear {tone.words}.")
                yield SpeechChunk(sounds.tone(tone.note, tone.timbre), sounds.RATE, 0)
            case Effect() as made:
                yield TextDelta(f"I hear {made.words}.")
                yield SpeechChunk(effect(made.name), sounds.RATE, 0)
            case str() as words if wish.voice:
                yield TextDelta(words)
                yield SpeechChunk(voices.speak(words, voices.voice(wish.voice)).samples, voices.RATE, 0)
            case str() as words:
                yield TextDelta(words.replace("silence", "not a sound").replace("a blank", "nothing, a blank"))


class Known(Student):
    """A student whose engine is told each question's truth first; its codec changes nothing."""

    def __init__(self, knows: bool):
        super().__init__(Scripted(knows), self)

    def answer(self, question: Question, seed: int = 0, listen_only: bool = False):
        self.engine.question = question
        return super().answer(question, seed, listen_only)

    def recoded(self, medium: np.ndarray) -> np.ndarray:
        return medium


@pytest.fixture(scope="module")
def probes():
    return Probes()


def sit(student: Student, folder, part: str, count: int, probes: Probes) -> Sitting:
    sitting = Sitting(folder, About("scripted", "none", 2026, count))
    assert len(list(Exam(student, sitting, probes).sit([part]))) == count
    return sitting


@needs_world
@pytest.mark.parametrize("part", ASKED)
def test_who_knows_everything_meets_every_goal_and_who_knows_nothing_none(part, tmp_path, probes):
    asked = 4
    found = scores(sit(Known(True), tmp_path / "all", part, asked, probes), part)
    assert {one.name for one in found} >= set(PARTS[part].rows)
    for score in found:
        assert not rows.row(score, "").missed, score
        assert score.low <= score.value <= score.high
    for score in scores(sit(Known(False), tmp_path / "nothing", part, asked, probes), part):
        if score.name not in ("crossmodal_spread",) and GOALS[score.name][0] is not None:  # all routes fail alike
            assert rows.row(score, "").missed, score


def test_every_row_is_measured_by_a_part_and_explained():
    assert set(PART_OF) == set(GOALS) - {"nf4_drop"}
    assert set(WHAT) == set(GOALS)


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


@needs_world
def test_the_same_question_goes_by_four_routes():
    for item in crossing.same_by_all_routes(rng("crossmodal", 3), 6):
        assert [question.route for question in item] == list(crossing.ROUTES)
        assert len({question.truth for question in item}) == 1 and item[0].truth in item[0].parts[0]


@needs_world
def test_half_of_the_inputs_in_question_are_in_order():
    asked = crossing.troubled_and_sound(rng("conflict", 3), 24)
    assert [bool(question.truth) for question in asked] == [True, False] * 12
    for wrong, fine in zip(asked[::2], asked[1::2], strict=True):
        assert [type(part) for part in wrong.parts] == [type(part) for part in fine.parts]


@needs_world
def test_half_of_the_sums_are_in_figures():
    asked = questions.sums(np.random.default_rng(6), 20)
    assert [any(map(str.isdigit, question.parts[0])) for question in asked] == [False, True] * 10


@needs_world
def test_a_gallery_holds_each_scene_and_clip_once():
    items = crossing.galleries(rng("retrieval", 3), 1)
    assert len(items) == crossing.GALLERY
    assert len({item[0].truth.key for item in items}) == len({item[3].truth for item in items}) == crossing.GALLERY


def test_another_seed_is_another_exam():
    one, other = ([item[0].truth for item in PARTS["sums"].ask(seed, 30)] for seed in (2026, 7))
    assert one != other


def test_an_engine_is_asked_only_what_it_takes_and_gives():
    class Reader(Scripted):
        capabilities = replace(Scripted.capabilities, inputs=frozenset({"text", "image"}), outputs=frozenset({"text"}))

    reasons = missing(Reader(True), is_primer=False)
    assert set(PARTS) - set(reasons) == {"caption", "picture_qa", "sums"}
    assert reasons["pictures"] == "Scripted gives no image" and "own book" in reasons["outside"]
    assert not missing(Scripted(True), is_primer=True)


def _sitting(folder, values: dict[str, float]) -> Sitting:
    sitting = Sitting(folder, About("primer", folder.name, 1, 10))
    for row, right in values.items():
        for index in range(10):
            sitting.add(PART_OF[row], index, {row: (float(index < right), 1.0)}, (), ())
    return sitting


def test_the_cost_of_four_bits_is_the_worst_row(tmp_path):
    exact = _sitting(tmp_path / "exact", dict.fromkeys(DROP_ROWS, 5))
    shipped = _sitting(tmp_path / "shipped", dict.fromkeys(DROP_ROWS, 6) | {"wer_trained": 8})
    drop = nf4_drop(shipped, exact)
    assert drop.value == pytest.approx(30) and drop.low <= 30 <= drop.high


def test_rows_are_kept_in_order_and_a_missed_one_stays(tmp_path):
    path = tmp_path / "exam.json"
    rows.keep([rows.row(Score("voicing", 12.345, 200), "b"), rows.row(Score("outside", 90.0, 100, 50.0), "b")], path)
    rows.keep([rows.row(Score("caption", 95.0, 200, 0.0, 99.0), "a"), rows.row(Score("voicing", 13.0, 200), "c")], path)
    kept = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in kept] == ["caption", "voicing", "outside"]
    assert kept[1] == {
        "name": "voicing", "value": 13.0, "unit": "%", "goal": 85, "better": "higher", "n": 200,
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


def test_a_table_marks_what_was_missed(tmp_path):
    (tmp_path / "omni/primer/weights").mkdir(parents=True)
    met = rows.row(Score("caption", 95.0, 200, 0.0, 99.0), "python -m omni.exams --only caption")
    lost = replace(met, name="voicing", value=12.0)
    rows.keep([met, lost], tmp_path / figures.EXAM)
    page = tmp_path / "README.md"
    blocks = "<!-- figures:exam -->\nold\n<!-- /figures -->\nafter\n<!-- figures:primer -->\n<!-- /figures -->\n"
    page.write_text(f"before\n{blocks}")
    assert figures.main(["--check"], tmp_path) == 1 and "old" in page.read_text()
    assert figures.main([], tmp_path) == 0
    text = page.read_text()
    assert "| `caption` | 95 % | ≥ 92 | met | 200 | 0 | 99 |" in text
    assert "| `voicing` | 12 % | ≥ 85 | missed | 200 | 0 | 99 |" in text
    assert "`python -m omni.exams`" in text and "Not measured yet." in text and text.startswith("before\n")
    assert figures.main(["--check"], tmp_path) == 0


def test_the_documents_show_the_figures_as_they_are():
    assert figures.main(["--check"]) == 0
