"""A live conversation: turns, what was seen, interruptions, failures; on the scripted engine, without a browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from media_files import jpeg_bytes, photo
from speaking import frames, silence, spoken

from omni.conversation import Audio, Conversation, Image
from omni.engine import Wish
from omni.events import Event, Finished, SpeechChunk, TextDelta, Usage
from omni.media import read_audio
from omni.provenance.credentials import read
from omni.provenance.keys import Keys
from omni.provenance.marks import watermark_of
from omni.ui import talk
from omni.ui.camera import spread
from omni.ui.listening import RATE
from omni.ui.pacing import OneAtATime
from omni.ui.talk import NOTHING_SAID, TIME_IS_UP, Speech, Talk


@dataclass
class Scene:
    """A talk, what it told, and the microphone of the one who talks."""

    talk: Talk
    told: list = field(default_factory=list)

    def say(self, *pieces: np.ndarray, place: int | None = None) -> None:
        for frame in frames(*pieces):
            self.talk.hear((frame * 32767).astype("<i2").tobytes(), place)

    def kinds(self, kind: str) -> list[dict]:
        return [one for one in self.told if isinstance(one, dict) and one["kind"] == kind]

    def states(self) -> list[str]:
        return [one["state"] for one in self.kinds("state")]

    def speech(self) -> list[Speech]:
        return [one for one in self.told if isinstance(one, Speech)]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what the reply's thread does; a test's own limit ends a wait in vain."""
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)

    async def answered(self) -> None:
        await self.talk.turn.task


@pytest.fixture
def play(tmp_path: Path, keys: Keys) -> Callable:
    """Runs a scene with a started talk."""

    def run(scene: Callable[[Scene], Awaitable[None]], engine: object | None = None) -> Scene:
        async def main() -> Scene:
            told: list = []
            here = Scene(Talk(engine or FakeEngine(), OneAtATime(), tmp_path, keys, told.append), told)
            here.talk.choose()
            here.talk.start(60)
            await scene(here)
            await here.talk.leave()
            return here

        with ThreadPoolExecutor(1) as alone:  # the browser tests leave a loop running in this thread
            return alone.submit(asyncio.run, main()).result()

    return run


TURN = (silence(0.3), spoken("question"), silence(0.7))


def test_what_is_said_is_answered_aloud(play: Callable):
    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.answered()
        asked, reply = here.talk.here.conversation.messages
        (sound,) = asked.parts
        assert isinstance(sound, Audio) and sound.transcript == "a hum"
        assert "a sound of" in reply.text

    here = play(scene)
    assert here.states()[:4] == ["idle", "listening", "hearing", "thinking"]
    samples = np.concatenate([one.chunk.samples for one in here.speech()])
    assert len(samples) / RATE == pytest.approx(2.0)
    last = here.kinds("turn")[-1]
    assert last["done"] and last["figures"] and last["asked"]["parts"][0]["caption"] == "a hum"


def test_what_is_heard_is_marked_and_is_what_the_signed_file_holds(play: Callable, keys: Keys):
    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.answered()
        heard = np.concatenate([one.chunk.samples for one in here.speech()])
        sound = here.talk.here.conversation.messages[-1].parts[-1]
        assert np.abs(read_audio(sound, RATE) - heard).max() <= 2**-15
        with sound.path.open("rb") as file:
            assert read(file, keys)[0].state == "ours"
        assert watermark_of(keys.watermark).find(sound).sure

    play(scene)


def test_the_end_of_the_speech_is_told_in_frames_of_the_microphone(play: Callable):
    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.answered()

    (thinking,) = (one for one in play(scene).kinds("state") if one.get("turn"))
    assert thinking["last"] * 512 / RATE == pytest.approx(0.3 + 1.0, abs=0.15)


