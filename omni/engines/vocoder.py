"""Codec frames to samples while they come: code2wav of Qwen3-Omni as a stream.

transformers decodes chunks with 25 frames of context: it loses 555 samples at the end of each, and its transformer,
which looks 72 frames back in each of 8 layers, sees less than in one piece. Here every layer goes on from where it was:
the transformer keeps its keys and values, a convolution the steps that it looks back on. The joined chunks are what
decoding everything at once gives, and no frame is computed twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as published

from omni.experts import native

RATE = 24_000  # samples a second


class Vocoder:
    """State: the transformer's cache, the last steps that each convolution got (1, channels, n), samples so far."""

    def __init__(self, code2wav: published.Qwen3OmniMoeCode2Wav):
        self.code2wav = code2wav
        self.snakes = {
            module: Snake(module)
            for module in code2wav.modules()
            if isinstance(module, published.Qwen3OmniMoeSnakeBeta)
        }
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self.cache = DynamicCache(config=self.code2wav.config)
        self.before: dict[nn.Module, Tensor] = {}
        self.sent = 0

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """More frames (n, codebooks) int64 to the samples (N,) float32 that they complete."""
        net = self.code2wav
        embedded = net.code_embedding(codes.T[None] + net.code_offset).mean(1)
        hidden = net.pre_transformer(inputs_embeds=embedded, cache=self.cache, use_cache=True)
        wave = hidden.last_hidden_state.permute(0, 2, 1)
        for block in (*(one for blocks in net.upsample for one in blocks), *net.decoder):
            wave = self._through(block, wave)
        samples = wave.clamp(-1, 1)[0, 0].float()
        self.sent += len(samples)
        return samples

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        """More steps (1, channels, n) through a block, to the steps that they complete."""
        match block:
            case published.Qwen3OmniMoeCausalConvNet():
                return self._convolved(block, x)
            case published.Qwen3OmniMoeCausalTransConvNet():
                return self._stretched(block, x)
            case published.Qwen3OmniMoeSnakeBeta():
                return self.snakes[block](x)
            case published.Qwen3OmniMoeCode2WavDecoderBlock():
                for part in block.block:
                    x = self._through(part, x)
                return x
            case published.Qwen3OmniMoeCode2WavDecoderResidualUnit():
                inner = x
                for part in (block.act1, block.conv1, block.act2, block.conv2):
                    inner = self._through(part, inner)
                return x + inner
            case published.Qwen3OmniMoeConvNeXtBlock():
                mixed = block.norm(self._convolved(block.dwconv, x).permute(0, 2, 1))
                return x + (block.gamma * block.pwconv2(block.act(block.pwconv1(mixed)))).permute(0, 2, 1)
        raise TypeError(f"a vocoder with {type(block).__name__} cannot be streamed")

    def _convolved(self, layer: published.Qwen3OmniMoeCausalConvNet, x: Tensor) -> Tensor:
        """A causal convolution, which sees ``padding`` steps before the first; of an utterance these are zeros."""
        if not layer.padding:
            return layer.conv(x)
        before = self.before.get(layer)
        x = torch.cat([x.new_zeros(1, x.shape[1], layer.padding) if before is None else before, x], dim=2)
        self.before[layer] = x[..., -layer.padding :]
        return layer.conv(x)

    def _stretched(self, layer: published.Qwen3OmniMoeCausalTransConvNet, x: Tensor) -> Tensor:
        """A transposed convolution: a step gives ``stride`` samples, once with the step before it.

        The last step's other samples wait for the next; those before the first step are cut off.
        """
        if not layer.right_pad:
            return layer.conv(x)
        if (before := self.before.get(layer)) is not None:
            x = torch.cat([before, x], dim=2)
        self.before[layer] = x[..., -1:]
        stride = layer.conv.stride[0]
        return layer.conv(x)[..., stride : stride * x.shape[2]].contiguous()


class Snake:
    """x + sin(x exp(alpha))^2 / exp(beta) (SnakeBeta, arXiv 2006.08195), in one pass on a CPU in bf16."""

    def __init__(self, module: published.Qwen3OmniMoeSnakeBeta):
        self.module = module
        self.turns = (module.alpha.detach().float().exp() / torch.pi).contiguous()
        self.scale = 1 / (module.beta.detach().float().exp() + module.no_div_by_zero)

    def __call__(self, x: Tensor) -> Tensor:
        """(1, channels, n) to the same."""
        library = native.library() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else None
        if library is None:
            return self.module(x)
        x = x.contiguous()
        out = torch.empty_like(x)
        library.snake(
            *x.shape[1:], x.data_ptr(), self.turns.data_ptr(), self.scale.data_ptr(), out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return out
