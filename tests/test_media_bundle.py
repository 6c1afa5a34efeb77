"""A conversation that was saved and is opened again, and ZIPs that only say they are one."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from media_files import clip_file, pdf_bytes, photo, picture_file, sound_file, tone

from omni import media
from omni.conversation import Conversation, Message, Text, things
from omni.errors import Refused
from omni.media import bundle
from omni.media.limits import Limits


@pytest.fixture(scope="module")
def thread(tmp_path_factory) -> Conversation:
    """Two turns with every kind of part."""
    files, folder = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("thread")
    picture = media.take(picture_file(files / "p", photo(60, 40)), folder)
    sound = media.take(sound_file(files / "s", tone(0.2), "wav"), folder)
    clip = media.take(clip_file(files / "c", 0.5), folder)
    asked = Message("user", (picture, Text("what is <this>?\n好")))
    said = Message("assistant", (Text("a picture"), media.write_audio(tone(0.2), 16_000, folder, "a picture")), False)
    return Conversation(folder, (asked, said, Message("user", (sound, clip)), Message("assistant", (Text("half"),))))


def saved(thread: Conversation, path: Path, told: dict | None = None, **changed) -> Path:
    told = told or json.loads(bundle.description(thread, frozenset({3})))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(bundle.NAME, json.dumps(told | changed))
        for one in {part for message in thread.messages for part in message.parts if not isinstance(part, Text)}:
            file.write(one.path, one.path.name)
    return path


def test_what_was_saved_comes_back(thread: Conversation, tmp_path: Path):
    opened = bundle.open_bundle(saved(thread, tmp_path / "a.zip"), tmp_path / "new")
    assert opened.stopped == {3}
    assert [message.role for message in opened.messages] == ["user", "assistant"] * 2
    for mine, theirs in zip(opened.messages, thread.messages, strict=True):
        assert mine.text == theirs.text and mine.liked is theirs.liked
        for one, other in zip(mine.parts, theirs.parts, strict=True):
            assert type(one) is type(other)
            if not isinstance(one, Text):
                assert one.path.parent == tmp_path / "new"
                assert one.path != other.path
    picture, spoken = opened.messages[0].parts[0], opened.messages[1].parts[1]
    assert (media.read_image(picture) == media.read_image(thread.messages[0].parts[0])).all()
    assert spoken.transcript == "a picture"


def test_loose_files_are_packed_into_what_can_be_opened(thread: Conversation, tmp_path: Path):
    description = tmp_path / "any name.json"
    description.write_text(bundle.description(thread, frozenset({3})))
    files = [part.path for message in thread.messages for part in message.parts if not isinstance(part, Text)]
    bundle.pack([*files, description], tmp_path / "a.zip")
    opened = bundle.open_bundle(tmp_path / "a.zip", tmp_path / "new")
    assert [message.text for message in opened.messages] == [message.text for message in thread.messages]
    assert [len(message.parts) for message in opened.messages] == [len(message.parts) for message in thread.messages]
    assert opened.stopped == {3}


def test_many_files_are_decoded_in_one_process(thread: Conversation, tmp_path: Path, monkeypatch):
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **more: started.append(given) or popen(*given, **more))
    bundle.open_bundle(saved(thread, tmp_path / "a.zip"), tmp_path / "new")
    assert len(started) == 1


def test_one_file_that_is_refused_refuses_all(thread: Conversation, tmp_path: Path):
    path = saved(thread, tmp_path / "a.zip")
    broken = tmp_path / "b.zip"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(broken, "w") as file:
        for name in whole.namelist():
            content = whole.read(name)
            file.writestr(name, content[: len(content) // 2] if name.endswith(".png") else content)
    with pytest.raises(Refused, match="damaged or cut off"):
        bundle.open_bundle(broken, tmp_path / "new")
    assert not list((tmp_path / "new").glob("*"))


def test_a_document_comes_back_with_its_pages(tmp_path: Path):
    folder = tmp_path / "thread"
    (tmp_path / "report.pdf").write_bytes(pdf_bytes("hello", ""))
    document = media.take_document(tmp_path / "report.pdf", folder)
    asked = Message("user", (*document.parts, Text("what is it?")))
    thread = Conversation(folder, (asked, Message("assistant", (Text("a report"),))))
    opened = bundle.open_bundle(saved(thread, tmp_path / "a.zip"), tmp_path / "new").messages[0]
    assert opened.parts[0] == document.parts[0] and opened.text == "what is it?"
    assert [page.document for page in opened.parts[1:3]] == ["report.pdf"] * 2
    assert things(opened.attached) == [opened.attached]


HOSTILE = {
    "another format": {"format": "zip"},
    "no messages": {"messages": 3},
    "half a turn": {"messages": [{"role": "user", "parts": []}]},
    "roles exchanged": {"messages": [{"role": "assistant", "parts": []}, {"role": "user", "parts": []}]},
    "a part that is none": {"messages": [{"role": "user", "parts": [{}]}, {"role": "assistant", "parts": []}]},
    "a file that is not there": {
        "messages": [{"role": "user", "parts": [{"image": "../../etc/passwd"}]}, {"role": "assistant", "parts": []}]
    },
    "itself as a picture": {
        "messages": [{"role": "user", "parts": [{"image": bundle.NAME}]}, {"role": "assistant", "parts": []}]
    },
}


@pytest.mark.parametrize("flaw", HOSTILE)
def test_what_is_not_a_conversation_is_refused_and_leaves_nothing(flaw: str, thread: Conversation, tmp_path: Path):
    with pytest.raises(Refused):
        bundle.open_bundle(saved(thread, tmp_path / "a.zip", **HOSTILE[flaw]), tmp_path / "new")
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_a_kind_that_the_file_is_not_is_refused(thread: Conversation, tmp_path: Path):
    told = json.loads(bundle.description(thread))
    told["messages"][2]["parts"][0] = {"video": told["messages"][2]["parts"][0]["audio"]}
    with pytest.raises(Refused, match="damaged"):
        bundle.open_bundle(saved(thread, tmp_path / "a.zip", told), tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_a_newer_form_says_so(thread: Conversation, tmp_path: Path):
    with pytest.raises(Refused, match="newer"):
        bundle.open_bundle(saved(thread, tmp_path / "a.zip", version=2), tmp_path / "new")


def test_no_zip_and_half_a_zip_are_refused(thread: Conversation, tmp_path: Path):
    whole = saved(thread, tmp_path / "a.zip")
    for number, data in enumerate((b"", b"PK\3\4 nothing", whole.read_bytes()[: whole.stat().st_size // 2])):
        broken = tmp_path / f"{number}.zip"
        broken.write_bytes(data)
        with pytest.raises(Refused, match="damaged"):
            bundle.open_bundle(broken, tmp_path / "new")


def test_a_bomb_is_not_unpacked(tmp_path: Path):
    """A gigabyte of zeros in a megabyte, in the place of the description."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open(bundle.NAME, "w") as entry:
        for _ in range(64):
            entry.write(bytes(2**20))
    with pytest.raises(Refused, match="unpacks to more"):
        bundle.open_bundle(path, tmp_path / "new")