def test_pictures_of_a_turn_reach_the_engine_and_no_more_than_it_takes(play: Callable):
    async def scene(here: Scene) -> None:
        here.talk.see(jpeg_bytes(photo()))  # nobody speaks yet
        assert not here.talk.looking
        here.say(silence(0.3), spoken("question"))
        for _ in range(3):
            here.talk.see(jpeg_bytes(photo(1200, 900)))
            await asyncio.wait(here.talk.looking)
        here.say(silence(0.7))
        await here.answered()
        first, second, sound = here.talk.here.conversation.messages[0].parts
        assert isinstance(first, Image) and (second.width, second.height) == (512, 384) and isinstance(sound, Audio)
        assert len(list(here.talk.here.folder.glob("*.png"))) == 2

    play(scene)


def test_a_picture_that_comes_too_late_is_in_no_turn(play: Callable, monkeypatch: pytest.MonkeyPatch):
    go, slow = threading.Event(), talk.taken

    def taken(picture: bytes, folder: Path) -> Image:
        if picture == b"late":
            go.wait(20)
        return slow(jpeg_bytes(photo()), folder)

    monkeypatch.setattr(talk, "taken", taken)

    async def scene(here: Scene) -> None:
        here.say(silence(0.3), spoken("question"))
        here.talk.see(b"first")
        await asyncio.wait(here.talk.looking)
        here.talk.see(b"late")
        here.say(silence(0.7))
        await here.answered()
        go.set()
        await asyncio.wait(here.talk.looking)
        assert here.talk.shown == [] and len(list(here.talk.here.folder.glob("*.png"))) == 1

    play(scene)


def test_what_is_no_picture_is_refused_in_a_sentence(play: Callable):
    async def scene(here: Scene) -> None:
        here.say(silence(0.3), spoken("question"))
        here.talk.see(b"<svg/>")
        here.say(silence(0.7))
        await here.answered()
        assert len(here.talk.here.conversation.messages) == 2

    assert play(scene).kinds("problem")[0]["sentence"].endswith(".")


def test_speech_over_a_reply_ends_it_and_is_the_next_turn(play: Callable):
    engine = FakeEngine()

    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.until(lambda: len(here.speech()) > 3)
        first = here.talk.turn
        here.say(spoken("request"), place=3000)
        assert here.kinds("silence") and here.states()[-1] == "hearing"
        told = len(here.speech())
        await first.task
        await here.until(lambda: engine.closed == 1)
        assert len(here.speech()) == told
        here.say(silence(0.7))
        await here.answered()
        _, cut, _, whole = here.talk.here.conversation.messages
        assert next(part for part in cut.parts if isinstance(part, Audio)).seconds == pytest.approx(3000 / RATE)
        assert next(part for part in whole.parts if isinstance(part, Audio)).seconds == pytest.approx(2.0)
        assert here.talk.here.stopped == {1}

    play(scene, engine)


def test_speech_over_a_reply_that_is_made_but_still_sounds_silences_it(play: Callable):
    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.answered()
        here.say(spoken("request"), place=3000)
        assert len(here.kinds("silence")) == 1 and here.kinds("stopped") == [{"kind": "stopped", "turn": 1}]

    play(scene)


def test_whoever_goes_on_speaking_had_not_finished(play: Callable):
    """The reply has said nothing yet: the two pieces are one turn."""
    model = OneAtATime()

    async def scene(here: Scene) -> None:
        here.talk.model = model
        with model.turn():  # somebody else's reply
            here.say(*TURN)
            await here.until(lambda: "waiting" in here.states())
            here.say(spoken("request"), silence(0.7))
        await here.answered()
        (sound,) = here.talk.here.conversation.messages[0].parts
        assert sound.seconds > 2.2
        assert len(here.talk.here.conversation.messages) == 2

    here = play(scene)
    assert here.kinds("withdrawn") == [{"kind": "withdrawn", "turn": 1}]


