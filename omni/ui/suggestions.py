"""Things to try, each with what it shows of the model; those that need what an engine lacks are left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni.engine import Capabilities

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Suggestion:
    """A message that can be sent with one click."""

    text: str
    gives: str  # what comes back: text, speech, image or video
    files: tuple[str, ...] = ()  # names in examples/
    takes: tuple[str, ...] = ()  # their kinds: image, audio or video
    label: str = ""  # what stands on the card where no words are sent

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files lie."""
        return tuple(EXAMPLES / name for name in self.files)

    def fits(self, capabilities: Capabilities) -> bool:
        """Whether the engine takes and gives what this needs, and its files are there."""
        able = self.gives in capabilities.outputs and capabilities.inputs.issuperset(self.takes)
        return able and all(path.is_file() for path in self.paths)


SUGGESTIONS = (
    Suggestion("draw a cat above a rocket on green", "image"),
    Suggestion("what do you see?", "text", ("scene.png",), ("image",)),
    Suggestion("make a clip of a ball that bounces", "video"),
    Suggestion("tell me a story about a fox and a bee", "image"),
    Suggestion("say hello", "speech"),
    Suggestion("what moves?", "text", ("clip.mp4",), ("video",)),
    Suggestion("draw what you hear", "image", ("owl.wav",), ("audio",)),
    Suggestion("", "speech", ("cat.png", "question.wav"), ("image", "audio"), "ask about a picture by voice"),
    Suggestion("how many apples are there?", "text", ("apples.png",), ("image",)),
    Suggestion("who are you?", "text"),
    Suggestion("", "image", ("request.wav",), ("audio",), "ask for a picture by voice"),
    Suggestion("what does a cat sound like?", "speech"),
)


def suggestions_for(capabilities: Capabilities) -> tuple[Suggestion, ...]:
    """Those that work with this engine."""
    return tuple(one for one in SUGGESTIONS if one.fits(capabilities))


def suggestion_values(suggestions: tuple[Suggestion, ...]) -> list[dict[str, Any]]:
    """Suggestions as the page shows them."""
    return [
        {
            "text": one.text or one.label,
            "gives": one.gives,
            "takes": list(one.takes),
            "picture": next((str(path) for path in one.paths if path.suffix == ".png"), None),
        }
        for one in suggestions
    ]
