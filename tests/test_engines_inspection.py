"""What the shipped Primer and a tiny Qwen3-Omni show of their inside, and their memory while they run."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from omni.conversation import Conversation, Message, Text
from omni.engine import Wish
from omni.engines import tally
from omni.engines.primer import PrimerEngine
from omni.engines.qwen3_omni import Qwen3OmniEngine
from omni.errors import OmniError
from omni.events import Finished, SpeechChunk, Telemetry, TextDelta


@pytest.fixture(scope="module")
def slabs(tmp_path_factory):
    return tmp_path_factory.mktemp("slabs")


@pytest.fixture(scope="module")
def shipped(slabs):
    return PrimerEngine.open("cpu", slabs=slabs)


@pytest.fixture
def primer(shipped):
    """The shipped model with all memory, whatever other tests left in it."""
    memory = shipped.inside.memory()
    shipped.inside.set_experts_memory(memory.least)
    shipped.inside.set_experts_memory(memory.most)
    return shipped


@pytest.fixture(scope="module")
def omni(tiny_omni, slabs):
    return Qwen3OmniEngine.open(str(tiny_omni), device="cpu", slabs=slabs, dtype=torch.float32)


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Conversation:
    return Conversation(tmp_path_factory.mktemp("asked"), (Message("user", (Text("draw a cat on green"),)),))


@pytest.fixture(scope="module")
def events(shipped, asked) -> list:
    """A whole reply of words, speech and a picture, with its telemetry."""
    return list(shipped.reply(asked, Wish(frozenset({"text", "speech", "image"}), seed=3, telemetry=True)))


ALOUD = Wish(frozenset({"text", "speech"}), seed=3, max_tokens=60, telemetry=True)


def answer(events) -> tuple[str, np.ndarray]:
    """Words and speech."""
    events = list(events)
    words = "".join(event.text for event in events if isinstance(event, TextDelta))
    return words, np.concatenate([event.samples for event in events if isinstance(event, SpeechChunk)])


def assert_same(one, other) -> None:
    assert one[0] == other[0]
    assert np.array_equal(one[1], other[1])


def test_a_budget_that_changes_in_mid_reply_never_changes_the_answer(primer, asked, monkeypatch):
    monkeypatch.setattr(tally, "EVERY", 0.0)  # told after every token, however fast they come
    wanted = answer(primer.reply(asked, replace(ALOUD, telemetry=False)))
    inside, seen = primer.inside, []
    least, most = inside.memory().least, inside.memory().most

    def changing():
        for number, event in enumerate(primer.reply(asked, ALOUD)):
            if number % 10 == 5:
                inside.set_experts_memory([least, most // 2, least, most][number // 10 % 4])
            if isinstance(event, Telemetry):
                seen.append((event.held_bytes, event.budget_bytes))
            yield event

    assert_same(answer(changing()), wanted)
    assert len({budget for _, budget in seen}) > 1
    assert all(held <= budget for held, budget in seen)


def test_a_budget_changed_by_another_thread_at_any_moment_never_changes_the_answer(primer, asked):
    wanted = answer(primer.reply(asked, ALOUD))
    memory, over = primer.inside.memory(), threading.Event()

    def restless():
        rng = np.random.default_rng(5)
        while not over.is_set():
            primer.inside.set_experts_memory(int(rng.integers(memory.least, memory.most)))

    other = threading.Thread(target=restless)
    other.start()
    try:
        got = answer(primer.reply(asked, ALOUD))
    finally:
        over.set()
        other.join()
    assert_same(got, wanted)


def test_memory_tells_what_is_where(slabs, asked):
    primer = PrimerEngine.open("cpu", slabs=slabs)  # into which nothing was read yet
    before = primer.inside.memory()
    assert (before.held, before.pools[0].resident.sum()) == (0, 0)
    list(primer.reply(asked, ALOUD))
    after = primer.inside.memory()
    [pool] = after.pools
    assert pool.resident.shape == (5, 8)
    assert 0 < pool.resident.sum() * pool.expert_bytes <= after.held == after.budget
    assert after.file > after.everything > after.held - 1
    assert 0 < after.process < after.ram


def test_less_memory_is_given_back_at_once_and_more_is_taken_when_it_is_needed(primer, asked):
    list(primer.reply(asked, ALOUD))
    assert primer.inside.memory().held > primer.inside.memory().most // 2
    half = primer.inside.set_experts_memory(primer.inside.memory().most // 2)
    assert half.held <= half.budget <= half.everything // 2
    list(primer.reply(asked, ALOUD))
    assert 0 < primer.inside.memory().held <= half.budget


@pytest.mark.parametrize("beyond", ["too little", "too much"])
def test_a_budget_that_cannot_work_is_refused_with_a_sentence_and_changes_nothing(primer, beyond):
    before = primer.inside.memory()
    with pytest.raises(OmniError, match="MB"):
        primer.inside.set_experts_memory(before.least - 1 if beyond == "too little" else before.most + 1)
    assert primer.inside.memory().budget == before.budget


def test_nobody_goes_beyond_what_the_host_gave(slabs):
    engine = PrimerEngine.open("cpu", memory="1MB", slabs=slabs)
    assert engine.inside.memory().most <= 1_000_000
    with pytest.raises(OmniError, match="at most"):
        engine.inside.set_experts_memory(2_000_000)


def test_the_parts_of_primer_add_up_to_the_model(primer):
    parts = {one.name: one for one in primer.inside.card().components}
    dense = sum(parameter.numel() for parameter in primer.model.parameters())
    ours = sum(one.parameters for name, one in parts.items() if "tokeniser" not in name and "experts" not in name)
    shared = parts["shared experts"].parameters
    assert ours + shared == dense
    assert parts["5 x 8 experts"].parameters == 5 * 8 * 3 * 256 * 256
    assert parts["5 x 8 experts"].precision.startswith("NF4")
    assert "rest" not in parts
    assert parts["routers"].parameters == 5 * 8 * 256


def test_the_parts_of_qwen3_omni_are_named(omni):
    card = omni.inside.card()
    names = [one.name for one in card.components]
    assert names[:2] == ["3 x 8 experts (thinker)", "2 x 8 experts (talker)"]
    assert {"picture encoder", "sound encoder", "vocoder", "code predictor"} <= set(names)
    assert dict(card.facts)["Thinker"].endswith("8 experts a layer, 2 a token")
    assert all(one.bytes > 0 for one in card.components)


def routed_of(events) -> list:
    return [one for event in events if isinstance(event, Telemetry) for one in event.routed]


def test_every_token_of_primers_reply_is_traced_with_its_modality(events):
    usage = events[-1].usage
    kinds = {
        read: [kind for one in routed_of(events) if one.read is read for kind in one.kinds] for read in (False, True)
    }
    for modality, count in usage.tokens_out.items():
        extra = kinds[False].count(modality) - count
        assert extra == 0 or (modality == "speech" and extra > 0)  # a word's sound has an end
    assert len(kinds[True]) == sum(usage.tokens_in.values())
    pieces = "".join(
        piece for one in routed_of(events) if not one.read
        for kind, piece in zip(one.kinds, one.pieces, strict=True) if kind == "text"
    )  # fmt: skip
    assert pieces.strip() == answer(events)[0].strip()


def test_the_traced_experts_are_those_that_were_asked_for(primer, asked):
    """Each expert of each token is a use; a pass of many asks for each expert of a layer once."""
    events = list(primer.reply(asked, Wish(frozenset({"text"}), seed=3, telemetry=True)))
    experts = np.concatenate([one.experts for one in routed_of(events)])
    first = sum(events[-1].usage.tokens_in.values()) + 1  # the prompt, and the mark for a written reply
    used = sum(len(np.unique(experts[:first, layer])) for layer in range(experts.shape[1]))
    used += int((experts[first:] >= 0).sum())
    assert used == events[-1].usage.experts_used


def test_the_last_telemetry_agrees_with_the_usage(events):
    last, end = [event for event in events if isinstance(event, Telemetry)][-1], events[-1]
    assert isinstance(end, Finished)
    assert last.tokens_out == end.usage.tokens_out
    assert (last.experts_used, last.bytes_fetched) == (end.usage.experts_used, end.usage.bytes_fetched)


def test_stages_come_in_order_and_end_with_the_reply(events):
    usage = events[-1].usage
    assert [span.name for span in usage.spans] == ["intake", "prefill", "text", "speech", "image"]
    assert [span.start for span in usage.spans] == sorted(span.start for span in usage.spans)
    assert all(0 <= span.start <= span.end <= usage.seconds for span in usage.spans)


def test_nothing_is_told_where_it_is_not_asked_for(primer, asked, omni):
    for engine, outputs in ((primer, ALOUD.outputs), (omni, frozenset({"text"}))):
        events = list(engine.reply(asked, Wish(outputs, seed=3, max_tokens=80)))
        assert not routed_of(events)
        assert all(not held.routing.passes for held in engine.experts.pools)


def test_words_and_speech_of_qwen3_omni_are_traced_in_their_order(omni, asked, monkeypatch):
    monkeypatch.setattr("omni.engines.qwen3_omni.MOST_FRAMES", 14)
    wish = Wish(frozenset({"text", "speech"}), seed=1, max_tokens=12, telemetry=True)
    events = list(omni.reply(asked, wish))
    usage, routed = events[-1].usage, routed_of(events)
    read = {one.pool: one.kinds for one in routed if one.read}
    assert len(read["thinker"]) == sum(usage.tokens_in.values())
    assert set(read["talker"]) == {"mark"}
    made = [kind for one in routed if not one.read for kind in one.kinds]
    assert {kind: made.count(kind) for kind in set(made)} == usage.tokens_out
    assert made[:2] == ["text", "speech"]  # speech begins while it still writes
    assert {one.experts.shape[1:] for one in routed if one.pool == "thinker"} == {(3, 2)}
    assert not any(held.routing.on for held in omni.experts.pools)


def test_a_reply_that_is_closed_leaves_no_log_open(omni, asked):
    reply = omni.reply(asked, Wish(frozenset({"text"}), seed=1, telemetry=True))
    while not isinstance(next(reply), TextDelta):
        pass
    reply.close()
    assert not any(held.routing.on for held in omni.experts.pools)
