"""Running the exam: each part asks its questions, judges the answers, and gives scores in percent.

An answer counts only where everything in it that a row speaks of is right. A ceiling is what the probe still reads
after the true medium went through its codes and back; a chance is what guessing would give.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from omni.exams import pitch, questions, reading
from omni.exams.distant import DistantStudent
from omni.exams.probes import THINGS, Probes, background, scene_of
from omni.exams.questions import Question
from omni.exams.rows import GOALS, Score
from omni.exams.student import Answer, Student
from omni.primer.training import sounds, voices, world
from omni.primer.training.world import Scene

log = logging.getLogger(__name__)
SEED = 2026
ENOUGH = 100  # questions, where an answer is one of few
VOICED_SHARE = (0.8, 1.25)  # of generated speech, relative to the same sentences by the true speaker
WER_CHANCE = 100.0  # of a student that hears nothing
Asked = list[tuple[Question, Answer]]


@dataclass
class Exam:
    """One sitting. State: the scores so far, by part, so that no part is asked twice."""

    student: Student | DistantStudent
    probes: Probes
    count: int = 200
    name: str = "4-bit"
    done: dict[str, list[Score]] = field(default_factory=dict)

    def scores(self, part: str) -> list[Score]:
        """The scores of a part."""
        if part not in self.done:
            started = time.monotonic()
            self.done[part] = PARTS[part](self)
            said = ", ".join(f"{one.name} {one.value:.1f}" for one in self.done[part])
            log.info("%s %s: %s (%.0f s)", self.name, part, said, time.monotonic() - started)
        return self.done[part]

    def value(self, row: str) -> float:
        """One row's value."""
        return next(one.value for one in self.scores(PART_OF.get(row, row)) if one.name == row)

    def ask(self, asked: list[Question], listen_only: bool = False) -> Asked:
        """All questions with their answers."""
        answers: Asked = []
        for index, question in enumerate(asked):
            answers.append((question, self.student.answer(question, SEED + index, listen_only)))
            if (index + 1) % 50 == 0:
                log.info("%s: %d of %d answered", self.name, index + 1, len(asked))
        return answers


def _rng(part: str) -> np.random.Generator:
    """The same questions whichever parts are asked."""
    return np.random.default_rng([SEED, *part.encode()])


def _share(verdicts: list[bool]) -> float:
    return 100 * sum(verdicts) / max(1, len(verdicts))


def caption(exam: Exam) -> list[Score]:
    """Held-out pictures described: things, colours, position, relation or count, and background all right."""
    asked = exam.ask(questions.captions(_rng("caption"), exam.count))
    right = [reading.same_scene(reading.scene(reading.claim(answer.words, "I see ")), q.truth) for q, answer in asked]
    best = [judge_picture(exam, exam.student.recoded(q.parts[0].pixels), q.truth)["all"] for q, _ in asked]
    return [Score("caption", _share(right), len(right), 0.0, _share(best))]


def picture_qa(exam: Exam) -> list[Score]:
    """Questions about held-out pictures, the reply exact; chance is the commonest answer."""
    asked = exam.ask(questions.picture_questions(_rng("picture_qa"), exam.count))
    truths = Counter(question.truth for question, _ in asked)
    chance = 100 * truths.most_common(1)[0][1] / len(asked)
    right = [answer.words == question.truth for question, answer in asked]
    return [Score("picture_qa", _share(right), len(right), chance)]


def judge_picture(exam: Exam, picture: np.ndarray | None, scene: Scene) -> dict[str, bool | None]:
    """What is right in a picture of ``scene``; None where the scene does not ask for it.

    ``object``: exactly the things and colours asked for. ``position``: one thing at its place, or two, each where the
    relation puts it (so both must be told apart). ``count``: as many things as asked for, where more than one are.
    ``background``: the colour at the border. ``all``: the whole scene; sizes are not judged.
    """
    seen = [] if picture is None else exam.probes.things(picture)
    ground = "" if picture is None else background(picture)
    found = scene_of(seen, ground)
    position, count = None, 2 if scene.other else scene.count
    if scene.other:
        two = world.canonical(scene)
        position = found is not None and found.relation == two.relation and reading.slots(found) == reading.slots(two)
    elif count == 1:
        position = {one.position for one in seen} == {scene.position}
    return {
        "object": {one.thing for one in seen} == set(reading.slots(scene)),
        "position": position,
        "background": ground == scene.background,
        "count": None if count == 1 else len(seen) == count,
        "all": reading.same_scene(found, scene),
    }


