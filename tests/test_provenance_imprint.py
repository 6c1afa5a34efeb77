"""The files of a reply: marked before they are shown, signed when they are written, never lost over either."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine, sine, square

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Text
from omni.engine import Wish
from omni.events import ClipPreview, ClipReady, ImagePreview, ImageReady, SpeechChunk, TextDelta
from omni.provenance import uploads
from omni.provenance.credentials import KEPT, Claim, read, sign
from omni.provenance.export import export
from omni.provenance.imprint import Imprint
from omni.provenance.keys import NEITHER, UNREADABLE, UNUSABLE_MARK, Keys, open_keys
from omni.provenance.marks import watermark_of
from omni.provenance.uploads import keep_credentials

RATE = 16_000
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def thread(folder: Path, *parts) -> Conversation:
    return Conversation(folder, (Message("user", (*parts, Text("please"))),))


@pytest.fixture
def imprint(tmp_path: Path, keys: Keys) -> Imprint:
    return Imprint(tmp_path, keys, "Fake", thread(tmp_path))


def credentials(part, keys: Keys):
    with part.path.open("rb") as file:
        return read(file, keys)[0]


def test_every_finished_file_is_signed_and_marked(imprint: Imprint, keys: Keys):
    frames, voice = np.stack([big(4 * index) for index in range(8)]), speech(2.0)
    ready = [ImageReady(big(20)), ClipReady(frames, 8.0, voice, RATE), SpeechChunk(voice, RATE, 0)]
    picture, clip, chunk = imprint.marked(event for event in ready)
    parts = [
        imprint.image(picture.pixels, "a square"),
        imprint.video(clip.frames, clip.fps, clip.samples, clip.rate, "it moves"),
        imprint.audio(chunk.samples, chunk.rate, "words"),
    ]
    for part in parts:
        told = credentials(part, keys)
        assert (told.state, told.made, told.engine, told.prompt) == ("ours", "created", "Fake", "")
        assert watermark_of(keys.watermark).find(part).sure
    assert imprint.notices == []


def test_what_is_heard_is_what_is_written(imprint: Imprint, keys: Keys):
    voice = speech(2.0)
    chunks = [SpeechChunk(voice[start : start + 1280], RATE, start) for start in range(0, len(voice), 1280)]
    heard = list(imprint.marked(chunk for chunk in chunks))
    assert [chunk.start for chunk in heard] == [chunk.start for chunk in chunks]
    samples = np.concatenate([chunk.samples for chunk in heard])
    part = imprint.audio(samples, RATE, "")
    assert np.abs(media.read_audio(part, RATE) - samples).max() <= 2**-15
    half = media.write_audio(np.concatenate([chunk.samples for chunk in heard[:12]]), RATE, imprint.folder)
    assert watermark_of(keys.watermark).find(half).sure  # a stream that was cut off after a second


def test_previews_are_marked_too(imprint: Imprint):
    shown = list(imprint.marked(event for event in [ImagePreview(big(20), 0.5), ClipPreview(big(20), 0, 8)]))
    assert (shown[0].pixels != big(20)).any() and (shown[1].frame == shown[0].pixels).all()


def test_words_and_the_order_of_events_stay(imprint: Imprint):
    conversation = Conversation(imprint.folder, (Message("user", (Text("everything"),)),))
    plain = list(FakeEngine().reply(conversation, Wish()))
    marked = list(imprint.marked(FakeEngine().reply(conversation, Wish())))
    assert [type(event) for event in marked] == [type(event) for event in plain]
    assert [e for e in marked if isinstance(e, TextDelta)] == [e for e in plain if isinstance(e, TextDelta)]


def test_closing_closes_the_engine(imprint: Imprint):
    engine = FakeEngine()
    conversation = Conversation(imprint.folder, (Message("user", (Text("slow"),)),))
    events = imprint.marked(engine.reply(conversation, Wish()))
    next(events)
    events.close()
    assert (engine.running, engine.closed) == (0, 1)


def test_what_the_visitor_gave_stands_in_the_credentials(tmp_path: Path, keys: Keys):
    picture, sound = media.write_image(square(3), tmp_path), media.write_audio(speech(1.0), RATE, tmp_path)
    imprint = Imprint(tmp_path, keys, "Fake", thread(tmp_path, picture, sound), tells=True)
    edited = credentials(imprint.image(big(20), ""), keys)
    assert (edited.made, edited.prompt) == ("edited", "please")
    assert sorted(line.partition(" a ")[0] for line in edited.ingredients) == ["edited from", "made with"]
    clip, voice = imprint.video(big(3)[None], 8.0, np.zeros(0), RATE, ""), imprint.audio(speech(1.0), RATE, "")
    assert {credentials(part, keys).made for part in (clip, voice)} == {"created"}  # a voice is no edit of a voice


def test_the_exchange_before_is_named_and_not_what_came_earlier(tmp_path: Path, keys: Keys):
    pictures = [media.write_image(square(place), tmp_path) for place in (1, 2, 3)]
    turns = [(Message("user", (one, Text("this?"))), Message("assistant", (Text("yes"),))) for one in pictures]
    messages = (*turns[0], *turns[1], Message("user", (Text("make it blue"),)))
    told = credentials(Imprint(tmp_path, keys, "Fake", Conversation(tmp_path, messages)).image(big(1), ""), keys)
    assert told.made == "created" and len(told.ingredients) == 1


def test_credentials_of_an_upload_are_kept_shown_and_carried_on(tmp_path: Path, keys: Keys):
    other = open_keys(tmp_path / "other", environment={})
    theirs = media.write_image(big(30), tmp_path)
    sign(theirs.path, Claim("Their model", NOW, marked=False), other)
    part = keep_credentials(media.take(theirs.path, tmp_path), theirs.path, keys)
    assert part.credentials.startswith("signed by Omni Playground ") and part.path.with_suffix(KEPT).exists()
    made = Imprint(tmp_path, keys, "Fake", thread(tmp_path, part)).image(big(20), "")
    assert credentials(made, keys).ingredients == (f"edited from a file {part.credentials} (image)",)
    plain = media.write_image(big(1), tmp_path)
    assert keep_credentials(media.take(plain.path, tmp_path), plain.path, keys).credentials == ""


def test_credentials_too_large_to_carry_on_are_not_dropped_silently(tmp_path: Path, keys: Keys, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_KEPT", 1000)
    theirs = media.write_image(big(30), tmp_path)
    sign(theirs.path, Claim("Their model", NOW, marked=False), keys)
    part = uploads.keep_credentials(media.take(theirs.path, tmp_path), theirs.path, keys)
    assert part.credentials.endswith(", too large to be carried on") and not part.path.with_suffix(KEPT).exists()


def test_changed_credentials_of_an_upload_are_shown_as_such(tmp_path: Path, keys: Keys):
    theirs = media.write_audio(speech(1.0), RATE, tmp_path)
    sign(theirs.path, Claim("Their model", NOW, marked=False), keys)
    theirs.path.write_bytes(theirs.path.read_bytes().replace(b"Their model", b"Their maker"))
    part = keep_credentials(media.take(theirs.path, tmp_path), theirs.path, keys)
    assert part.credentials.endswith(", changed since")
    made = Imprint(tmp_path, keys, "Fake", thread(tmp_path, part)).image(big(20), "")
    told = credentials(made, keys)
    assert told.state == "ours" and "did not hold" in told.ingredients[0]


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [(("signing",), UNREADABLE), (("watermark",), UNUSABLE_MARK), (("signing", "watermark"), NEITHER)],
)
def test_without_a_key_the_answer_is_there_and_a_sentence(tmp_path: Path, keys: Keys, missing, sentence: str):
    fewer = replace(keys, **dict.fromkeys(missing), trouble=sentence)
    imprint = Imprint(tmp_path, fewer, "Fake", thread(tmp_path))
    [event] = imprint.marked(event for event in [ImageReady(big(20))])
    part = imprint.image(event.pixels, "a square")
    assert isinstance(part, Image) and media.read_image(part).shape == (256, 256, 3)
    assert imprint.notices == [sentence]
    assert credentials(part, keys).state == ("none" if "signing" in missing else "ours")
    assert watermark_of(keys.watermark).find(part).sure == ("watermark" not in missing)


def test_a_notice_is_said_once(tmp_path: Path, keys: Keys):
    imprint = Imprint(tmp_path, replace(keys, signing=None, trouble=UNREADABLE), "Fake", thread(tmp_path))
    for place in range(3):
        imprint.image(square(place), "")
    assert imprint.notices == [UNREADABLE]


def test_a_conversation_to_take_along_is_signed_and_says_what_is_made(tmp_path: Path, keys: Keys):
    imprint = Imprint(tmp_path, keys, "Fake", thread(tmp_path))
    reply = Message(
        "assistant", (Text("Here <b>"), imprint.image(big(20), "a square"), imprint.audio(speech(1), RATE, "hm"))
    )
    path, notice = export(imprint.asked.plus(reply), "Fake", keys)
    with path.open("rb") as file:
        told, _ = read(file, keys)
    assert notice == "" and (told.state, told.made, told.engine) == ("ours", "created", "Fake")
    names, page = contents(path)
    assert {part.path.name for part in reply.parts if isinstance(part, (Image, Audio))} <= names
    assert page.count("Made by AI") == 1 and "Here &lt;b&gt;" in page and "a square" in page


def test_what_a_visitor_thought_of_a_reply_goes_along_in_the_page_and_in_the_description(tmp_path: Path, keys: Keys):
    replies = {"Lovely.": True, "Dull.": False, "Well.": None}
    messages = [turn for said, liked in replies.items() for turn in (
        Message("user", (Text("say"),)), Message("assistant", (Text(said),), liked))]  # fmt: skip
    path, _ = export(Conversation(tmp_path, tuple(messages)), "Fake", keys)
    page = contents(path)[1]
    good, bad, unrated = page.split("<b>Fake</b>")[1:]
    assert "Good reply" in good and "Bad reply" in bad and " reply" not in unrated
    assert [one.liked for one in media.open_bundle(path, tmp_path / "again").messages[1::2]] == list(replies.values())


def test_a_conversation_without_a_key_is_still_there(tmp_path: Path, keys: Keys):
    path, notice = export(thread(tmp_path), "Fake", replace(keys, signing=None, trouble=UNREADABLE))
    assert notice == UNREADABLE and "please" in contents(path)[1]


def contents(path: Path) -> tuple[set[str], str]:
    """The names in a ZIP, and its page."""
    with zipfile.ZipFile(path) as file:
        return set(file.namelist()), file.read("conversation.html").decode()


def big(left: int) -> np.ndarray:
    """The square of the scripted engine at the size of Primer's pictures."""
    return square(left).repeat(4, axis=0).repeat(4, axis=1)


def speech(seconds: float) -> np.ndarray:
    """A tone with a breath in it: (N,) float32."""
    count = round(seconds * RATE)
    return sine(0, count) + 0.02 * np.random.default_rng(0).standard_normal(count).astype(np.float32)
