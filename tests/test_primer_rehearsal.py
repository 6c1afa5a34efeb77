"""The whole of a training, from word pieces to shipped weights, at the smallest size. Two minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.engines.primer import PrimerEngine
from omni.events import ImageReady
from omni.primer.shipping import WEIGHTS
from omni.primer.training import diary, voices, world
from omni.primer.training.__main__ import take_tokenizers

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not world.FONT.exists() or not voices.available(), reason="there is no emoji font, or no espeak-ng")
def test_a_rehearsal_trains_ships_and_tells(tmp_path: Path):
    before = (WEIGHTS / "model.safetensors").read_bytes()
    out = tmp_path / "training"
    command = [sys.executable, "-m", "omni.primer.training", "--smoke", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (WEIGHTS / "model.safetensors").read_bytes() == before
    told = diary.entries(out)
    assert told[0]["run"]["layers"] == 2
    assert {"text", "visual", "audio"} <= set(told[-2]["losses"])
    answers = told[-1]["answers"]
    assert [one["asked"] for one in answers] == list(diary.REQUESTS)
    page = (out / "report.html").read_text()
    assert "draw a cat on blue" in page and "<polyline" in page
    engine = PrimerEngine.open(folder=out / "shipped", slabs=tmp_path)
    asked = Conversation(tmp_path, (Message("user", (Text("draw a cat on blue"),)),))
    made = [one for one in engine.reply(asked, Wish(frozenset({"image"}))) if isinstance(one, ImageReady)]
    assert made[0].pixels.shape == (256, 256, 3)


@pytest.mark.skipif(not world.FONT.exists() or not voices.available(), reason="there is no emoji font, or no espeak-ng")
def test_a_training_by_steps_is_the_same_every_time(tmp_path: Path):
    made = []
    for name in ("one", "other"):
        out = tmp_path / name
        take_tokenizers(out)
        options = ["--size", "tiny", "--steps", "5", "--tokens", "1000", "--threads", "1"]
        command = [sys.executable, "-m", "omni.primer.training.fit_model", "--out", str(out), *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        made.append((out / "model.safetensors").read_bytes())
    assert made[0] == made[1]
    assert diary.entries(tmp_path / "one")[-1]["step"] == 5


def test_a_diary_that_was_broken_off_is_read_to_its_last_whole_line(tmp_path: Path):
    diary.note(tmp_path, step=25, losses={"text": [0.5, 0.9]})
    with (tmp_path / diary.FILE).open("a") as file:
        file.write('{"step": 50, "los')
    assert [one["step"] for one in diary.entries(tmp_path)] == [25]
    assert diary.entries(tmp_path / "nowhere") == []
