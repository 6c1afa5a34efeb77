"""Answers of real, tiny models through the cache: the same bits whatever is in memory, and the right ones."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import experts_tiny
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from omni.experts import forward, loading, record
from omni.experts.forward import LOOKAHEAD, PASSING_TOKENS, Foresight
from omni.experts.kernels import Native, Unpacked
from omni.experts.policy import DEFAULT, POLICIES
from omni.experts.residence import Experts
from omni.experts.slab import Slab
from omni.primer.modeling import KeyValueCache, PrimerForCausalLM

NAMES = [*experts_tiny.MODELS, "qwen3_omni"]
CPU = torch.device("cpu")
BUDGETS = {
    "one layer": lambda experts: experts.least_bytes,
    "half": lambda experts: experts.most_bytes // 2,
    "all": lambda experts: experts.most_bytes,
}


@dataclass
class Subject:
    """A model that was loaded once, and what it answers with all experts in memory."""

    name: str
    folder: Path
    model: PreTrainedModel
    slab: Path
    kernel: object
    held: Experts | None = None
    logits: list[Tensor] | None = None
    tokens: list[Tensor] | None = None

    def under(self, budget: str, policy: str = DEFAULT, ahead: bool | None = None) -> Experts:
        """The model's experts under that budget, none of them in memory yet."""
        if self.held:
            self.held.close()
        self.held = loading.hold(self.model, Slab.open(self.slab), self.kernel, CPU, None, policy)
        self.held.resize(BUDGETS[budget](self.held))
        for pool in self.held.pools:
            pool.foresight.forced = ahead
        return self.held


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Iterator[Callable[[str], Subject]]:
    subjects: dict[str, Subject] = {}

    def load(name: str) -> Subject:
        if name not in subjects:
            folder = experts_tiny.save(name, tmp_path_factory.mktemp(name))
            loaded = loading.load_model(folder)
            kernel = loaded.experts.pools[0].kernel
            made = subjects[name] = Subject(name, folder, loaded.model, loaded.experts.slab.path, kernel)
            made.held = loaded.experts
            made.under("all", ahead=False)
            made.logits, made.tokens = logits_of(made.model), tokens_of(made.model)
        return subjects[name]

    yield load
    for one in subjects.values():
        one.held.close()