def test_a_noise_after_the_turn_does_not_lose_it(play: Callable):
    model = OneAtATime()

    async def scene(here: Scene) -> None:
        here.talk.model = model
        with model.turn():
            here.say(*TURN)
            await here.until(lambda: "waiting" in here.states())
            here.talk.press()
            here.talk.release()
        await here.answered()
        assert len(here.talk.here.conversation.messages) == 2

    play(scene)


@pytest.mark.parametrize("voice", ["hoarse", None])
def test_a_failure_is_a_sentence_and_the_talk_goes_on(play: Callable, voice: str | None):
    class Silent(FakeEngine):
        def reply(self, conversation, wish):
            yield Finished(Usage())

    async def scene(here: Scene) -> None:
        here.talk.choose(voice=voice)
        here.say(*TURN)
        await here.answered()
        assert here.talk.here.conversation.messages == () and here.talk.here.turn is None
        here.talk.engine = FakeEngine()
        here.talk.choose(voice="alto")
        here.say(*TURN)
        await here.answered()
        assert len(here.talk.here.conversation.messages) == 2

    sentence = next(one["sentence"] for one in play(scene, None if voice else Silent()).kinds("turn") if one["done"])
    assert sentence == ("The model ran out of memory; try a shorter message." if voice else NOTHING_SAID)


def test_what_came_of_a_reply_that_broke_off_stays_with_a_sentence(play: Callable):
    class Breaking(FakeEngine):
        def reply(self, conversation, wish):
            yield TextDelta("It is")
            yield Finished(Usage(), "cut", "The line broke off; please ask again.")

    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.answered()
        assert here.talk.here.conversation.messages[-1].text == "It is"

    last = play(scene, Breaking()).kinds("turn")[-1]
    assert last["done"] and last["sentence"] == "The line broke off; please ask again."
    assert last["reply"]["stopped"] and len(last["reply"]["parts"]) == 1


def test_stop_ends_the_reply_and_nothing_more_is_heard(play: Callable):
    engine = FakeEngine()

    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.until(here.speech)
        here.talk.stop()
        await here.answered()
        await here.until(lambda: not engine.running)
        assert engine.closed == 1 and here.states()[-1] == "idle"
        here.say(*TURN)
        assert here.talk.turns == 1

    play(scene, engine)


def test_time_is_limited(play: Callable):
    async def scene(here: Scene) -> None:
        here.talk.start(0.0)
        await here.until(lambda: here.kinds("over"))
        assert not here.talk.running

    assert play(scene).kinds("over") == [{"kind": "over", "sentence": TIME_IS_UP}]


def test_a_new_conversation_forgets_files_and_words(play: Callable):
    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.until(here.speech)
        before = here.talk.here.folder
        here.talk.clear()  # in the middle of a reply
        await here.until(lambda: here.kinds("cleared"))
        assert not before.exists() and here.talk.here.conversation.messages == ()

    play(scene)


def test_leaving_deletes_everything(play: Callable, tmp_path: Path):
    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.until(here.speech)

    play(scene)
    assert list(tmp_path.iterdir()) == []


def test_small_pieces_of_speech_at_another_rate_are_no_trouble(play: Callable):
    class Crumbs(FakeEngine):
        def reply(self, conversation, wish):
            yield TextDelta("crumbs")
            for start in range(0, 30, 3):
                yield SpeechChunk(np.zeros(3, np.float32), 24_000, start)
            yield Finished(Usage())

    async def scene(here: Scene) -> None:
        here.say(*TURN)
        await here.answered()

    assert len(play(scene, Crumbs()).speech()) == 10


def test_pictures_are_spread_over_the_time():
    assert spread(list(range(10)), 1) == [9]
    assert spread(list(range(10)), 3)[-1] == 9
    assert spread([1, 2], 3) == [1, 2]


class Eager(FakeEngine):
    """May be begun on suspicion. State: how often it was asked."""

    capabilities = replace(FakeEngine.capabilities, eager=True)

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def reply(self, conversation: Conversation, wish: Wish) -> Iterator[Event]:
        self.asked += 1
        yield from super().reply(conversation, wish)


