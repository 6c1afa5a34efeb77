"""A decoder that misbehaves is ended, and this process goes on."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from media_files import clip_file, photo, picture_file, sound_file, tone

from omni import media
from omni.errors import Refused
from omni.media import sandbox
from omni.media.limits import Limits
from omni.media.sniff import Found, sniff

ROUNDS = int(os.environ.get("MEDIA_FUZZ", "40"))  # some hundreds by hand
CONFINED = "from omni.media.limits import Limits; from omni.media.sandbox import confine; confine(Limits(**{})); "


@pytest.fixture
def upload(tmp_path):
    (tmp_path / "upload").write_bytes(b"some bytes")
    with (tmp_path / "upload").open("rb") as file:
        yield file


def run(upload, code: str, **bounds):
    """Run ``code`` in place of the decoder."""
    confined = CONFINED.format(bounds)
    return sandbox.run(upload, {}, Limits(**bounds), ("-c", confined + code))


def children() -> set[int]:
    """The processes that this one has started and not buried."""
    return {child.pid for child in psutil.Process().children()}


def test_a_program_reads_the_upload_and_answers_with_facts_and_bytes(upload):
    code = r"import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(b'{\"n\": %d}\n' % len(d) + d[::-1])"
    assert run(upload, code) == ({"n": 10}, b"setyb emos")


def test_a_decoder_that_hangs_is_killed(upload):
    before = children()
    with pytest.raises(Refused, match="took too long"):
        run(upload, "import time; time.sleep(60)", decode_seconds=1.0)
    assert children() <= before


def test_a_decoder_that_eats_memory_is_stopped(upload):
    with pytest.raises(Refused, match="cannot be read"):
        run(upload, "x = bytearray(2 ** 31)")


def test_the_real_decoder_says_that_a_file_needs_too_much_memory(tmp_path):
    path = picture_file(tmp_path / "p", np.zeros((4000, 4000, 3), np.uint8), compress_level=1)
    with pytest.raises(Refused, match="too much memory"):
        media.take(path, tmp_path / "conversation", Limits(decode_bytes=230 * 2**20))


@pytest.mark.parametrize(
    "code", ["import os; os.abort()", "import os; os._exit(3)", "print('nonsense')", "print('[]')", ""]
)
def test_a_decoder_that_dies_or_babbles_is_a_sentence(upload, code):
    with pytest.raises(Refused, match="cannot be read"):
        run(upload, code)


@pytest.mark.parametrize(
    "code",
    ["open('/etc/hostname')", "import socket; socket.socket()", "import subprocess; subprocess.run(['true'])"],
)
def test_a_confined_process_opens_no_file_no_connection_and_no_program(upload, code):
    answer = f"\ntry:\n    {code}\nexcept OSError as e:\n    print('{{\"errno\": %d}}' % e.errno)"
    preload = "import socket, subprocess; "
    confined = preload + CONFINED.format({}) + answer
    facts, _ = sandbox.run(upload, {}, Limits(), ("-c", confined))
    assert facts == {"errno": 24}  # too many open files


def test_the_decoder_inherits_no_secrets(upload, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    facts, _ = sandbox.run(upload, {}, Limits(), ("-c", code))
    assert "HF_TOKEN" not in facts


def test_the_decoder_loads_no_model_library():
    code = "import sys, json, omni.media.decode; print(json.dumps(sorted(sys.modules)))"
    root = Path(__file__).resolve().parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True).stdout
    assert not {"torch", "transformers", "gradio", "scipy", "pandas"} & set(json.loads(said))


def mutated(data: bytes, random_: random.Random) -> bytes:
    """The file with one to three wounds: cut, flipped, zeroed, doubled, or swapped pieces."""
    data = bytearray(data)
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(max(1, len(data)))
        length = random_.randint(1, 64)
        wound = random_.choice(["cut", "flip", "zero", "double", "fill", "early"])
        if wound == "cut":
            del data[at:]
        elif wound == "flip":
            for _ in range(min(len(data), random_.randint(1, 20))):
                data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        elif wound == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif wound == "double":
            data[at:at] = data[at : at + 1024]
        elif wound == "fill":
            data[at : at + length] = b"\xff" * len(data[at : at + length])
        else:  # headers are where parsers believe most
            at = random_.randrange(min(len(data), 200) or 1)
            data[at : at + 4] = random_.randbytes(4)
    return bytes(data)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    """One small real file of each kind."""
    folder = tmp_path_factory.mktemp("seeds")
    paths = [picture_file(folder / kind, photo(64, 48), kind) for kind in ("PNG", "JPEG", "WEBP")]
    paths += [sound_file(folder / kind, tone(0.3), kind) for kind in ("wav", "flac", "mp3", "ogg", "m4a", "webm")]
    paths += [clip_file(folder / f"clip.{kind}", 0.5, size=(64, 48), container=kind) for kind in ("mp4", "mov", "webm")]
    return [path.read_bytes() for path in paths]


def test_any_bytes_are_named_or_refused(seeds):
    random_ = random.Random(20)
    for round_ in range(600):
        data = mutated(random_.choice(seeds), random_) if round_ % 4 else random_.randbytes(random_.randrange(200))
        try:
            assert isinstance(sniff(io.BytesIO(data)), Found)
        except Refused as refused:
            assert str(refused).endswith(".")


def test_wounded_files_become_parts_or_sentences(seeds, tmp_path):
    """From several threads at once, as a server takes them."""
    random_ = random.Random(21)
    folder, before = tmp_path / "conversation", children()
    wounded = [mutated(seeds[round_ % len(seeds)], random_) for round_ in range(ROUNDS)]

    def offer(round_: int) -> bool:
        upload = tmp_path / str(round_)
        upload.write_bytes(wounded[round_])
        try:
            return media.take(upload, folder).path.exists()
        except Refused as refused:
            assert str(refused).endswith(".") and "took too long" not in str(refused), round_
            return False

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(offer, range(ROUNDS)))
    assert 0 < taken == len(list(folder.iterdir()))
    assert children() <= before
