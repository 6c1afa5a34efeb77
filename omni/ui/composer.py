"""Where a message is put together: words, attached things, what should come back, and finer wishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from omni.attaching import KINDS, PLURALS
from omni.conversation import Image, Part, Text, things
from omni.engine import Capabilities, Modality, Wish
from omni.media import LIMITS, SUFFIXES
from omni.ui.element import element
from omni.ui.past import NONE

AS_ASKED = "as asked"
OUTPUTS = {"text": "Text", "speech": "Speech", "image": "Picture", "video": "Clip"}

# "As asked" and the others exclude each other; the newest tick stands last.
ONE_OR_MANY = f"""(ticked) => [!ticked.length || ticked.at(-1) === "{AS_ASKED}"
    ? ["{AS_ASKED}"] : ticked.filter((wish) => wish !== "{AS_ASKED}")]"""

OPEN_API = "() => document.querySelector('footer .show-api').click()"  # Gradio's own button, in the hidden footer


@dataclass(frozen=True)
class Kept:
    """How a conversation is saved as a file and opened from one, and how the browser keeps it and brings it back."""

    save: gr.Button
    open: gr.UploadButton
    saved: gr.HTML
    past: gr.HTML
    reopen: gr.UploadButton


@dataclass(frozen=True)
class Composer:
    """The parts of the composer that are wired."""

    inbox: gr.UploadButton
    tray: gr.HTML
    words: gr.Textbox
    send: gr.Button
    stop: gr.Button
    outputs: gr.CheckboxGroup
    voice: gr.Dropdown
    temperature: gr.Slider
    seed: gr.Number
    max_tokens: gr.Slider
    tells: gr.Checkbox
    kept: Kept

    @property
    def wishes(self) -> list[gr.components.Component]:
        """The inputs of ``wish_of``, in its order."""
        return [self.outputs, self.voice, self.temperature, self.seed, self.max_tokens]


def build_composer(capabilities: Capabilities) -> Composer:
    """Lay the composer out where it is called; the finer wishes go to the sidebar."""
    (voice, temperature, seed, max_tokens, tells), kept = _build_wishes(capabilities)
    takes = [kind for kind in PLURALS if kind in capabilities.inputs]
    with gr.Column(elem_id="omni-composer"):
        inbox = gr.UploadButton("Attach", file_count="multiple", elem_id="omni-inbox")  # any: attaching.py refuses
        tray = element("tray", [])
        words = gr.Textbox(
            show_label=False,
            label="Message",
            placeholder="Message, or speak, show, attach",
            lines=1,
            max_lines=8,
            container=False,
            max_length=LIMITS.prompt_characters,
            elem_id="omni-words",
        )
        with gr.Row(elem_id="omni-bar"):
            longest = {"audio": LIMITS.sound_seconds, "video": LIMITS.clip_seconds}
            accepts = ",".join([*(f"{kind}/*" for kind in takes), *SUFFIXES])
            element("tools", "", uses=("devices",), takes=takes, accepts=accepts, seconds=longest)
            wanted = gr.CheckboxGroup(
                [("As asked", AS_ASKED), *outputs_of(capabilities)],
                value=[AS_ASKED],
                label="Reply with",
                show_label=False,
                container=False,
                elem_id="omni-outputs",
            )
            send = gr.Button("Send", variant="primary", elem_id="omni-send", min_width=0)
            stop = gr.Button("Stop", variant="stop", elem_id="omni-stop", min_width=0)
    wanted.input(None, wanted, wanted, js=ONE_OR_MANY, api_visibility="private")
    return Composer(inbox, tray, words, send, stop, wanted, voice, temperature, seed, max_tokens, tells, kept)


def outputs_of(capabilities: Capabilities) -> list[tuple[str, Modality]]:
    """What a reply can be made of: how the page calls it, and its name."""
    return [(label, output) for output, label in OUTPUTS.items() if output in capabilities.outputs]


def _build_wishes(
    capabilities: Capabilities,
) -> tuple[tuple[gr.Dropdown, gr.Slider, gr.Number, gr.Slider, gr.Checkbox], Kept]:
    usual = Wish()
    with gr.Sidebar(position="right", open=False, width=280, elem_id="omni-more"):
        gr.Markdown("### More")
        voices = list(capabilities.voices)
        voice = gr.Dropdown(voices, value=voices[0] if voices else None, label="Voice", visible=bool(voices))
        temperature = gr.Slider(0, 1.5, usual.temperature, step=0.05, label="Temperature")
        seed = gr.Number(-1, label="Seed", info="The same seed gives the same reply; -1 draws one", precision=0)
        most = min(capabilities.context_tokens, 8192)
        max_tokens = gr.Slider(32, most, min(usual.max_tokens, most), step=16, label="Most tokens")
        tells = gr.Checkbox(
            False, label="My words in the file", info="Put the request into the credentials of what is made"
        )
        with gr.Row(elem_id="omni-keep"):
            save = gr.Button("Save conversation", size="sm", min_width=0)
            opened = gr.UploadButton("Open a saved one", size="sm", min_width=0, file_types=[".zip"])
        saved = element("saved", None)
        past = element("past", NONE)
        with gr.Column(elem_id="omni-reopen"):
            reopen = gr.UploadButton("Open a past chat", file_count="multiple")  # past.js lays its files into it
        gr.Markdown(capabilities.about, elem_id="omni-about")
        program = gr.Button("Use it from a program", size="sm")
    program.click(None, js=OPEN_API, api_visibility="private")
    return (voice, temperature, seed, max_tokens, tells), Kept(save, opened, saved, past, reopen)


def wish_of(outputs: list[str], voice: str | None, temperature: float, seed: int, max_tokens: int) -> Wish:
    """What the visitor set, as the engine takes it; a negative seed draws one."""
    asked = not outputs or AS_ASKED in outputs
    return Wish(
        outputs=None if asked else frozenset(outputs),
        voice=voice or None,
        temperature=float(temperature),
        seed=int(seed) if seed >= 0 else None,
        max_tokens=int(max_tokens),
    )


def tray_value(attached: tuple[Part, ...]) -> list[dict[str, Any]]:
    """What ``assets/tray.js`` shows of the attached parts."""
    return [chip(thing) for thing in things(attached)]


def chip(thing: tuple[Part, ...]) -> dict[str, Any]:
    """One attached thing; of a document its first page, where it has one."""
    part, *pages = thing
    shown = next(iter(pages), None) if isinstance(part, Text) else part
    return {"kind": KINDS[type(part)], "file": str(shown.path) if shown else None, "label": label(part, len(pages))}


def label(part: Part, pages: int = 0) -> str:
    """The size of a picture, the length of a sound or clip; who signed it, where it came with credentials.

    Of a document its name, its length and how many of its pages are shown to the model.
    """
    if isinstance(part, Text):
        shown = {0: "", 1: "1 page as a picture"}.get(pages, f"{pages} pages as pictures")
        return " · ".join(filter(None, (part.document, f"{len(part.text):,} characters", shown)))
    size = f"{part.width} × {part.height}" if isinstance(part, Image) else f"{part.seconds:.1f} s"
    return f"{size}, {part.credentials}" if part.credentials else size
