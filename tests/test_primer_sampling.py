"""The grammar of a reply holds whatever the weights are."""

import itertools

import pytest
import torch
from primer_tiny import tiny_model

from omni.primer import sampling
from omni.primer import vocabulary as v
from omni.primer.processing import Sequence
from omni.primer.sampling import FILM_TOKENS, MAX_SENTENCES, Decoder, OutOfTokens, Plan, reply


def _decoder(plan: Plan) -> Decoder:
    sequence = Sequence()
    sequence.extend([v.BEGIN, v.USER, 300, 301, v.ASSISTANT])
    return Decoder(tiny_model(), sequence, plan)


def _tokens(plan: Plan, heard: bool = False) -> list:
    return list(reply(_decoder(plan), heard))


def _kinds(tokens: list) -> list[str]:
    return [kind for kind, _ in itertools.groupby(token.kind for token in tokens)]


WRITTEN = {"spoken": False, "may_make": frozenset(), "max_tokens": 3000}


def test_a_picture_has_exactly_64_codes():
    tokens = _tokens(Plan(must_make=(v.IMAGE,), **WRITTEN))
    pictures = [list(run) for kind, run in itertools.groupby(tokens, lambda token: token.kind) if kind == "image"]
    assert pictures and all(len(one) == 64 for one in pictures)
    assert _kinds(tokens)[-2:] == ["mark", "image"]


@pytest.mark.parametrize(("likelier", "sentences"), [(v.WRITE, MAX_SENTENCES), (v.END, 1)])
def test_only_a_model_that_goes_on_after_a_picture_tells_a_story(monkeypatch, likelier, sentences):
    asked_after: list[int] = []

    def greedy(decoder: Decoder, marks: tuple[int, ...]) -> int:
        asked_after.append(v.modality(decoder.sequence.ids[-1]))
        return likelier

    monkeypatch.setattr(sampling, "_greedy_mark", greedy)
    monkeypatch.setattr(sampling, "MAX_WORDS", 6)  # random weights would go on and on
    decoder = _decoder(Plan(must_make=(v.IMAGE,), **WRITTEN))
    marks = [token.value for token in reply(decoder, False) if token.kind == "mark"]
    assert marks == [v.WRITE, v.IMAGE] * sentences
    assert decoder.sequence.ids[-1] == v.END and decoder.sequence.ids.count(v.WRITE) == sentences
    assert set(asked_after) == {"visual"}


def test_a_film_alternates_frames_and_sound():
    tokens = _tokens(Plan(must_make=(v.FILM,), **WRITTEN))
    film = [token for token in tokens if token.kind.startswith("film")]
    assert len(film) == FILM_TOKENS - 1
    assert _kinds(film) == ["film-visual", "film-audio"] * 8


def test_a_picture_and_a_film_come_in_the_order_of_the_plan():
    marks = [token.value for token in _tokens(Plan(must_make=(v.IMAGE, v.FILM), **WRITTEN)) if token.kind == "mark"]
    assert marks == [v.WRITE, v.IMAGE, v.FILM]


def test_every_spoken_word_is_followed_by_its_sound():
    decoder = _decoder(Plan(spoken=True, may_make=frozenset(), max_tokens=400))
    with pytest.raises(OutOfTokens):
        list(reply(decoder, False))
    ids = decoder.sequence.ids[5:]
    assert ids[:2] == [v.SPEAK, v.VOICE["ada"]]
    for before, token in itertools.pairwise(ids[2:]):
        if v.modality(token) == "audio":
            assert before == v.AUDIO or v.modality(before) == "audio"


def test_text_only_makes_nothing_else():
    assert set(_kinds(_tokens(Plan(**WRITTEN)))) == {"mark", "text"}


@pytest.mark.parametrize("may_make", [frozenset(), frozenset({v.FILM})])
def test_a_reply_that_would_draw_and_may_not_has_said_its_words(may_make):
    decoder = _decoder(Plan(spoken=False, may_make=may_make, temperature=0))
    plain = decoder.logits("text")
    decoder.logits = lambda group: plain.index_fill(0, torch.tensor([v.IMAGE]), 100.0)
    assert _kinds(list(reply(decoder, False))) == ["mark"]
    assert decoder.sequence.ids[-2:] == [v.WRITE, v.END]


def test_a_transcript_comes_first_where_sound_was_heard():
    assert _kinds(_tokens(Plan(**WRITTEN), heard=True))[0] == "heard"


def test_the_same_seed_gives_the_same_reply_and_another_seed_another():
    plan = {"must_make": (v.IMAGE,), "temperature": 1.0, **WRITTEN}
    assert _tokens(Plan(seed=5, **plan)) == _tokens(Plan(seed=5, **plan))
    assert _tokens(Plan(seed=5, **plan)) != _tokens(Plan(seed=6, **plan))


def test_closing_stops_within_one_step():
    decoder = _decoder(Plan(must_make=(v.IMAGE,), **WRITTEN))
    tokens = reply(decoder, False)
    for token in tokens:
        if token.kind == "image":
            break
    budget = decoder.budget
    tokens.close()
    assert decoder.budget == budget
    assert sum(v.modality(token) == "visual" for token in decoder.sequence.ids) == 1


def test_the_limit_of_tokens_ends_the_reply():
    decoder = _decoder(Plan(must_make=(v.IMAGE,), **{**WRITTEN, "max_tokens": 10}))
    with pytest.raises(OutOfTokens):
        list(reply(decoder, False))


def test_codes_are_drawn_cooler_than_words():
    decoder, logits = _decoder(Plan(temperature=1.0)), torch.tensor([0.0, 0.6])
    assert {decoder.word(logits) for _ in range(100)} == {0, 1}
    assert {decoder.code(logits, top_p=0.9) for _ in range(100)} == {1}
