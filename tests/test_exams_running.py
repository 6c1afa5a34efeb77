"""The command asks the shipped Primer, alone and in two processes, and goes on where it was."""

import json

import pytest

from omni.exams import __main__ as command
from omni.exams import running
from omni.exams.sitting import Sitting
from omni.primer.training import voices, world

needs_world = pytest.mark.skipif(
    not world.FONT.exists() or not voices.available(), reason="the emoji font or espeak-ng is not here"
)


def lines(folder) -> list[dict]:
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]


@needs_world
@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_exam_goes_on_where_it_was(tmp_path, capsys, processes):
    words = [
        "--processes",
        "1",
        "--root",
        str(tmp_path),
        "--only",
        "sums",
        "--count",
        "5",
        "--seed",
        "3",
        "--threads",
        "1",
    ]
    assert command.main([*words, "--processes", processes]) == 0
    (folder,) = (tmp_path / "exams").iterdir()
    first = lines(folder)
    assert sorted(one["index"] for one in first) == list(range(5)) and "-seed3-n5" in folder.name
    (one, *_) = folder.glob("*.jsonl")
    one.write_text("".join(one.read_text().splitlines(keepends=True)[1:]))  # an answer is lost
    assert command.main(words) == 0
    again = lines(folder)
    assert sorted((one["index"], one["asked"][0]["said"]) for one in again) == sorted(
        (one["index"], one["asked"][0]["said"]) for one in first
    )
    rows = json.loads((folder / "exam.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["sums"] and rows[0]["n"] == 5 and rows[0]["low"] <= rows[0]["value"]
    assert (folder / "report.html").exists() and "sums" in capsys.readouterr().out
    assert command.main([*words, "--against", str(folder)]) == 0
    assert "+0 (+0 to +0) as before" in capsys.readouterr().out
    assert len(lines(folder)) == 5 and Sitting.of(folder).about.seed == 3


@needs_world
def test_an_engine_that_cannot_start_ends_the_exam_with_a_sentence(tmp_path, capsys):
    words = ["--root", str(tmp_path), "--only", "sums", "--count", "2", "--memory", "nonsense", "--processes", "1"]
    assert command.main(words) == 2
    error = capsys.readouterr().err
    assert "Primer cannot start" in error and "Traceback" not in error


def test_a_process_that_fails_says_why():
    line = running.multiprocessing.get_context("spawn").Queue()
    line.put("Primer cannot start.")
    with pytest.raises(running.OmniError, match="Primer cannot start"):
        list(running._listen([None], line))


def test_a_process_that_dies_is_noticed(monkeypatch):
    class Dead:
        exitcode = -9

    monkeypatch.setattr(running, "ALIVE", 0.01)
    with pytest.raises(running.OmniError, match="what was answered is kept"):
        list(running._listen([Dead()], running.multiprocessing.get_context("spawn").Queue()))


def test_a_setting_of_the_engine_that_cannot_be_used_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--engine", "nonsense"])
    assert "primer" in capsys.readouterr().err
