"""The quick form on an engine that is open: it goes on where it was, says what it leaves out, and keeps its reports."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from primer_tiny import tiny_model, tiny_tokenizers

from omni.engine import Wrapped
from omni.engines.primer import PrimerEngine
from omni.exams import opening, quick
from omni.exams.parts import PARTS
from omni.exams.quick import SHIPPED, QuickExam
from omni.exams.student import Student
from omni.primer.training import voices, world
from omni.settings import Settings

pytestmark = pytest.mark.skipif(
    not world.FONT.exists() or not voices.available(), reason="the emoji font or espeak-ng is not here"
)


class Writer(FakeEngine):
    """Takes and gives words alone."""

    capabilities = replace(FakeEngine.capabilities, inputs=frozenset({"text"}), outputs=frozenset({"text"}))


@pytest.fixture
def exam(tmp_path: Path) -> QuickExam:
    return QuickExam(Settings(engine="fake", root=tmp_path), count=2)


def test_what_an_engine_lacks_is_left_out_with_a_word_why(exam: QuickExam):
    prospect = exam.prospect(Writer())
    assert (prospect.lacks, prospect.answered, prospect.questions) == ("", 0, 2)  # the sums
    assert prospect.skipped["caption"] == "Fake takes no image" and "sums" not in prospect.skipped
    assert "Primer's own" in prospect.skipped["retrieval_r1"]


def test_an_exam_goes_on_where_it_was_stopped_and_its_figures_are_stored(exam: QuickExam):
    engine = Writer()
    steps = exam.sit(engine, anew=False)
    assert [next(steps).answered for _ in range(2)] == [0, 1]
    steps.close()
    assert exam.prospect(engine).answered == 1 and exam.page(exam.prospect(engine).name)
    told = list(exam.sit(engine, anew=False))
    assert [(one.answered, one.part, one.complete) for one in told] == [
        (1, "sums", False), (2, "sums", False), (2, "sums", True)]  # fmt: skip
    (report,) = [one for one in exam.reports() if one.name != SHIPPED]
    (figure,) = report.figures
    assert report.name == exam.prospect(engine).name and (report.count, report.page) == (2, True)
    assert (figure.name, figure.n, figure.missed) == ("sums", 2, True) and figure.what


def test_an_exam_that_is_sat_anew_leaves_the_earlier_one_stored(exam: QuickExam):
    for _ in range(2):
        list(exam.sit(Writer(), anew=True))
    names = [one.name for one in exam.reports() if one.name != SHIPPED]
    assert len(names) == 2 and sum("-until-" in name for name in names) == 1


def test_only_the_latest_earlier_exams_stay(exam: QuickExam, monkeypatch: pytest.MonkeyPatch):
    """Visitors who start it again and again must not fill the disk."""
    monkeypatch.setattr(quick, "EARLIER", 2)
    for _ in range(4):
        next(exam.sit(Writer(), anew=True))
    folders = sorted(one.name for one in (exam.settings.root / "exams").iterdir())
    assert len(folders) == 3 and [("-until-" in name) for name in folders] == [False, True, True]


@pytest.fixture
def two(tmp_path: Path) -> QuickExam:
    """The exam of an engine that has every sum wrong, beside one of another engine that has all right."""
    exams = {name: QuickExam(Settings(engine=name, root=tmp_path), quick.FEWEST) for name in ("wrong", "right")}
    for exam in exams.values():
        list(exam.sit(Writer(), anew=False))
    (answers,) = (tmp_path / "exams" / name_of(exams["right"])).glob("*.jsonl")
    answers.write_text(answers.read_text().replace('"sums": [0.0, 1.0]', '"sums": [1.0, 1.0]'))
    return exams["wrong"]


def name_of(exam: QuickExam) -> str:
    return exam.prospect(Writer()).name


def test_two_engines_asked_the_same_are_compared_question_by_question(two: QuickExam):
    (found,) = two.differences(name_of(two))
    assert found.figure == "sums" and found.other.startswith("right-")
    assert (found.value, found.low, found.high, found.n) == (-100, -100, -100, quick.FEWEST)


def test_a_change_of_the_answers_is_seen(two: QuickExam, tmp_path: Path):
    assert two.differences(name_of(two))
    for answers in (tmp_path / "exams" / name_of(two)).glob("*.jsonl"):
        answers.write_text(answers.read_text().replace('"sums": [0.0, 1.0]', '"sums": [1.0, 1.0]'))
    assert [one.value for one in two.differences(name_of(two))] == [0]


def test_too_few_questions_and_earlier_exams_of_the_same_engine_are_not_compared(two: QuickExam, tmp_path: Path):
    list(two.sit(Writer(), anew=True))
    assert len(two.differences(name_of(two))) == 1  # the earlier one stands there too
    folder = tmp_path / "exams" / name_of(two)
    (answers,) = folder.glob("*.jsonl")
    answers.write_text("\n".join(answers.read_text().splitlines()[: quick.FEWEST - 1]) + "\n")
    assert two.differences(name_of(two)) == []
    assert two.differences("never-sat") == []


def test_the_shipped_report_comes_first(exam: QuickExam):
    (shipped,) = exam.reports()
    assert shipped.name == SHIPPED and len(shipped.figures) > 20 and not shipped.page


def test_a_spoiled_folder_is_no_report(exam: QuickExam, tmp_path: Path):
    for name, text in (("broken", "{"), ("other", json.dumps({"colour": 3}))):
        folder = tmp_path / "exams" / name
        folder.mkdir(parents=True)
        (folder / "exam.json").write_text('{"rows": []}')
        (folder / "sitting.json").write_text(text)
    assert [one.name for one in exam.reports()] == [SHIPPED]


def test_only_stored_reports_have_a_page(exam: QuickExam, tmp_path: Path):
    (tmp_path / "report.html").write_text("not of an exam")
    assert all(exam.page(name) is None for name in ("", "..", "nothing", "../exams"))


def test_what_the_host_lacks_is_one_sentence(exam: QuickExam, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opening, "absent", lambda: "Please install espeak-ng.")
    assert exam.prospect(Writer()).lacks == "Please install espeak-ng."
    monkeypatch.setitem(sys.modules, "omni.exams.opening", None)  # as where torch is not installed
    assert exam.prospect(Writer()).lacks.endswith("please install what requirements.txt lists.")


def test_primer_is_known_behind_what_stands_in_front_of_it(tmp_path: Path):
    engine = Wrapped(Wrapped(PrimerEngine(tiny_model(), tiny_tokenizers())))
    student = opening.student_of(engine)
    assert isinstance(student, Student) and student.engine is engine and student.codec and not student.explain
    skipped = QuickExam(Settings(root=tmp_path), count=1).prospect(engine).skipped
    assert set(skipped) == set(PARTS["retrieval"].rows)


def test_the_examiner_brings_no_judges_until_they_are_needed():
    heavy = ("torch", "scipy", "omni.exams.judging", "omni.primer")
    code = f"import sys, omni.exams.quick; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
