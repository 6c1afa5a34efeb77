"""A sitting goes on where it was killed, and its report needs nothing but itself."""

import json

import numpy as np
import pytest

from omni.errors import OmniError
from omni.exams import crossing
from omni.exams.about import About
from omni.exams.questions import Film, Picture, Question, Sound
from omni.exams.report import write_report
from omni.exams.sitting import Sitting
from omni.exams.student import Answer

ABOUT = About("primer", "1a2b/3c", 2026, 6)
FRAMES = np.zeros((8, 64, 64, 3), np.uint8)
ANSWER = Answer(
    "a cat", "It is a <b>cat</b>.", FRAMES[0], FRAMES, 0.25, np.zeros(32000, np.float32), np.ones(1600, np.float32)
)


def item(truth: str = "cat") -> tuple[Question, ...]:
    parts = (Picture(FRAMES[0]), Film(FRAMES), Sound(np.ones(1600, np.float32)), "what is it")
    return tuple(Question(parts, truth, route=route) for route in crossing.ROUTES)


def fill(sitting: Sitting, count: int) -> None:
    for index in range(count):
        right = index % 2
        marks = {"crossmodal_all": (right, 1.0), "crossmodal_spread": (1, right, 1, 1),
                 "crossmodal_all: speech": (right, 1.0)}  # fmt: skip
        sitting.add("crossmodal", index, marks, item(), [ANSWER] * 4)


def test_what_was_answered_is_there_after_a_kill(tmp_path):
    fill(Sitting(tmp_path, ABOUT), 4)
    (broken,) = tmp_path.glob("*.jsonl")
    broken.write_text(broken.read_text()[:-40])  # killed in the middle of a line
    again = Sitting.of(tmp_path)
    assert again.about == ABOUT and sorted(again.answered("crossmodal")) == [0, 1, 2]
    fill(again, 4)
    assert sorted(Sitting.of(tmp_path).answered("crossmodal")) == [0, 1, 2, 3]


def test_the_folder_is_named_by_whose_exam_it_is():
    assert ABOUT.label == "primer-1a2b-3c-seed2026-n6"


def test_where_no_exam_was_the_exam_says_so(tmp_path):
    with pytest.raises(OmniError, match="no exam"):
        Sitting.of(tmp_path)


def test_the_report_holds_its_media_and_asks_nothing_of_a_network(tmp_path):
    sitting = Sitting(tmp_path, ABOUT)
    fill(sitting, 6)
    page = write_report(sitting, {"pictures": "it gives no image"}, sitting).read_text()
    assert "http" not in page and "It is a &lt;b&gt;cat" in page and "pictures</code> it gives no image" in page
    for kind in ("image/png", "audio/wav", "video/mp4"):
        assert f"data:{kind};base64," in page
    assert "speech 50" in page and "n 6" in page and "+0 (+0 to +0)" in page


def test_only_some_answers_are_kept_with_their_media(tmp_path):
    sitting = Sitting(tmp_path, ABOUT)
    fill(sitting, 12)
    records = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    kept = [record["index"] for record in records if "made" in record["asked"][0]]
    assert kept == [0, 1, 2, 4, 6, 8]  # the first three, then three that are wrong