def ids(*shape: int, seed: int = 41) -> Tensor:
    return torch.randint(3, 120, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits_of(model: PreTrainedModel) -> list[Tensor]:
    """Of a long prompt, of a short one, and of a few short ones at once."""
    part = getattr(model, "thinker", model)
    return [part(input_ids=prompt).logits for prompt in (ids(1, 40), ids(1, 1), ids(3, 4))]


@torch.no_grad()
def tokens_of(model: PreTrainedModel, resize: Callable[[str], None] | None = None) -> list[Tensor]:
    """What it writes, token by token, and says; ``resize`` is called before each token with who is at work."""
    if isinstance(model, PrimerForCausalLM):
        return [primer_tokens(model, resize)]

    def between(who: str) -> LogitsProcessorList:
        return LogitsProcessorList([Between(resize, who)] if resize else [])

    if not hasattr(model, "talker"):
        options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
        return [model.generate(ids(1, 5), logits_processor=between("experts"), **options)]
    config = model.config
    start, user, assistant = config.im_start_token_id, config.user_token_id, config.assistant_token_id
    prompt = torch.tensor([[start, user, 20, 21, 22, 23, start, assistant, 20]])
    text, wave = model.generate(
        prompt,
        return_audio=True,
        thinker_max_new_tokens=6,
        thinker_eos_token_id=config.im_end_token_id,
        talker_max_new_tokens=8,
        talker_do_sample=False,
        thinker_logits_processor=between("thinker"),
        talker_logits_processor=between("talker"),
    )
    return [text, wave]


class Between(LogitsProcessor):
    """Does something between two tokens."""

    def __init__(self, act: Callable[[str], None], who: str):
        self.act, self.who = act, who

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.act(self.who)
        return scores


def primer_tokens(model: PrimerForCausalLM, resize: Callable[[str], None] | None) -> Tensor:
    """Primer has a cache of its own and its own sampling."""
    cache = KeyValueCache(model.config, 1, 32, model.lm_head.weight)
    step, written = ids(1, 5), []
    for _ in range(8):
        if resize:
            resize("experts")
        step = model(step, cache=cache).logits[:, -1:].argmax(-1)
        written.append(step)
    return torch.cat(written, 1)


def assert_same(made: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(*pair) for pair in zip(made, expected, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_any_budget_and_policy_with_and_without_foresight_answers_as_with_all_in_memory(name, budget, policy, subject):
    it = subject(name)
    for ahead in (False, True):
        experts = it.under(budget, policy, ahead)
        assert_same(logits_of(it.model), it.logits)  # nothing in memory at first
        assert_same(tokens_of(it.model), it.tokens)
        assert_same(logits_of(it.model), it.logits)  # and now much
        total = experts.counts()
        assert experts.bytes_held <= experts.budget
        assert (total.prefetched + total.wasted > 0) <= ahead
        assert total.misses > 0


@pytest.mark.parametrize("name", NAMES)
def test_resizing_between_tokens_changes_no_token(name, subject):
    it = subject(name)
    experts = it.under("all")
    sizes = itertools.cycle(["one layer", "all", "half", "all", "one layer", "half"])

    def resize(_: str) -> None:
        experts.resize(BUDGETS[next(sizes)](experts))
        assert experts.bytes_held <= experts.budget

    assert_same(tokens_of(it.model, resize), it.tokens)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", ["qwen3_moe", "qwen3_moe_top8", "primer"])
def test_resizing_from_another_thread_changes_no_answer(name, ahead, subject):
    it = subject(name)
    experts = it.under("half", ahead=ahead)
    layer, done, resized = threading.Semaphore(0), threading.Event(), []

    def resize() -> None:
        for budget in itertools.cycle(BUDGETS.values()):
            layer.acquire()
            if done.is_set():
                return
            experts.resize(budget(experts))
            resized.append(budget)

    hooks = [
        module.register_forward_pre_hook(lambda *_: layer.release()) for _, module in loading.expert_modules(it.model)
    ]
    thread = threading.Thread(target=resize, daemon=True)
    thread.start()
    try:
        assert_same(logits_of(it.model), it.logits)
        assert_same(tokens_of(it.model), it.tokens)
        assert thread.is_alive()
        assert len(resized) > 10
    finally:
        done.set()
        layer.release()
        thread.join()
        for hook in hooks:
            hook.remove()


def test_thinker_and_talker_take_turns_with_one_budget(subject):
    it = subject("qwen3_omni")
    experts = it.under("half", ahead=True)
    budget, seen = experts.least_bytes + experts.pools[0].cache.slot_bytes * 6, {"thinker": set(), "talker": set()}
    experts.resize(budget)

    def deal(who: str) -> None:
        experts.resize(budget, {"thinker": who == "thinker", "talker": who == "talker"})
        assert experts.bytes_held <= experts.budget <= budget
        seen[who].add(tuple(held.cache.target for held in experts.pools))

    assert_same(tokens_of(it.model, deal), it.tokens)
    assert seen == {"thinker": {(8, 2)}, "talker": {(2, 8)}}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_long_prompt_does_not_push_out_what_decoding_uses(policy, subject):
    it = subject("qwen3_moe_top8")
    experts = it.under("half", policy, ahead=False)
    tokens_of(it.model)
    cache = experts.pools[0].cache
    used, misses = set(cache._slots), experts.counts().misses
    with torch.no_grad():
        it.model(input_ids=ids(1, 64))
    assert experts.counts().misses - misses >= cache.target  # it took as many as there is room for
    assert len(used - set(cache._slots)) <= LOOKAHEAD + 1  # those in which they passed through


def test_a_prefill_reads_each_expert_that_it_needs_once(subject):
    it = subject("qwen3_moe")
    experts = it.under("one layer")
    [held] = experts.pools
    held.routing.open()
    with torch.no_grad():
        it.model(input_ids=ids(1, PASSING_TOKENS))
    [taken] = held.routing.take()
    needed = sum(len(np.unique(taken[:, layer])) for layer in range(taken.shape[1]))
    assert held.stats.total("prefill").misses == needed
    assert held.stats.total("prefill").bytes_read == needed * held.cache.slot_bytes
    assert held.stats.total("decode").misses == 0


def test_a_batch_of_nothing_gives_nothing(subject):
    it = subject("qwen3_moe")
    it.under("half").pools[0].routing.open()
    logits_of(it.model)
    module = dict(loading.expert_modules(it.model))["model.layers.0.mlp.experts"]
    out = module(torch.zeros(0, 64), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
    assert out.shape == (0, 64)


# ---- against transformers --------------------------------------------------------------------------------------------


def eager(it: Subject) -> PreTrainedModel:
    """transformers' own model in float32, with the weights that the slab's bytes mean."""
    model = type(it.model).from_pretrained(it.folder, dtype=torch.float32, experts_implementation="eager").eval()
    modules = dict(model.named_modules())
    with Slab.open(it.slab) as slab:
        for pool, layer, expert in slab.contents.every_key():
            shape, module = slab.pools[pool].shape, modules[slab.pools[pool].layers[layer]]
            held = torch.empty(shape.record_bytes, dtype=torch.uint8)
            slab.read(pool, layer, expert, held)
            for matrix, weights in ((shape.gate_up, module.gate_up_proj), (shape.down, module.down_proj)):
                weights.data[expert] = record.dequantise(held, matrix, slab.layout, torch.float32)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_answers_in_float32_are_those_of_eager_experts_with_the_same_weights(name, subject):
    """float32 rounds to 2^-24, and the two add up in different orders: some hundred roundings a layer, 2^-16 in all."""
    it = subject(name)
    loaded = loading.load_model(it.folder, dtype=torch.float32, kernel=Unpacked(torch.float32))
    try:
        for made, true in zip(logits_of(loaded.model), logits_of(eager(it)), strict=True):
            assert (made - true).norm() < 2.0**-16 * true.norm()
    finally:
        loaded.experts.close()


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 5, 24])
@pytest.mark.parametrize("name", NAMES)
def test_experts_of_every_layer_give_what_eager_ones_do_within_rounding(name, tokens, subject):
    """A product rounds level, block maximum, weight and result, a gate rounds twice, each by up to 2^-9. They hit
    different numbers, so their squares add up; gate and value both err: 4 + 4 + 2 + 4 of them make 3.8 * 2^-9. The 64
    numbers of a token are few, and its experts may cancel each other: twice that. Our own products round token, gated
    token and levels to steps of 1/127 of the largest of 64, which is some 2.5 times the rest: 0.3 / 127 * 2.5 each, and
    gate and value both err: 1.3%, and twice that.
    """
    it = subject(name)
    it.under("all")
    theirs = dict(loading.expert_modules(eager(it)))
    for held in it.held.pools:
        for layer in held.pool.layers:
            ours = dict(loading.expert_modules(it.model))[layer]
            generator = torch.Generator().manual_seed(43)
            x = torch.randn(tokens, held.pool.shape.hidden, generator=generator).bfloat16().float()
            scores = torch.rand(tokens, held.pool.experts, generator=generator)
            weights, chosen = scores.topk(held.top_k, -1)
            made = ours(x, chosen, weights)
            true = theirs[layer](x, chosen, weights)
            assert made.dtype == x.dtype
            tolerance = 0.013 if isinstance(held.kernel, Native) else 14**0.5 * 2.0**-9
            assert (made - true).norm() < 2 * tolerance * true.norm()


# ---- foresight -------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(forward.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize("pays", [True, False])
def test_foresight_stays_where_it_pays_and_is_left_off_where_it_does_not(pays, monkeypatch):
    clock, foresight = Clock(monkeypatch), Foresight(window=10, rest=100)
    history = []
    for token in range(600):
        history.append(foresight.wanted)
        foresight.token()
        clock.now += 1.0 if foresight.wanted == pays else 1.1
        if token % 50 == 7:
            clock.now += 60.0  # the user thinks
    resting = [on for on in history if on == pays]
    assert history[:10] == [True] * 10
    assert history[11:20] == [False] * 9
    assert len(resting) > 0.9 * len(history) - 20
    assert history[-1] == pays or foresight.trying


def test_foresight_can_be_forced_on_and_off():
    foresight = Foresight(on=True, forced=False)
    assert not foresight.wanted
    foresight.forced, foresight.on = True, False
    assert foresight.wanted


def test_foresight_finds_experts_before_they_are_needed(subject):
    """The next router sees this layer's input: with tiny random layers it is right more often than by chance."""
    it = subject("qwen3_moe_top8")
    experts = it.under("half", ahead=True)
    tokens_of(it.model)
    total = experts.pools[0].stats.total("decode")
    assert total.prefetched > 0


def test_all_experts_in_memory_leave_nothing_to_foresee(subject):
    it = subject("qwen3_moe")
    experts = it.under("all", ahead=True)
    tokens_of(it.model)
    assert experts.pools[0].foresight.started is None
    assert experts.counts().prefetched == experts.counts().wasted == 0


def test_layers_know_the_router_that_comes_next(subject):
    it = subject("qwen3_moe")
    it.under("half")
    blocks = [it.model.get_submodule(f"model.layers.{layer}.mlp") for layer in range(3)]
    following = [block.experts.resident.next_router for block in blocks]
    assert following == [blocks[1].gate, blocks[2].gate, None]
    assert all(isinstance(gate, nn.Module) for gate in following[:2])