def _pictures(exam: Exam, part: str, held_out: bool, names: dict[str, tuple[str, float]]) -> list[Score]:
    """Scores of pictures made from words; ``names`` maps a row to what it judges and its chance."""
    asked = exam.ask(questions.pictures(_rng(part), exam.count, held_out))
    made = [judge_picture(exam, answer.picture, question.truth) for question, answer in asked]
    best = [judge_picture(exam, exam.student.recoded(world.draw(q.truth, None)), q.truth) for q, _ in asked]
    scores = []
    for name, (what, chance) in names.items():
        verdicts, ceiling = ([one[what] for one in judged if one[what] is not None] for judged in (made, best))
        scores.append(Score(name, _share(verdicts), len(verdicts), chance, _share(ceiling)))
    return scores


def pictures(exam: Exam) -> list[Score]:
    """Pictures of scenes as training has them; see judge_picture."""
    names = {
        "picture_object": ("object", 100 / len(THINGS)), "picture_position": ("position", 100 / len(world.POSITIONS)),
        "picture_background": ("background", 100 / len(world.BACKGROUNDS)), "picture_count": ("count", 100 / 3),
        "picture_all": ("all", 0.0),
    }  # fmt: skip
    return _pictures(exam, "pictures", False, names)


def pictures_heldout(exam: Exam) -> list[Score]:
    """Pictures of held-out scenes, everything right."""
    return _pictures(exam, "pictures_heldout", True, {"picture_heldout_all": ("all", 0.0)})


def _heard(exam: Exam, name: str, speakers: tuple[voices.Voice, ...]) -> list[Score]:
    asked = exam.ask(questions.spoken(_rng(name), exam.count, speakers), listen_only=True)
    rate = reading.word_error_rate((question.truth, answer.heard) for question, answer in asked)
    return [Score(name, rate, len(asked), WER_CHANCE)]


def wer_trained(exam: Exam) -> list[Score]:
    """Spoken requests written down, in voices of the training; word errors over words said."""
    return _heard(exam, "wer_trained", voices.TRAIN_VOICES)


def wer_heldout(exam: Exam) -> list[Score]:
    """The same in voices that training never heard."""
    return _heard(exam, "wer_heldout", voices.HELDOUT_VOICES)


def speech(exam: Exam) -> list[Score]:
    """Held-out sentences said aloud and read back by the Ear, and the voicing of speech.

    ``voicing``: F1 of voiced frames after the codec's round trip of held-out voices, a frame right where its pitch is
    within 50 cents; 0 where generated speech is not voiced as often as the true speaker's, within VOICED_SHARE.
    """
    asked = exam.ask(questions.aloud(_rng("speech"), exam.count))
    pairs, raw, ceiling, made_voiced, true_voiced = [], [], [], [], []
    for question, answer in asked:
        true = voices.speak(question.truth, voices.voice(question.voice)).samples
        made = np.zeros(0, np.float32) if answer.samples is None else answer.samples
        said = re.sub(r"\ban\b", "a", question.truth)  # the Ear writes both as "a"
        pairs.append((said, exam.probes.words(made) if len(made) else ""))
        raw.append((said, exam.probes.words(true)))
        ceiling.append((said, exam.probes.words(exam.student.recoded(true))))
        made_voiced.append(pitch.track(made)[1])
        true_voiced.append(pitch.track(true)[1])
    ratio = np.concatenate(made_voiced).sum() / max(1, sum(map(len, made_voiced))) / np.concatenate(true_voiced).mean()
    rate, raw_rate, best = map(reading.word_error_rate, (pairs, raw, ceiling))
    log.info("the Ear misreads %.1f%% of the true speakers' words; voiced share %.2f of theirs", raw_rate, ratio)
    f1 = _voicing(exam) if VOICED_SHARE[0] <= ratio <= VOICED_SHARE[1] else 0.0
    return [Score("speech_roundtrip_wer", rate, len(pairs), WER_CHANCE, best), Score("voicing", f1, exam.count)]


def _voicing(exam: Exam) -> float:
    """F1 in percent over all frames of the codec's round trips."""
    rng = _rng("voicing")
    right = true = made = 0
    for _ in range(exam.count):
        words = world.caption(world.random_scene(rng, held_out=True))
        said = voices.speak(words, questions.pick(rng, voices.HELDOUT_VOICES)).samples
        counts = pitch.voicing(said, exam.student.recoded(said))
        right, true, made = right + counts[0], true + counts[1], made + counts[2]
    return 100 * 2 * right / max(1, true + made)