def test_a_reply_is_begun_in_the_pause_and_heard_after_it(play: Callable):
    engine = Eager()

    async def scene(here: Scene) -> None:
        here.say(silence(0.3), spoken("question"), silence(0.35))
        await here.until(lambda: len(here.talk.turn.kept) > 3)
        assert here.states()[-1] == "hearing" and not here.speech() and not here.kinds("turn")
        here.say(silence(0.35))
        assert here.states()[-2:] == ["thinking", "thinking"] and here.speech()
        await here.answered()
        assert len(here.talk.here.conversation.messages) == 2

    here = play(scene, engine)
    assert engine.asked == 1 and here.kinds("turn")[-1]["done"]
    assert sum(len(one.chunk.samples) for one in here.speech()) / RATE == pytest.approx(2.0)


def test_a_reply_that_was_whole_before_the_turn_was_over_waits_for_it(play: Callable):
    class Quick(Eager):
        def reply(self, conversation, wish):
            yield TextDelta("Yes.")
            yield Finished(Usage())

    async def scene(here: Scene) -> None:
        here.say(silence(0.3), spoken("question"), silence(0.35))
        await here.until(lambda: here.talk.turn.kept)
        await asyncio.sleep(0.1)
        assert here.talk.turn.open and here.talk.here.conversation.messages == ()
        here.say(silence(0.35))
        await here.answered()
        assert here.talk.here.conversation.messages[-1].text == "Yes."

    assert play(scene, Quick()).states()[-2:] == ["listening", "idle"]


def test_whoever_goes_on_after_a_pause_never_hears_of_the_draft(play: Callable):
    engine = Eager()

    async def scene(here: Scene) -> None:
        here.say(silence(0.3), spoken("question"))
        here.talk.see(jpeg_bytes(photo()))
        await asyncio.wait(here.talk.looking)
        here.say(silence(0.35))
        await here.until(lambda: len(here.talk.turn.kept) > 3)
        draft = here.talk.turn
        here.say(spoken("request"))
        await draft.task
        assert len(list(here.talk.here.folder.glob("*.wav"))) == 0
        here.say(silence(0.7))
        await here.answered()
        picture, sound = here.talk.here.conversation.messages[0].parts
        assert isinstance(picture, Image) and sound.seconds > 2.2
        assert len(here.talk.here.conversation.messages) == 2

    here = play(scene, engine)
    assert engine.asked == 2 and not here.kinds("withdrawn") and not here.kinds("silence")
    assert here.states().count("hearing") == 1 and {one["turn"] for one in here.kinds("turn")} == {2}


@pytest.mark.parametrize("engine", [FakeEngine, Eager])
def test_no_draft_where_it_costs_somebody_or_keeps_somebody_waiting(play: Callable, engine: type):
    model = OneAtATime()

    async def scene(here: Scene) -> None:
        here.talk.model = model
        with model.turn() if engine is Eager else nullcontext():
            here.say(silence(0.3), spoken("question"), silence(0.35))
            assert here.talk.turn is None
            here.say(silence(0.35))
        await here.answered()

    assert len(play(scene, engine()).kinds("turn")) > 0


def test_stop_ends_a_draft(play: Callable):
    engine = Eager()

    async def scene(here: Scene) -> None:
        here.say(silence(0.3), spoken("question"), silence(0.35))
        await here.until(lambda: here.talk.turn.kept)
        here.talk.stop()
        await here.answered()
        assert here.states()[-1] == "idle" and here.talk.here.conversation.messages == ()
        here.talk.start(60)
        here.talk.press()
        here.talk.release()  # a noise: nothing waits for a reply
        here.say(*TURN)
        await here.answered()
        assert len(here.talk.here.conversation.messages) == 2

    assert not play(scene, engine).kinds("turn")[-1].get("sentence")
