"""What Qwen3-Omni shows of its inside: its parts, and which experts of thinker and talker took which tokens."""

from __future__ import annotations

from transformers import Qwen3OmniMoeForConditionalGeneration

from omni.engine import Card
from omni.engines.inspection import components_of
from omni.engines.qwen3_omni_reading import Reader, Reading
from omni.engines.tally import Tally
from omni.engines.trace import Made
from omni.experts.residence import Experts

_TOWERS = {"visual": "picture encoder", "audio_tower": "sound encoder", "code2wav": "vocoder"}
_TABLES = ("embed_tokens", "embedding", "lm_head", "codec_head")


class Routes:
    """Follows a reply into the tally's trace, where it has one. State: whether the talker has begun.

    What the talker reads first is the user's turns once more and a start, all of which only steers: marks.
    """

    def __init__(self, tally: Tally, reader: Reader, reading: Reading):
        self.tally, self.tokenizer, self.talking = tally, reader.tokenizer, False
        self.logs = {held.pool.name: held.routing for held in tally.experts.pools} if tally.trace else {}
        for log in self.logs.values():
            log.open()
        if tally.trace:
            tally.trace.expect([Made("thinker", True, kind) for kind in reader.kinds(reading.inputs["input_ids"])])
            tally.feed = self.feed

    def written(self, token: int) -> None:
        """The reply goes on with a token of text."""
        if self.logs:
            self.tally.trace.expect([Made("thinker", False, "text", self.tokenizer.decode([token]))])

    def spoken(self) -> None:
        """The reply goes on with a frame of speech."""
        if not self.logs:
            return
        if not self.talking:
            self.talking = True
            [prompt, *_] = self.logs["talker"].take()
            self.tally.trace.expect([Made("talker", True, "mark")] * len(prompt))
            self.tally.trace.arrive("talker", prompt)
        self.tally.trace.expect([Made("talker", False, "speech")])

    def feed(self) -> None:
        """Bring the passes since the last time into the trace."""
        for name, log in self.logs.items():
            for passed in log.take():
                self.tally.trace.arrive(name, passed)


def card_of(model: Qwen3OmniMoeForConditionalGeneration, experts: Experts, context_tokens: int) -> Card:
    """What the checkpoint is, for people."""
    components = components_of(model, experts, _row)
    facts = [
        ("Parameters", _counted(sum(one.parameters for one in components))),
        ("Context", f"{context_tokens:,} tokens"),
        ("Speech", f"{', '.join(model.config.talker_config.speaker_id)}" if model.has_talker else "none"),
        ("Licence", "Apache-2.0, the published weights"),
    ]
    for held in experts.pools:
        width = held.pool.shape.matrices[0].columns
        shape = f"{len(held.pool.layers)} layers of width {width:,}; {held.pool.experts} experts a layer"
        facts.insert(-2, (held.pool.name.capitalize(), f"{shape}, {held.top_k} a token"))
    return Card("Qwen3-Omni", tuple(facts), components)


def _row(module: str) -> str:
    """Which part of the model a module belongs to."""
    steps = module.split(".")
    if tower := next((step for step in steps if step in _TOWERS), None):
        return _TOWERS[tower]
    if "code_predictor" in steps:
        return "code predictor"
    part = steps[0] or "rest"
    if part not in ("thinker", "talker"):
        return "rest"
    return f"{part}, {'embeddings and heads' if any(name in steps[-1] for name in _TABLES) else 'attention and shared'}"


def _counted(parameters: int) -> str:
    unit, name = (1e9, "billion") if parameters >= 1e9 else (1e6, "million")
    return f"{parameters / unit:.1f} {name}"
