"""The engine as tools for other models, over MCP: ask, describe, draw, say, animate. Gradio serves them.

One tool gives one thing back, as Gradio's server hands on only that: words, or a file.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from omni.engine import Modality
from omni.errors import OmniError
from omni.ui.actions import Actions, sentence_of
from omni.ui.api import replies
from omni.ui.chat import MODEL
from omni.ui.composer import wish_of


def build_tools(actions: Actions) -> None:
    """Add the tools that the engine has the abilities for to the page under construction."""

    def ask(question: str) -> str:
        """Ask the model something and get its answer in words.

        Parameters:
            question: the words of the question.
        """
        return answered(actions, question, [], "text")

    def describe(file: gr.FileData, question: str = "what do you see?") -> str:
        """Let the model look at a picture or clip, listen to a sound or read a document, and answer in words.

        Parameters:
            file: a picture (PNG, JPEG, WebP), a sound, a clip or a document (PDF, text).
            question: what is asked about it.
        """
        return answered(actions, question, [dict(file)], "text")

    def draw(prompt: str) -> gr.FileData:
        """Draw a picture.

        Parameters:
            prompt: what is to be seen, such as "a cat above a rocket on green".
        """
        return answered(actions, f"draw {prompt}", [], "image")

    def say(text: str) -> gr.FileData:
        """Say something aloud; gives a WAV.

        Parameters:
            text: what is to be said.
        """
        return answered(actions, f"say {text}", [], "speech")

    def animate(prompt: str) -> gr.FileData:
        """Make a short clip; gives an MP4.

        Parameters:
            prompt: what moves, such as "a ball that bounces".
        """
        return answered(actions, f"make a clip of {prompt}", [], "video")

    able = actions.engine.capabilities
    tools: dict[Callable, Modality] = {ask: "text", describe: "text", draw: "image", say: "speech", animate: "video"}
    for tool, gives in tools.items():
        if gives in able.outputs:
            gr.api(tool, api_name=tool.__name__, concurrency_limit=1, concurrency_id=MODEL)


def answered(actions: Actions, words: str, files: list[dict], gives: Modality) -> Any:
    """The words or the file of one reply. Raises gr.Error with a sentence."""
    try:
        said, made = {"text": ""}, []
        for said, made in replies(actions, words, files, wish_of([gives], None, 0.7, -1, 1200)):
            kept = [lasting(Path(file["path"])) for file in made] if said["done"] else []
        if gives == "text":
            return said["text"]
        if not kept:
            raise OmniError("The model made nothing of this; please ask differently.")
        return gr.FileData(path=str(kept[0]))
    except Exception as error:
        raise gr.Error(sentence_of(error), print_exception=False) from error


def lasting(file: Path) -> Path:
    """A copy that outlives the reply, among the uploads, which are forgotten after a while."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    folder.mkdir(parents=True)
    return Path(shutil.copy(file, folder / f"made{file.suffix}"))
