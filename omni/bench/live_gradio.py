"""The live tab's turns over Gradio's own streaming microphone and the chat's player: what it is measured against."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from omni import media
from omni.conversation import Conversation, Message
from omni.engine import Wish
from omni.engines.primer import PrimerEngine
from omni.events import SpeechChunk
from omni.media.audio import resample
from omni.ui.element import element
from omni.ui.listening import FRAME, RATE, Ended, Listener
from omni.ui.pacing import OneAtATime
from omni.ui.player import SILENT, Voice

EVERY = 0.1  # seconds between two pieces of the microphone: more often the queue does not keep up on two cores


class Hearing:
    """State: the listener, what does not fill a frame yet, and the turns so far."""

    def __init__(self) -> None:
        self.listener, self.rest, self.turns = Listener(), np.zeros(0, np.float32), []

    def hear(self, rate: int, samples: np.ndarray) -> bool:
        """Take a piece; whether a turn ended in it."""
        mono = samples.mean(axis=1) if samples.ndim == 2 else samples
        self.rest = np.concatenate([self.rest, resample((mono / 32768).astype(np.float32), rate, RATE)])
        count = len(self.rest) // FRAME
        changes = [self.listener.hear(frame) for frame in self.rest[: count * FRAME].reshape(-1, FRAME)]
        self.rest = self.rest[count * FRAME :]
        ended = [change.samples for change in changes if isinstance(change, Ended)]
        self.turns += ended
        return bool(ended)


def build(root: Path) -> gr.Blocks:
    """A page with a microphone and a voice."""
    engine, model = PrimerEngine.open("cpu"), OneAtATime()

    def hear(piece: tuple[int, np.ndarray], hearing: Hearing | None) -> tuple[Any, Any]:
        hearing = hearing or Hearing()
        return hearing, len(hearing.turns) if hearing.hear(*piece) else gr.skip()

    def answer(hearing: Hearing, turn: int) -> Iterator[dict]:
        sound = media.write_audio(hearing.turns[turn - 1], RATE, root)
        asked, speech, voice = Conversation(root, (Message("user", (sound,)),)), (), Voice(str(turn))
        with model.replying(str(turn), lambda: engine.reply(asked, Wish(aloud=True))) as batches:
            for events in batches:
                speech += tuple(event for event in events if isinstance(event, SpeechChunk))
                yield voice.value(speech)
        yield voice.value(speech, complete=True)

    with gr.Blocks() as page:
        microphone = gr.Audio(sources=["microphone"], streaming=True, type="numpy")
        player = element("player", SILENT, uses=("voice",))
        hearing, turn = gr.State(None), gr.State(0)
        heard = {"stream_every": EVERY, "time_limit": 300, "concurrency_limit": 4, "show_progress": "hidden"}
        microphone.stream(hear, [microphone, hearing], [hearing, turn], **heard)
        turn.change(answer, [hearing, turn], player, show_progress="hidden")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--root", type=Path, required=True, help="folder for what was said")
    arguments = parser.parse_args()
    build(arguments.root).launch(server_port=arguments.port)


if __name__ == "__main__":
    main()