@pytest.mark.parametrize("hidden", (b"", b"a comment behind the list"))
def test_a_list_of_far_too_many_entries_is_not_read(hidden: bytes, thread: Conversation, tmp_path: Path, monkeypatch):
    path = saved(thread, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.comment = hidden
        for number in range(0 if hidden else 25_000):
            file.writestr(f"{number:05}", b"")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *given: pytest.fail("its list was read"))
    with pytest.raises(Refused, match="damaged"):
        bundle.open_bundle(path, tmp_path / "new")


def test_an_encrypted_entry_is_refused(thread: Conversation, tmp_path: Path):
    path = saved(thread, tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    for start in (data.find(b"PK\3\4") + 6, data.find(b"PK\1\2") + 8):
        data[start] |= 1
    path.write_bytes(data)
    with pytest.raises(Refused, match="damaged"):
        bundle.open_bundle(path, tmp_path / "new")


def test_too_many_files_are_named(thread: Conversation, tmp_path: Path):
    with pytest.raises(Refused, match="has 4 files; at most 3 can"):
        bundle.open_bundle(saved(thread, tmp_path / "a.zip"), tmp_path / "new", Limits(saved_files=3))
    assert not (tmp_path / "new").exists()


def test_a_conversation_of_too_many_turns_or_bytes_says_so(thread: Conversation, tmp_path: Path):
    path = saved(thread, tmp_path / "a.zip")
    for limits, sentence in ((Limits(saved_messages=2), "at most 1 turns"), (Limits(saved_bytes=2_000), "too large")):
        with pytest.raises(Refused, match=sentence):
            bundle.open_bundle(path, tmp_path / "new", limits)
    assert not (tmp_path / "new").exists()


def test_files_that_take_too_long_together_are_refused(thread: Conversation, tmp_path: Path):
    with pytest.raises(Refused, match="took too long"):
        bundle.open_bundle(saved(thread, tmp_path / "a.zip"), tmp_path / "new", Limits(saved_seconds=0.05))
    assert not list((tmp_path / "new").glob("*"))


def test_a_hundred_turns_with_media_come_back(thread: Conversation, tmp_path: Path):
    """A long talk with a camera has hundreds of files."""
    long = Conversation(thread.folder, thread.messages * 50)
    opened = bundle.open_bundle(saved(long, tmp_path / "a.zip"), tmp_path / "new")
    assert len(opened.messages) == 200 and len(list((tmp_path / "new").iterdir())) == 200
