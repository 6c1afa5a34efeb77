"""The voice of Qwen3-Omni, as a stream: a codec frame as soon as the text that it needs is known.

transformers writes the whole text, then all codes, then the sound. The talker takes one token of text with each frame
(then a pad), so that a frame can follow each token: ``hear`` a token, ``step``, and the sound is there while the text
goes on. With the same choices the codes are those of ``generate(return_audio=True)``. Knows nothing of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Qwen3OmniMoeForConditionalGeneration
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeTalkerCodePredictorModel

from omni.engines.sampling import Chooser, Sampling
from omni.engines.vocoder import Vocoder
from omni.experts.context import roomy_cache

TALKER = Sampling(temperature=0.9, top_k=50, repetition_penalty=1.05)  # as generate() has it
PREDICTOR = Sampling(temperature=1.0, top_k=50, top_p=0.8)
SPECIAL_CODES = 1024  # at the end of the talker's vocabulary; of them only the end of speech may be drawn
MOST_FRAMES = 4095  # 5 minutes and a half
FIRST_CHUNK, LARGEST_CHUNK = 4, 32  # frames of 80 ms; each chunk is longer than the one before


@dataclass(frozen=True)
class Prompt:
    """What the thinker read: tokens (1, T), media among them as the thinker saw them (1, T, H), and their grids."""

    ids: Tensor
    hidden: Tensor | None = None  # at the layer that the talker accepts; None where there are no media
    grids: Mapping[str, Tensor | bool | None] = field(default_factory=dict)  # what get_rope_index wants, by name


class Talker:
    """Codec frames of one utterance.

    State: the cache, the position behind it, text tokens that wait, the code and the hidden state of the frame that
    comes next, and whether text and speech have ended.
    """

    def __init__(
        self,
        model: Qwen3OmniMoeForConditionalGeneration,
        prompt: Prompt,
        voice: str,
        seed: int = 0,
        greedy: bool = False,
        most_frames: int = MOST_FRAMES,
    ):
        """``voice``: a key of the config's ``speaker_id``."""
        self.model, self.talker, self.config = model, model.talker, model.config.talker_config
        self.prompt, self.speaker = prompt, self.config.speaker_id[voice]
        self.seed, self.greedy, self.most_frames = seed, greedy, most_frames
        self.reset()

    def reset(self) -> None:
        """Begin again, with no text heard and the seed as it was."""
        device, vocabulary = self.model.device, self.config.text_config.vocab_size
        end = self.config.codec_eos_token_id
        never = [code for code in range(vocabulary - SPECIAL_CODES, vocabulary) if code != end]
        talker, predictor = (one.greedy if self.greedy else one for one in (TALKER, PREDICTOR))
        self.first_code = Chooser(talker, self.seed, device, never)
        self.other_codes = Chooser(predictor, self.seed + 1, device)
        self.cache = roomy_cache(self.config.text_config)
        self.delta = 0  # of the position behind the place in the cache
        self.waiting: list[int] = []
        self.text_ended = False
        self._ending = True  # the end of the text is still to be told
        self.finished = False
        self.frames = 0
        self.code: Tensor | None = None  # (1, 1), first of the frame that comes next
        self.hidden: Tensor | None = None  # (1, 1, hidden), what it was drawn from
        self.summed: Tensor | None = None  # (1, 1, hidden), embedded codes of the frame before

    def hear(self, token: int) -> None:
        """The reply goes on with ``token``."""
        self.waiting.append(token)

    def end(self) -> None:
        """The reply has no more tokens."""
        self.text_ended = True
        if self.code is None and not self.waiting:  # nothing was said
            self.finished = True

    @property
    def ready(self) -> bool:
        """Whether the next frame can be made now."""
        return not self.finished and bool(self.waiting or self.text_ended)

    @torch.inference_mode()
    def step(self) -> Tensor | None:
        """Make the next frame, (codebooks,) int64; None where the speech is over. Only when ``ready``."""
        if self.code is None:
            self._begin()
        else:
            self._go_on()
        if self.frames == self.most_frames or self.code.item() == self.config.codec_eos_token_id:
            self.finished = True
            return None
        self.frames += 1
        return self._whole_frame()

    def _begin(self) -> None:
        """Read the prompt and the first token of the reply."""
        embedded, positions = self._opening(self.waiting.pop(0))
        self._forward(embedded, positions)

    def _go_on(self) -> None:
        """Read the frame before, together with the next token of the reply, its end, or a pad behind the end."""
        if self.waiting:
            text = self._text(self.waiting.pop(0))
        elif self._ending:
            text, self._ending = self._text(self.model.config.tts_eos_token_id), False
        else:
            text = self._text(self.model.config.tts_pad_token_id)
        place = self.cache.get_seq_length() + self.delta
        positions = torch.full((3, 1, 1), place, device=self.model.device)
        self._forward(self.summed + text, positions)

    def _forward(self, embedded: Tensor, positions: Tensor) -> None:
        out = self.talker.model(inputs_embeds=embedded, position_ids=positions, cache=self.cache, use_cache=True)
        self.hidden = out.last_hidden_state[:, -1:]
        self.code = self.first_code.choose(self.talker.codec_head(self.hidden)[:, -1])

    def _whole_frame(self) -> Tensor:
        """The other codes of the frame, each drawn from the hidden state and the codes before it."""
        predictor = self.talker.code_predictor
        read = predictor_pass(predictor.model)
        codes, parts = [self.code], [self.talker.get_input_embeddings()(self.code)]
        read(self.hidden)
        for head, embedding in zip(predictor.lm_head, predictor.get_input_embeddings(), strict=True):
            codes.append(self.other_codes.choose(head(read(parts[-1])[:, -1])))
            parts.append(embedding(codes[-1]))
        self.summed = torch.cat(parts, dim=1).sum(1, keepdim=True)
        return torch.cat(codes, dim=1)[0]

    def _opening(self, first: int) -> tuple[Tensor, Tensor]:
        """What the talker reads first, (1, T, hidden), and the positions (3, 1, T): the user's turns, and a start."""
        model, config = self.model.config, self.config
        ids, users = self.prompt.ids, self._users()
        media = self._media(ids) & users
        words = self._text_of(ids[users & ~media][None])[0]
        embedded = words.new_empty(1, int(users.sum()), words.shape[-1])
        embedded[:, ~media[users]] = words
        if media.any():
            embedded[:, media[users]] = self.talker.hidden_projection(self.prompt.hidden[media])
        pads = [model.tts_pad_token_id] * 4
        start = ids[0, -3:].tolist()  # <|im_start|>assistant, line break
        text = self._text(*start, *pads, model.tts_bos_token_id, first)
        codes = (
            config.codec_nothink_id, config.codec_think_bos_id, config.codec_think_eos_id, self.speaker,
            config.codec_pad_id, config.codec_bos_id,
        )  # fmt: skip
        text[:, 3:] += self.talker.get_input_embeddings()(torch.tensor([codes], device=ids.device))
        own = torch.full((1, text.shape[1]), model.tts_pad_token_id, device=ids.device)
        return torch.cat([embedded, text], dim=1), self._positions(torch.cat([ids[users][None], own], dim=1))

    def _positions(self, ids: Tensor) -> Tensor:
        """Positions (3, 1, T) in time, height and width, as the thinker counts them.

        transformers 5.23 asks its talker to count, which fails where there is sound beside a picture or a clip.
        """
        grids = self.prompt.grids
        if grids.get("image_grid_thw") is None and grids.get("video_grid_thw") is None:
            return torch.arange(ids.shape[1], device=ids.device).expand(3, 1, -1)
        positions, delta = self.model.thinker.get_rope_index(ids, attention_mask=torch.ones_like(ids), **grids)
        self.delta = int(delta.item())
        return positions

    def _users(self) -> Tensor:
        """(1, T) bool: the tokens of the user's turns, with their marks."""
        ids, config = self.prompt.ids, self.model.config
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        begun = torch.where(ids == config.im_start_token_id, places, -1).cummax(-1).values.clamp_min(0)
        role = ids.gather(1, (begun + 1).clamp_max(ids.shape[1] - 1))
        return role == config.user_token_id

    def _media(self, ids: Tensor) -> Tensor:
        """(1, T) bool: the tokens that stand for media."""
        config = self.model.config.thinker_config
        marks = (config.audio_token_id, config.image_token_id, config.video_token_id)
        return torch.isin(ids, torch.tensor(marks, device=ids.device))

    def _text(self, *tokens: int) -> Tensor:
        return self._text_of(torch.tensor([tokens], device=self.model.device))

    def _text_of(self, ids: Tensor) -> Tensor:
        """Tokens (1, n) as the thinker embeds them, to (1, n, hidden) of the talker."""
        return self.talker.text_projection(self.model.thinker.get_input_embeddings()(ids))