def motion_named(exam: Exam) -> list[Score]:
    """Held-out clips described: the motion right. Ceiling: the motion that the MotionEye reads after the round trip."""
    asked = exam.ask(questions.clips_shown(_rng("motion_named"), exam.count))
    claims = [(reading.clip(reading.claim(answer.words)), question.truth) for question, answer in asked]
    right = [claimed is not None and claimed.motion == clip.motion for claimed, clip in claims]
    ceiling = [exam.probes.motion(exam.student.recoded(q.parts[0].frames)) == q.truth.motion for q, _ in asked]
    return [Score("motion_named", _share(right), len(right), 100 / len(world.MOTIONS), _share(ceiling))]


def motion_generated(exam: Exam) -> list[Score]:
    """Held-out clips made: the right motion, by exactly the things asked for throughout its frames."""
    asked = exam.ask(questions.clips_asked(_rng("motion_generated"), exam.count))
    made = [_moves(exam, answer.frames, question.truth) for question, answer in asked]
    best = [_moves(exam, exam.student.recoded(world.animate(q.truth, None)[0]), q.truth) for q, _ in asked]
    return [Score("motion_generated", _share(made), len(made), 100 / len(world.MOTIONS) / len(THINGS), _share(best))]


def _moves(exam: Exam, frames: np.ndarray | None, clip: world.Clip) -> bool:
    """Whether frames show the motion and the things of ``clip``."""
    if frames is None:
        return False
    things = {thing for thing in (clip.thing, clip.other) if thing}
    return exam.probes.motion(frames) == clip.motion and exam.probes.cast(frames, len(things)) == things


def tone_named(exam: Exam) -> list[Score]:
    """Tones in a room: note and timbre named."""
    asked = exam.ask(questions.tones_shown(_rng("tone_named"), min(exam.count, ENOUGH)))
    right = [reading.tone(reading.claim(answer.words, "I hear ")) == question.truth for question, answer in asked]
    return [Score("tone_named", _share(right), len(right), 100 / len(sounds.NOTES) / len(sounds.TIMBRES))]


def tone_generated(exam: Exam) -> list[Score]:
    """Tones made: the pitch within 50 cents of the note."""
    asked = exam.ask(questions.tones_asked(_rng("tone_generated"), min(exam.count, ENOUGH)))
    made = [_in_tune(answer.samples, question.truth.note) for question, answer in asked]
    true = [_in_tune(exam.student.recoded(sounds.tone(q.truth.note, q.truth.timbre)), q.truth.note) for q, _ in asked]
    return [Score("tone_generated", _share(made), len(made), 100 / len(sounds.NOTES), _share(true))]


def _in_tune(samples: np.ndarray | None, note: str) -> bool:
    hertz = None if samples is None else pitch.steady_pitch(samples)
    return hertz is not None and bool(pitch.cents(np.array(hertz), np.array(sounds.NOTES[note])) < 50)


def out_of_book(exam: Exam) -> list[Score]:
    """Half the questions are from outside of the book and deserve an honest reply; the other half deserve none."""
    asked = exam.ask(questions.in_and_out(_rng("outside"), min(exam.count, ENOUGH)))
    right = [("do not know" in answer.words) == bool(question.truth) for question, answer in asked]
    return [Score("outside", _share(right), len(right), 50.0)]


PARTS: dict[str, Callable[[Exam], list[Score]]] = {
    "caption": caption, "pictures": pictures, "pictures_heldout": pictures_heldout, "picture_qa": picture_qa,
    "wer_trained": wer_trained, "wer_heldout": wer_heldout, "speech": speech,
    "motion_named": motion_named, "motion_generated": motion_generated,
    "tone_named": tone_named, "tone_generated": tone_generated, "outside": out_of_book,
}  # fmt: skip
PART_OF = {
    "picture_object": "pictures", "picture_position": "pictures", "picture_background": "pictures",
    "picture_count": "pictures", "picture_all": "pictures", "picture_heldout_all": "pictures_heldout",
    "speech_roundtrip_wer": "speech", "voicing": "speech",
}  # fmt: skip
DROP_ROWS = ("caption", "picture_object", "wer_trained", "motion_named")


def nf4_drop(shipped: Exam, exact: Exam) -> Score:
    """What shipping in 4 bits costs: the worst of DROP_ROWS, in points, the same questions asked of both."""
    drops = {}
    for name in DROP_ROWS:
        before, after = exact.value(name), shipped.value(name)
        drops[name] = after - before if GOALS[name][1] == "lower" else before - after
    worst = max(drops, key=drops.get)
    log.info("from 16 to 4 bits: %s", ", ".join(f"{name} {drop:+.1f}" for name, drop in drops.items()))
    return Score("nf4_drop", drops[worst], shipped.count)
