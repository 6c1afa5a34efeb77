"""A tiny Qwen3-Omni of the true class with random weights, saved as it is published, one tensor an expert.

The tokeniser is a real BPE, trained here on a few sentences, with the model's own special tokens and a chat template of
the same form. Codes are few, so that speech ends by itself after a second or two.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from omni import media
from omni.conversation import Audio, Conversation, Image, Message, Text, Video

VOICES = {"ethan": 70, "chelsie": 71, "aiden": 72}
CODES = 64  # of a codebook
GROUPS = 4  # codebooks
SENTENCES = [
    "What do you see in this picture? I see a blue square on a green field.",
    "What do you hear? A tone, then silence, then the tone again.",
    "Please tell me, in one sentence, what happens in the clip.",
    "You are a helpful assistant. The answer is short and plain.",
]
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<tts_pad>", "<tts_text_bos>",
    "<tts_text_eod>",
]  # fmt: skip
NAMED = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|audio_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>
{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def save_tiny(folder: Path, seed: int = 0, talks: bool = True) -> Path:
    """Write the checkpoint into ``folder``; with ``talks`` off, one without a talker that thinks before it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(thinks=not talks)
    tokenizer.save_pretrained(folder)
    vision = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    picture = Qwen2VLImageProcessorPil(**vision, min_pixels=64 * 64, max_pixels=96 * 96).to_dict()
    sound = WhisperFeatureExtractor(feature_size=128).to_dict()
    both = {**picture, **sound, "image_processor_type": "Qwen2VLImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(both))
    torch.manual_seed(seed)
    model = Qwen3OmniMoeForConditionalGeneration(tiny_config(tokenizer, talks)).eval()
    draw(model)
    model.save_pretrained(folder)
    return folder


def tiny_tokenizer(thinks: bool = False) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = [*SENTENCES, *["user", "assistant", "system"] * 20]
    bpe.train_from_iterator(words, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens(SPECIAL)
    bpe.add_tokens(["<think>", "</think>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=NAMED,
        chat_template=TEMPLATE.replace("assistant\n{%", "assistant\n<think>\n{%") if thinks else TEMPLATE,
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast, talks: bool = True) -> Qwen3OmniMoeConfig:
    token = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 4, 4], "mrope_interleaved": True}
    attention = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    media = {
        "audio_token_id": token("<|audio_pad|>"),
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "audio_start_token_id": token("<|audio_start|>"),
        "position_id_per_seconds": 13,
    }
    experts = {"num_experts_per_tok": 2, "moe_intermediate_size": 64, "hidden_size": 64, "intermediate_size": 64}
    text = {
        "vocab_size": 448, "num_hidden_layers": 3, "num_experts": 8, "max_position_embeddings": 2048,
        "rope_parameters": rope, **experts, **attention,
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "num_position_embeddings": 256,
        "out_hidden_size": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    audio = {
        "d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "num_mel_bins": 128,
        "downsample_hidden_size": 16, "output_dim": 64,
    }  # fmt: skip
    talker_text = {
        "vocab_size": CODES + 1024, "num_hidden_layers": 2, "num_local_experts": 8, "rope_parameters": rope,
        "shared_expert_intermediate_size": 64, "max_position_embeddings": 2048, **experts, **attention,
    }  # fmt: skip
    predictor = {
        "vocab_size": CODES, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_code_groups": GROUPS, **attention,
    }  # fmt: skip
    talker = {
        "text_config": talker_text, "code_predictor_config": predictor, "num_code_groups": GROUPS,
        "thinker_hidden_size": 64, "accept_hidden_layer": 2, "spatial_merge_size": 2, "speaker_id": VOICES,
        "codec_eos_token_id": CODES, "codec_nothink_id": CODES + 1, "codec_think_bos_id": CODES + 2,
        "codec_think_eos_id": CODES + 3, "codec_pad_id": CODES + 4, "codec_bos_id": CODES + 5, **media,
    }  # fmt: skip
    code2wav = {
        "codebook_size": CODES, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_quantizers": GROUPS, "decoder_dim": 32,
        "sliding_window": 8,
    }  # fmt: skip
    return Qwen3OmniMoeConfig(
        thinker_config={
            "text_config": text, "vision_config": vision, "audio_config": audio, "user_token_id": token("user"), **media
        },
        talker_config=talker,
        code2wav_config=code2wav,
        enable_audio_output=talks,
        im_start_token_id=token("<|im_start|>"),
        im_end_token_id=token("<|im_end|>"),
        tts_pad_token_id=token("<tts_pad>"),
        tts_bos_token_id=token("<tts_text_bos>"),
        tts_eos_token_id=token("<tts_text_eod>"),
        system_token_id=token("system"),
        user_token_id=token("user"),
        assistant_token_id=token("assistant"),
    )  # fmt: skip


def draw(model: nn.Module) -> None:
    """Random weights that make something of their inputs: routers too, which transformers starts at zero."""
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 0
        if parameter.dim() == 3 and "experts" in name:
            fan_in = parameter.shape[2]
        if "embed" in name:
            nn.init.normal_(parameter, std=1.0)
        elif fan_in:
            quiet = 0.7 if "code2wav.decoder" in name else 1.0  # so that its waves are not clipped
            nn.init.normal_(parameter, std=quiet / math.sqrt(fan_in))
        elif name.endswith(("gamma", "scale")):
            nn.init.normal_(parameter, std=0.3)
        elif "norm" not in name and "ln_" not in name:
            nn.init.normal_(parameter, std=0.02)


@dataclass(frozen=True)
class Samples:
    """One file of each kind, as ``omni.media`` makes them."""

    folder: Path
    picture: Image
    sound: Audio
    clip: Video
    silent_clip: Video


def make_samples(folder: Path) -> Samples:
    rng = np.random.default_rng(0)
    tone = 0.3 * np.sin(np.arange(16_000) / 10).astype(np.float32)
    frames = rng.integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    return Samples(
        folder,
        media.write_image(rng.integers(0, 255, (80, 120, 3), dtype=np.uint8), folder),
        media.write_audio(tone, 16_000, folder),
        media.write_video(frames, 4, tone, 16_000, folder),
        media.write_video(frames, 4, tone[:0], 16_000, folder),
    )


def asked(samples: Samples, *turns: tuple) -> Conversation:
    """A conversation of which every other turn is the user's; words are strings, files the names in ``samples``."""
    messages = []
    for place, turn in enumerate(turns):
        parts = tuple(getattr(samples, part) if hasattr(samples, part) else Text(part) for part in turn)
        messages.append(Message("assistant" if place % 2 else "user", parts))
    return Conversation(samples.folder, tuple(messages))