def predictor_pass(model: Qwen3OmniMoeTalkerCodePredictorModel) -> Callable[[Tensor], Tensor]:
    """What reads a frame's codes one by one: (1, 1, hidden) to the same, each behind those before it.

    The model's own ``forward`` asks and checks for each code what is the same for all: a third of a frame's time.
    """
    cache = roomy_cache(model.config)
    places = torch.arange(model.config.num_code_groups, device=model.device)[None]
    turns = iter(zip(*(one.split(1, 1) for one in model.rotary_emb(model.norm.weight, places)), strict=True))

    def read(embedded: Tensor) -> Tensor:
        turn = next(turns)
        for layer in model.layers:
            embedded = layer(embedded, cache=cache, use_cache=True, position_embeddings=turn)
        return model.norm(embedded)

    return read


class Speech:
    """Sound of one utterance, in chunks that grow. State: the talker, the vocoder, frames not yet decoded."""

    def __init__(self, talker: Talker):
        self.talker, self.vocoder = talker, Vocoder(talker.model.code2wav)
        self.frames: list[Tensor] = []
        self.made = 0  # frames decoded so far

    def step(self) -> Iterator[Tensor]:
        """One codec frame; only where the talker is ready. Yields the samples (N,) float32 of a chunk that is full."""
        frame = self.talker.step()
        if frame is not None:
            self.frames.append(frame)
        full = len(self.frames) >= min(LARGEST_CHUNK, FIRST_CHUNK + self.made // 2)
        if self.frames and (full or self.talker.finished):
            self.made += len(self.frames)
            samples = self.vocoder.push(torch.stack(self.frames))
            self.frames = []
            yield samples
