"""How fast Primer answers: one decode step against its bare matrix products, and the times of whole replies."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.engines.primer import PrimerEngine
from omni.events import Finished, Usage
from omni.primer import shipping, vocabulary
from omni.primer.modeling import MLP, KeyValueCache, MoE, PrimerForCausalLM
from omni.primer.stepping import Stepper

CONTEXT = 200  # tokens in the cache while a step is measured
ROUNDS = 300
PAIRS = 40  # replies with telemetry and without
REPLIES = {  # name of the request, its words and what is wished for
    "text": ("what can you do", frozenset({"text"})),
    "speech": ("say a cat above a rocket on green", frozenset({"text", "speech"})),
    "image": ("draw a cat above a rocket on green", frozenset({"text", "image"})),
    "video": ("make a clip of a ball that bounces", frozenset({"text", "video"})),
}


def matrices(model: PrimerForCausalLM) -> list[Tensor]:
    """Every matrix that one token is multiplied with: all layers, the chosen number of experts, one head."""
    found = []
    for layer in model.model.layers:
        found += [layer.attention.qkv.weight, layer.attention.out.weight]
        mlp = layer.mlp
        if isinstance(mlp, MoE):
            found.append(mlp.gate.weight)
            for expert in range(model.config.num_experts_per_tok):
                found += [mlp.experts.gate_up_proj[expert], mlp.experts.down_proj[expert]]
            mlp = mlp.shared
        assert isinstance(mlp, MLP)
        found += [mlp.gate_up.weight, mlp.down.weight]
    return [*found, model.lm_head.weight[vocabulary.GROUPS["audio"]]]


def interleaved(
    first: Callable[[], object],
    second: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of two functions, measured in turns so that both see the same load."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, kept in zip((first, second), times, strict=True):
            started = clock()
            function()
            kept.append(clock() - started)
    return statistics.median(times[0]), statistics.median(times[1])


@torch.inference_mode()
def step_overhead(model: PrimerForCausalLM, plain: PrimerForCausalLM) -> float:
    """Seconds of a decode step as the page runs it over those of its bare products, all of ``plain``'s in float32."""
    cache = KeyValueCache(model.config, 1, CONTEXT + 1, model.lm_head.weight)
    model.model(torch.zeros(1, CONTEXT, dtype=torch.long), cache=cache)
    take, position = Stepper(model.model, cache), (float(CONTEXT),) * 3
    weights = matrices(plain)
    inputs = [torch.randn(1, weight.shape[1]) for weight in weights]

    def step() -> None:
        cache.length = CONTEXT
        model.head(take(7, position), vocabulary.GROUPS["audio"])

    def products() -> None:
        for x, weight in zip(inputs, weights, strict=True):
            F.linear(x, weight)

    interleaved(step, products, 20)  # warm-up
    taken, bare = interleaved(step, products, ROUNDS)
    return taken / bare


def replies(engine: PrimerEngine, name: str, repeats: int) -> Iterator[Usage]:
    """What ``repeats`` replies to one of REPLIES took."""
    words, outputs = REPLIES[name]
    with tempfile.TemporaryDirectory() as folder:
        conversation = Conversation(Path(folder), (Message("user", (Text(words),)),))
        for seed in range(repeats):
            *_, last = engine.reply(conversation, Wish(outputs=outputs, seed=seed))
            assert isinstance(last, Finished)
            yield last.usage


def inside_overhead(engine: PrimerEngine) -> float:
    """How much more of the processor a spoken reply takes with telemetry than without, in percent.

    Seconds of the process, not of the clock: what else runs on the machine is not part of them.
    """
    words, outputs = REPLIES["speech"]
    with tempfile.TemporaryDirectory() as folder:
        conversation = Conversation(Path(folder), (Message("user", (Text(words),)),))

        def answer(telemetry: bool) -> None:
            for _ in engine.reply(conversation, Wish(outputs=outputs, seed=0, telemetry=telemetry)):
                pass

        watched, plain = interleaved(lambda: answer(True), lambda: answer(False), PAIRS, time.process_time)
    return 100 * (watched / plain - 1)


def measure(folder: Path, repeats: int) -> dict[str, float]:
    """All figures of this benchmark by name, for the weights in ``folder``."""
    engine = PrimerEngine.open("cpu", folder)
    list(replies(engine, "text", 1))  # warm-up
    used = {name: list(replies(engine, name, repeats)) for name in REPLIES}

    def median(name: str, figure: Callable[[Usage], float | None]) -> float:
        return statistics.median(value for value in map(figure, used[name]) if value is not None)

    return {
        "step_overhead": step_overhead(engine.model, shipping.load(folder)),
        "inside_overhead": inside_overhead(engine),
        "speech_realtime": median("speech", lambda usage: usage.speech_seconds / usage.seconds),
        "first_text_s": median("text", lambda usage: usage.first_text),
        "first_speech_s": median("speech", lambda usage: usage.first_speech),
        "picture_s": median("image", lambda usage: usage.image),
        "clip_s": median("video", lambda usage: usage.clip),
        "peak_memory_mb": max(usage.peak_memory_mb or 0.0 for row in used.values() for usage in row),
    }
