"""The same engine for programs: one endpoint that takes a message and streams what comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from omni import media
from omni.attaching import attached
from omni.conversation import Conversation, Message, Text
from omni.errors import OmniError, Refused
from omni.provenance.imprint import Imprint
from omni.ui.actions import MOST_ATTACHED, Actions, sentence_of
from omni.ui.chat import MODEL
from omni.ui.composer import OUTPUTS, wish_of
from omni.ui.draft import Draft

Reply = tuple[dict[str, Any], list[dict[str, Any]]]


def build_api(actions: Actions, listed: bool = True) -> None:
    """Add the endpoint ``/chat`` to the page under construction; where it is not ``listed``, it works all the same."""

    def chat(
        text: str,
        files: list[dict] | None = None,
        outputs: list[str] | None = None,
        voice: str | None = None,
        temperature: float = 0.7,
        seed: int = -1,
        max_tokens: int = 1200,
    ) -> tuple[dict, list[dict]]:
        """Ask one question and stream the reply.

        Each update is a pair. The first is {"text", "heard", "doing", "done", "usage", "notices"}: the words so far,
        what was understood of a sound, what the model is doing, whether the reply is complete, what it took, and what
        was cut of a document or kept files from being signed or marked. The second is the list of finished files, with
        signed credentials: PNG pictures, WAV speech, MP4 clips.

        Parameters:
            text: the words of the message; may be empty where there are files.
            files: pictures, sounds, clips, PDFs and texts, uploaded beforehand (``handle_file`` of gradio_client does
                it).
            outputs: what may come back, of "text", "speech", "image", "video"; nothing means as asked.
            voice: the voice of spoken replies.
            temperature: 0 always picks the likeliest token.
            seed: the same seed and message give the same reply; -1 draws one.
            max_tokens: the most tokens that a reply may have.
        """
        try:
            wish = wish_of(wanted(outputs), voice, temperature, seed, max_tokens)
            yield from replies(actions, text, files or [], wish)
        except Exception as error:
            raise gr.Error(sentence_of(error), print_exception=False) from error

    seen = "public" if listed else "undocumented"
    gr.api(chat, api_name="chat", api_visibility=seen, concurrency_limit=1, concurrency_id=MODEL)


def replies(actions: Actions, text: str, files: list[dict], wish: Any) -> Iterator[Reply]:
    """The updates of one reply, in a conversation that is forgotten afterwards.

    Its folder is none that is served, so that Gradio copies the files which a program may fetch, for a while.
    """
    with tempfile.TemporaryDirectory(prefix="omni-") as name:
        folder = Path(name)
        paths = [uploaded(file) for file in files[:MOST_ATTACHED]]
        sent = [attached(path, folder, actions.engine, actions.keys) for path in paths]
        uploads, cuts = [part for parts, _ in sent for part in parts], [notice for _, notice in sent if notice]
        words = [media.take_text(text)] if text.strip() or not uploads else []
        conversation = Conversation(folder).plus(Message("user", (*uploads, *words)))
        imprint = Imprint(folder, actions.keys, actions.engine.name, conversation)
        draft, reply = Draft(imprint), lambda: imprint.marked(actions.engine.reply(conversation, wish))
        with actions.model.replying(folder.name, reply) as batches:
            for events in batches:
                for event in events:
                    draft = draft.plus(event)
                yield update(draft, draft.made, cuts)
        yield update(draft, draft.parts(), cuts)
        if draft.broken:
            raise OmniError(draft.broken)


def update(draft: Draft, parts: tuple, cuts: list[str]) -> Reply:
    """The reply so far as JSON and files; ``cuts`` says what was left out of the question's documents."""
    words = "\n".join(part.text for part in parts if isinstance(part, Text))
    files = [gr.FileData(path=str(part.path)).model_dump() for part in parts if not isinstance(part, Text)]
    usage = asdict(draft.usage) if draft.usage else None
    done = draft.usage is not None
    told = {"text": words, "heard": draft.heard, "doing": draft.doing, "done": done, "usage": usage}
    return {**told, "notices": [*cuts, *draft.imprint.notices]}, files


def wanted(outputs: list[str] | None) -> list[str]:
    """The outputs that a program asks for. Raises Refused where one does not exist."""
    for output in outputs or []:
        if output not in OUTPUTS:
            raise Refused(f"There is no output {output!r}; choose among {', '.join(OUTPUTS)}.")
    return outputs or []


def uploaded(file: dict) -> Path:
    """The path of an uploaded file. Raises OmniError where it lies outside of the upload folder."""
    path = Path(file["path"]).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise OmniError("Files have to be uploaded first; a path on the server is not accepted.")
    return path
