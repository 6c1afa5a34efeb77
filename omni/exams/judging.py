"""Judging an answer by what is true: each judge turns one question and its answers into marks.

Marks are numbers by measure: a verdict is (0 or 1, 1), an error rate (errors, words). The name of a measure is a row of
the exam; ``row/ceiling`` is what the probe reads after the true medium went through the codes of the engine and back;
``row: which`` is a detail of the row. An answer counts only where everything in it that a row speaks of is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omni.exams import pitch, reading, sync
from omni.exams.crossing import DIRECTIONS, FORMS, GALLERY
from omni.exams.noises import thing_in
from omni.exams.probes import Probes, background, scene_of
from omni.exams.questions import Question
from omni.exams.student import Answer, RoundTrip, Student
from omni.primer.training import sounds, voices, world
from omni.primer.training.effects import effect
from omni.primer.training.world import Clip, Scene

Marks = dict[str, tuple[float, ...]]
PICTURE = ("object", "position", "background", "count", "all")


@dataclass
class Judge:
    """The probes, and the codec whose ceilings are measured, None where no codec is known.

    State: what was already read of whole galleries.
    """

    probes: Probes
    student: Student
    galleries: dict[Any, np.ndarray] = field(default_factory=dict)

    @property
    def codec(self) -> RoundTrip | None:
        return self.student.codec


def verdict(right: bool) -> tuple[float, float]:
    """One answer, right or wrong."""
    return float(right), 1.0


def caption(judge: Judge, question: Question, answer: Answer) -> Marks:
    """Things, colours, position, relation or count, and background of a description all right."""
    claimed = reading.scene(reading.claim(answer.words, "I see "))
    marks = {"caption": verdict(reading.same_scene(claimed, question.truth))}
    if judge.codec:
        recoded = judge.codec.recoded(question.parts[0].pixels)
        marks["caption/ceiling"] = verdict(seen_in(judge.probes, recoded, question.truth)["all"])
    return marks


def exactly(judge: Judge, question: Question, answer: Answer) -> Marks:
    """The reply word for word."""
    return {"picture_qa": verdict(answer.words == question.truth)}


def seen_in(probes: Probes, picture: np.ndarray | None, scene: Scene) -> dict[str, bool | None]:
    """What is right in a picture of ``scene``; None where the scene does not ask for it.

    ``object``: exactly the things and colours asked for. ``position``: one thing at its place, or two, each where the
    relation puts it (so both must be told apart). ``count``: as many things as asked for, where more than one are.
    ``background``: the colour at the border. ``all``: the whole scene; sizes are not judged.
    """
    seen = [] if picture is None else probes.things(picture)
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


def picture(judge: Judge, question: Question, answer: Answer) -> Marks:
    """A picture of a scene, see ``seen_in``."""
    marks = _picture_marks(judge, answer.picture, question.truth, "")
    if judge.codec:
        true = judge.codec.recoded(world.draw(question.truth, None))
        marks |= _picture_marks(judge, true, question.truth, "/ceiling")
    return marks


def _picture_marks(judge: Judge, pixels: np.ndarray | None, scene: Scene, suffix: str) -> Marks:
    seen = seen_in(judge.probes, pixels, scene)
    return {f"picture_{what}{suffix}": verdict(seen[what]) for what in PICTURE if seen[what] is not None}


def picture_heldout(judge: Judge, question: Question, answer: Answer) -> Marks:
    """A picture of a held-out scene, all of it right."""
    marks = picture(judge, question, answer)
    return {name.replace("all", "heldout_all"): mark for name, mark in marks.items() if "_all" in name}


def heard(judge: Judge, question: Question, answer: Answer) -> tuple[float, float]:
    """Words that were said against words that were heard: errors and words."""
    return _word_errors(question.truth, answer.heard)


def _word_errors(said: str, heard_words: str) -> tuple[float, float]:
    return float(reading.word_errors(said, heard_words)), float(reading.count_words(said))


def speech(judge: Judge, question: Question, answer: Answer) -> Marks:
    """A sentence said aloud, read back by the Ear: against the sentence asked for and against the reply's own words.

    ``voicing`` judges the codec with a true recording beside the question, and counts how much of the speech is voiced.
    """
    true = voices.speak(question.truth, voices.voice(question.voice)).samples if judge.codec else None
    made = np.zeros(0, np.float32) if answer.samples is None else answer.samples
    said = _as_the_ear_writes(question.truth)
    read = judge.probes.words(made) if len(made) else ""
    marks = {"speech_roundtrip_wer": _word_errors(said, read)}
    marks["speech_text_cer"] = _character_errors(answer.words or said, read)
    if judge.codec:
        recoded = judge.probes.words(judge.codec.recoded(true))
        marks["speech_roundtrip_wer/ceiling"] = _word_errors(said, recoded)
        marks["speech_text_cer/ceiling"] = _character_errors(said, recoded)
        counts = pitch.voicing(question.beside, judge.codec.recoded(question.beside))
        voiced = [pitch.track(samples)[1] for samples in (made, true)]
        shares = [float(count) for track in voiced for count in (track.sum(), len(track))]
        marks["voicing"] = (2.0 * counts[0], float(counts[1] + counts[2]), *shares)
    return marks


def _as_the_ear_writes(words: str) -> str:
    """The Ear writes "an" as "a", since it flows into its noun."""
    return re.sub(r"\ban\b", "a", words)


def _character_errors(written: str, read: str) -> tuple[float, float]:
    """Characters to change and all of them, spaces among them."""
    plain = _as_the_ear_writes(reading.normalise(written))
    return float(reading.edits(plain, read)), float(max(1, len(plain)))


def motion_named(judge: Judge, question: Question, answer: Answer) -> Marks:
    """The motion in a clip named. Ceiling: what the MotionEye reads after the round trip."""
    claimed = reading.clip(reading.claim(answer.words))
    marks = {"motion_named": verdict(claimed is not None and claimed.motion == question.truth.motion)}
    if judge.codec:
        recoded = judge.codec.recoded(question.parts[0].frames)
        marks["motion_named/ceiling"] = verdict(judge.probes.motion(recoded) == question.truth.motion)
    return marks


def motion_generated(judge: Judge, question: Question, answer: Answer) -> Marks:
    """The right motion, by exactly the things asked for throughout the frames."""
    marks = {"motion_generated": verdict(_moves(judge.probes, answer.frames, question.truth))}
    if judge.codec:
        recoded = judge.codec.recoded(world.animate(question.truth, None)[0])
        marks["motion_generated/ceiling"] = verdict(_moves(judge.probes, recoded, question.truth))
    return marks


def _moves(probes: Probes, frames: np.ndarray | None, clip: Clip) -> bool:
    if frames is None:
        return False
    things = {thing for thing in (clip.thing, clip.other) if thing}
    return probes.motion(frames) == clip.motion and probes.cast(frames, len(things)) == things


def synchrony(judge: Judge, question: Question, answer: Answer) -> Marks:
    """How far the sound of an event stands from its picture; see omni.exams.sync."""
    clip = question.truth
    error = sync.MISSING
    if answer.frames is not None and answer.track is not None:
        error = sync.error_ms(answer.frames, answer.frame_seconds, answer.track, clip.motion)
    marks = {"sync_ms": (error,), f"sync_ms: {clip.motion}": (error,)}
    if judge.codec:
        frames, events = world.animate(clip, None)
        track = sounds.motion_sound(clip.motion, world.FRAMES / world.FPS, events)
        through = judge.codec.recoded(frames), 1 / world.FPS, judge.codec.recoded(track)
        marks["sync_ms/ceiling"] = (sync.error_ms(*through, clip.motion),)
    return marks


def tone_named(judge: Judge, question: Question, answer: Answer) -> Marks:
    """Note and timbre of a tone named."""
    return {"tone_named": verdict(reading.tone(reading.claim(answer.words, "I hear ")) == question.truth)}


def tone_generated(judge: Judge, question: Question, answer: Answer) -> Marks:
    """A tone within 50 cents of its note."""
    tone = question.truth
    marks = {"tone_generated": verdict(_in_tune(answer.samples, tone.note))}
    if judge.codec:
        recoded = judge.codec.recoded(sounds.tone(tone.note, tone.timbre))
        marks["tone_generated/ceiling"] = verdict(_in_tune(recoded, tone.note))
    return marks


def _in_tune(samples: np.ndarray | None, note: str) -> bool:
    hertz = None if samples is None else pitch.steady_pitch(samples)
    return hertz is not None and bool(pitch.cents(np.array(hertz), np.array(sounds.NOTES[note])) < 50)


def effect_named(judge: Judge, question: Question, answer: Answer) -> Marks:
    """A thing named by its sound."""
    return {"effect_named": verdict(reading.claim(answer.words, "I hear ") == question.truth.words)}


def effect_generated(judge: Judge, question: Question, answer: Answer) -> Marks:
    """A sound that is more like that of its thing than like any other's."""
    name = question.truth.name
    marks = {"effect_generated": verdict(answer.samples is not None and thing_in(answer.samples) == name)}
    if judge.codec:
        marks["effect_generated/ceiling"] = verdict(thing_in(judge.codec.recoded(effect(name))) == name)
    return marks


