"""The picture book, its dialogues, and the batches made of them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from primer_tiny import tiny_model, tiny_tokenizers

from omni.primer import vocabulary as v
from omni.primer.training import batches, dialogues, outside, stories, troubles, turns, voices, wishes, world
from omni.primer.training.batches import Scribe, collate, micro_batches
from omni.primer.training.budget import Budget, load_checkpoint, save_checkpoint
from omni.primer.training.optim import orthogonalise

needs_font = pytest.mark.skipif(not world.FONT.exists(), reason="the emoji font is not installed")
needs_voices = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not installed")


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_held_out_scenes_are_never_drawn_for_training():
    rng = _rng()
    assert not any(world.random_scene(rng).held_out for _ in range(500))
    assert world.random_scene(rng, held_out=True).held_out


def test_no_request_for_a_picture_shows_a_held_out_scene():
    rng = _rng(1)
    made = [turn.made for _ in range(2000) for turn in dialogues.random_dialogue(rng).turns if turn.made]
    assert made
    assert not any(one.held_out for one in made if isinstance(one, (world.Scene, world.Clip)))


def test_a_loose_wish_is_answered_in_the_words_of_the_book():
    rng, asked = _rng(3), {}
    for turn in (wishes.open_wish(rng).turns[0] for _ in range(2000)):
        asked[turn.user[0]] = turn
        if isinstance(turn.made, world.Scene):
            assert turn.reply.endswith(turns.here_is(turn.made))
        elif isinstance(turn.made, world.Clip):
            assert world.clip_caption(turn.made) in turn.reply
    assert {"draw something", "make a video", "sing a song", "make a noise"} < set(asked)
    assert asked["draw an animal"].made.thing.name in wishes.KINDS["an animal"]
    assert all(asked[words].spoken for words in asked if words in wishes.ANY_WORDS)
    many = next(turn for words, turn in asked.items() if "ten " in words)
    assert many.made.count == 4 and many.reply.startswith(wishes.FEWER)


def test_names_in_lists_of_kinds_are_in_the_book():
    listed = " ".join([*wishes.KINDS.values(), *wishes.NATURAL.values()]).split()
    assert set(listed) <= set(world.GLYPHS)


def test_a_scene_and_its_mirror_are_held_out_together():
    cat, dog = world.Thing("cat"), world.Thing("dog")
    above = world.Scene(cat, "green", relation="above", other=dog)
    below = world.Scene(dog, "green", relation="below", other=cat)
    assert world.canonical(below) == above
    assert above.held_out == below.held_out


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (world.Scene(world.Thing("owl"), "green", "at the top left", "big"), "a big owl at the top left on green"),
        (world.Scene(world.Thing("fish"), "blue", count=2), "two fish on blue"),
        (world.Scene(world.Thing("apple"), "gray"), "an apple in the middle on gray"),
        (
            world.Scene(world.Thing("cat"), "green", relation="above", other=world.Thing("rocket")),
            "a cat above a rocket on green",
        ),
    ],
)
def test_a_caption_says_what_the_scene_holds(scene, words):
    assert world.caption(scene) == words


@needs_font
def test_a_thing_at_the_left_is_drawn_at_the_left():
    picture = world.draw(world.Scene(world.Thing("ball", "red"), "white", "at the left"), _rng()).astype(int)
    redness = (picture[..., 0] - picture[..., 2]).clip(0)
    assert redness[:, :32].sum() > 20 * redness[:, 40:].sum()


@needs_font
def test_a_clip_that_moves_right_ends_right_of_where_it_began():
    frames, _ = world.animate(world.Clip(world.Thing("ball", "red"), "white", "right"), _rng())
    redness = (frames[..., 0].astype(int) - frames[..., 2]).clip(0).sum(1)
    centres = (redness * np.arange(64)).sum(1) / redness.sum(1)
    assert (np.diff(centres) > 0).all()


@needs_font
@needs_voices
def test_only_what_primer_answers_is_predicted():
    scribe = Scribe(tiny_tokenizers(), _rng(2))
    scene = world.Scene(world.Thing("cat"), "green")
    turn = turns.Turn((turns.Said("what do you see"), scene), "I see a cat.", spoken=True)
    sample = scribe.write(turns.Dialogue((turn,)))
    scribe.flush()
    answer = sample.sequence.ids.index(v.ASSISTANT)
    assert len(sample.predicted) == len(sample.sequence)
    assert not any(sample.predicted[: answer + 2])  # up to <assistant> <hear>
    assert all(
        sample.predicted[place]
        for place in range(answer + 2, len(sample.predicted))
        if sample.sequence.ids[place] not in v.VOICE.values()
    )
    assert len({place for place, _ in sample.names.items()}) >= 4


@needs_font
@needs_voices
@pytest.mark.parametrize("spoken", [False, True])
def test_a_reply_that_follows_from_what_is_out_of_sight_is_not_learnt(spoken: bool):
    scene = world.Scene(world.Thing("cat"), "green", count=3)
    given = turns.Turn(("make it three",), "Here are three cats on green.", scene, spoken, given=True)
    asked = turns.Turn(("how many are there",), "There are three.")
    sample = Scribe(tiny_tokenizers(), _rng(2)).write(turns.Dialogue((given, asked)))
    second = len(sample.sequence) - 1 - sample.sequence.ids[::-1].index(v.ASSISTANT)
    assert not any(sample.predicted[: second + 1]) and all(sample.predicted[second + 1 :])


@needs_voices
def test_words_are_named_where_they_end_however_long_the_speaker_waits(monkeypatch):
    def names(wait: float) -> dict[int, int]:
        monkeypatch.setattr(voices, "room", lambda samples, rng: samples)
        monkeypatch.setattr(voices, "in_time", lambda x, rng: (np.pad(x, int(wait * voices.RATE)), wait))
        scribe = Scribe(tiny_tokenizers(), _rng(2))
        return scribe.write(turns.Dialogue((turns.Turn((turns.Said("draw a cat"),), "Here."),))).names

    at_once, later = names(0.0), names(0.4)
    assert later == {place + 20: name for place, name in at_once.items()}  # 20 codes are 0.4 s


def test_half_of_the_speakers_wait_and_nothing_of_theirs_is_lost():
    said = np.ones(8000, np.float32)
    recordings = [voices.in_time(said, _rng(seed)) for seed in range(40)]
    waited = [(samples, before) for samples, before in recordings if len(samples) > len(said)]
    assert 10 <= len(waited) <= 30
    assert all((samples[round(before * voices.RATE) :][: len(said)] == 1).all() for samples, before in waited)
    assert all(np.abs(samples[samples != 1]).max(initial=0) < 0.02 for samples, _ in waited)


def test_what_is_wrong_is_said_and_what_is_right_is_confirmed():
    for seed in range(200):
        (turn,) = troubles.trouble(_rng(seed)).turns
        shown, asked = turn.user[0], turn.user[-1]
        match shown:
            case turns.Blank(ground):
                assert turn.reply == f"I see nothing, only {ground}."
            case turns.Silence():
                assert turn.reply == "I hear nothing."
            case world.Scene(thing=thing, other=other):
                present = {one.name for one in (thing, other) if one}
                named = {one for one in world.OBJECTS if {one, world.plural(world.Thing(one))} & set(asked.split())}
                assert (", no" in turn.reply) == (not named <= present)
                assert turn.reply.startswith(("I see ", "It is "))  # what it sees comes first
                assert thing.name in turn.reply or world.plural(thing) in turn.reply


def test_a_story_is_of_what_was_asked_for_and_every_sentence_of_what_its_picture_shows():
    for seed in range(200):
        (turn,) = stories.story(_rng(seed)).turns
        steps = [(turn.reply, turn.made), *turn.then]
        assert 2 <= len(steps) <= stories.MOST
        assert turn.then[-1][0].endswith(" The end.")
        things = {one.name for _, scene in steps for one in (scene.thing, scene.other) if one}
        assert {one for one in world.OBJECTS if one in turn.user[0].split()} <= things
        for (_, before), (said, scene) in itertools.pairwise(steps):
            assert scene != before and not scene.held_out
            assert scene.background == before.background or scene.background in said
            assert scene.other == before.other or scene.other is None or scene.other.name in said


@needs_font
def test_a_story_is_written_as_sentences_that_each_end_in_a_picture():
    turn = stories.story(_rng(1)).turns[0]
    sample = Scribe(tiny_tokenizers(), _rng(1)).write(turns.Dialogue((turn,)))
    marks = [one for one in sample.sequence.ids if one in (v.WRITE, v.IMAGE, v.END)]
    assert marks == [v.WRITE, v.IMAGE] * (1 + len(turn.then)) + [v.END]
    first = sample.sequence.ids.index(v.WRITE)
    assert all(sample.predicted[first:]) and not any(sample.predicted[:first])


def test_no_step_is_without_a_batch(monkeypatch):
    """Where a step is so small that a pool holds fewer batches than it was to make steps of."""
    monkeypatch.setattr(batches, "pool", lambda *_: [])
    monkeypatch.setattr(batches, "micro_batches", lambda *_: [{}, {}, {}])
    steps = batches.Stream(Path(), 10, 10, 0)._steps(Scribe(tiny_tokenizers(), _rng()))
    assert [len(step) for step in itertools.islice(steps, 6)] == [1] * 6


def test_who_asks_about_nothing_is_told_so():
    rng = _rng(8)
    (turns_of,) = zip(*(troubles.nothing_shown(rng).turns for _ in range(200)), strict=True)
    assert {turn.reply for turn in turns_of} == {troubles.NOTHING_SHOWN, troubles.NOTHING_HEARD}
    assert all(isinstance(part, str) for turn in turns_of for part in turn.user)


def test_sums_reach_twenty_and_no_further():
    rng = _rng(9)
    asked = {dialogues.arithmetic(rng, 20) for _ in range(4000)}
    said = " ".join(answer for _, answer in asked)
    assert all(word in said.lower() for word in ("twenty minus twenty is zero", "eleven plus nine is twenty"))


@needs_voices
def test_the_two_of_a_pair_start_with_all_that_is_to_know_of_it():
    for seed in range(60):
        told, shown = dialogues.pair(_rng(seed))
        first, about = told.turns[0].user[0], told.about
        words = first.words if isinstance(first, turns.Said) else first
        assert about is not None and shown.about is not None
        assert words.endswith(about.background) or f"on {about.background}" in words


def test_pairs_of_earlier_batches_are_negatives():
    from collections import defaultdict, deque

    from omni.primer.training.fit_model import contrast

    model, memory = tiny_model(), deque(maxlen=2)
    hidden = torch.randn(2, 3, model.config.hidden_size, generator=torch.Generator().manual_seed(2))
    pairs, losses = torch.tensor([[0, 2, 1, 2]]), []
    for _ in range(4):
        losses.append(contrast(model, hidden, pairs, memory, defaultdict(lambda: torch.zeros(3))).item())
    assert losses[0] == 0  # nothing to tell it from
    assert losses[0] < losses[1] < losses[2] == losses[3]


@needs_font
@needs_voices
def test_every_medium_gets_its_codes_when_flushed():
    scribe = Scribe(tiny_tokenizers(), _rng(3))
    clip = world.Clip(world.Thing("cat"), "green", "left")
    sample = scribe.write(turns.Dialogue((turns.Turn(("film it",), "Here it is.", clip),)))
    blank = list(sample.sequence.ids)
    scribe.flush()
    changed = {v.modality(new) for old, new in zip(blank, sample.sequence.ids, strict=True) if old != new}
    assert changed == {"visual", "audio"}


@needs_font
def test_labels_stand_one_place_before_what_they_predict():
    scribe = Scribe(tiny_tokenizers(), _rng(4))
    sample = scribe.write(turns.Dialogue((turns.Turn(("hello",), "Hello!"),)))
    batch = collate([sample])
    predicted = [token for token, flag in zip(sample.sequence.ids, sample.predicted, strict=True) if flag]
    assert batch["labels"][batch["labels"] >= 0].tolist() == predicted
    assert predicted[0] == v.WRITE
    assert predicted[-1] == v.END


@needs_font
def test_micro_batches_stay_within_their_tokens():
    scribe = Scribe(tiny_tokenizers(), _rng(5))
    samples = sorted((scribe.write(dialogues.draw(scribe.rng)) for _ in range(12)), key=lambda one: len(one.sequence))
    batches = micro_batches(samples, 300)
    assert sum(int((batch["ids"] != v.PAD).any(1).sum()) for batch in batches) == 12
    assert all(batch["ids"].shape[1] % 32 == 0 for batch in batches)
    assert all(batch["ids"].numel() <= 300 for batch in batches)


@needs_font
def test_one_step_lowers_the_loss_of_its_own_batch():
    from collections import defaultdict

    from omni.primer.configuration import SIZES, PrimerConfig
    from omni.primer.modeling import PrimerForCausalLM
    from omni.primer.training.fit_model import loss_of
    from omni.primer.training.optim import muon_for

    torch.manual_seed(0)
    model = PrimerForCausalLM(PrimerConfig(**SIZES["tiny"]))
    model.set_experts_implementation("eager")
    scribe = Scribe(tiny_tokenizers(), _rng(6))
    samples = [scribe.write(dialogues.draw(scribe.rng)) for _ in range(4)]
    scribe.flush()
    batch = collate(samples)
    predicted = int((batch["labels"] >= 0).sum())
    optimizer = muon_for(model, lr=0.01, adam_lr=1e-3, adam_names=("embed_tokens", "gate.weight"))
    losses = []
    for _ in range(3):
        loss = loss_of(model, batch, predicted, defaultdict(lambda: torch.zeros(3)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_orthogonalised_matrices_have_singular_values_near_one():
    matrices = torch.randn(3, 32, 48, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert ((values > 0.5) & (values < 1.5)).all()


def test_questions_of_the_exam_are_never_in_training():
    rng = _rng(7)
    exam = {outside.question(rng, for_exam=True) for _ in range(300)}
    assert not exam & {outside.question(rng) for _ in range(3000)}


def test_a_checkpoint_is_replaced_whole(tmp_path):
    path = tmp_path / "one.checkpoint"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"step": 1})
    save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["one.checkpoint"]


def test_the_clock_of_a_run_goes_on_after_an_interruption():
    assert Budget(minutes=10, spent=300).share == pytest.approx(0.5, abs=0.01)
    assert Budget(minutes=10, spent=900).share == 1.0
    assert Budget(minutes=10, spent=599).rate() < 0.01
    by_steps = Budget(minutes=10, spent=900, steps=8)
    by_steps.step = 6
    assert by_steps.share == 0.75


def test_the_tiny_model_is_what_the_sizes_say():
    assert tiny_model().config.num_experts == 4