def out_of_book(judge: Judge, question: Question, answer: Answer) -> Marks:
    """An honest reply where the question is from outside of the book, and none where it is from inside."""
    return {"outside": verdict(("do not know" in answer.words) == bool(question.truth))}


def arithmetic(judge: Judge, question: Question, answer: Answer) -> Marks:
    """The result, and no other number than it and those asked for."""
    right = verdict(reading.same_sum(answer.words, question.truth))
    kind = "figures" if any(map(str.isdigit, question.parts[0])) else "words"
    return {"sums": right, f"sums: in {kind}": right}


def by_all_routes(judge: Judge, asked: tuple[Question, ...], answers: list[Answer]) -> Marks:
    """The same question by every route: all right, and each by itself."""
    right = [reading.answers(answer.words, q.truth) for q, answer in zip(asked, answers, strict=True)]
    marks: Marks = {"crossmodal_all": verdict(all(right)), "crossmodal_spread": tuple(map(float, right))}
    return marks | {f"crossmodal_all: {q.route}": verdict(one) for q, one in zip(asked, right, strict=True)}


def conflict(judge: Judge, question: Question, answer: Answer) -> Marks:
    """That something is wrong is said where it is, and not said where it is not."""
    right = verdict(reading.says_so(answer.words) == bool(question.truth))
    return {"conflict": right, f"conflict: {'wrong' if question.truth else 'in order'}": right}


def retrieval(judge: Judge, index: int, items: list[tuple[Question, ...]]) -> Marks:
    """Whether scene and clip ``index`` are found first among their hundred, from each form by each other one."""
    block = index // GALLERY
    if block not in judge.galleries:
        judge.galleries = {block: _nearest(judge.student, items[block * GALLERY : (block + 1) * GALLERY])}
    found = judge.galleries[block][:, index % GALLERY]
    marks: Marks = {"retrieval_r1": (float(found.sum()), float(len(found)))}
    names = (f"retrieval_r1: {FORMS[one]} to {FORMS[other]}" for one, other in DIRECTIONS)
    return marks | {name: verdict(right) for name, right in zip(names, found, strict=True)}


def _nearest(student: Student, gallery: list[tuple[Question, ...]]) -> np.ndarray:
    """(directions, 100) bool: the nearest of the other form is the one that belongs to it."""
    from omni.exams.primer import meanings  # only Primer has such a space

    vectors = [meanings(student.engine, list(forms)) for forms in zip(*gallery, strict=True)]
    nearest = [(vectors[one] @ vectors[other].T).argmax(1).numpy() for one, other in DIRECTIONS]
    return np.stack(nearest) == np.arange(len(gallery))
