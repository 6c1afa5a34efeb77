"""llama.cpp, the peer on a processor: a random Q4_0 GGUF of arch ``qwen3moe``, and decode steps through its C calls.

Needs requirements-bench.txt. No torch here, so that the process is as small as llama.cpp's own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from omni.bench.peers.shape import LOUDNESS, SEED, Shape, bits, router_scales
from omni.bench.peers.steps import timed

SCALE = 0.02 / 4.61  # of a Q4_0 block, whose numbers -8..7 have a deviation of 4.61: weights of 0.02
BLOCK = np.dtype([("scale", "<f2"), ("numbers", "u1", 16)])  # 32 weights


def write(shape: Shape, path: str | Path) -> dict[str, float]:
    """Write the GGUF tensor by tensor, memory holding one at a time; returns how many gigabytes it is."""
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, "qwen3moe")
    _describe(writer, shape)
    for name, size, _, quantised in _tensors(shape):
        kind = GGMLQuantizationType.Q4_0 if quantised else GGMLQuantizationType.F32
        count = int(np.prod(size))
        writer.add_tensor_info(name, size, np.float32, count // 32 * 18 if quantised else 4 * count, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    generator = np.random.default_rng(np.random.SFC64(SEED))
    for name, size, scale, quantised in _tensors(shape):
        if quantised:
            writer.write_tensor_data(_q4_0(generator, int(np.prod(size)), scale))
        elif len(size) == 1:
            writer.write_tensor_data(np.ones(size, np.float32))
        else:
            rows = generator.standard_normal(size, np.float32) * 0.02
            writer.write_tensor_data(rows * router_scales(shape, int(name.split(".")[1]))[:, None])
    writer.close()
    return {"gigabytes": round(Path(path).stat().st_size / 1e9, 3)}


def _describe(writer, shape: Shape) -> None:
    """The keys that llama.cpp asks of the architecture; no words, only a number of tokens."""
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(3 * shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.top_k)
    writer.add_expert_feed_forward_length(shape.inner)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(shape.vocabulary)


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...], float, bool]]:
    """Name, size, scale of the blocks and whether it is quantised, for each tensor in the order of the file."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "token_embd.weight", (shape.vocabulary, hidden), LOUDNESS * SCALE, True
    for layer in range(shape.layers):
        for name, size in (
            ("attn_norm", (hidden,)), ("attn_q_norm", (shape.head_dim,)), ("attn_k_norm", (shape.head_dim,)),
            ("attn_q", (queries, hidden)), ("attn_k", (keys, hidden)), ("attn_v", (keys, hidden)),
            ("attn_output", (hidden, queries)), ("ffn_norm", (hidden,)), ("ffn_gate_inp", (shape.experts, hidden)),
            ("ffn_gate_exps", (shape.experts, shape.inner, hidden)),
            ("ffn_up_exps", (shape.experts, shape.inner, hidden)),
            ("ffn_down_exps", (shape.experts, hidden, shape.inner)),
        ):  # fmt: skip
            yield f"blk.{layer}.{name}.weight", size, SCALE, len(size) > 1 and name != "ffn_gate_inp"
    yield "output_norm.weight", (hidden,), 0.0, False
    yield "output.weight", (shape.vocabulary, hidden), SCALE, True


def _q4_0(generator: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """(bytes,) of ``count`` random weights: every block has its own numbers and a scale of half to one and a half.

    Scales of either sign: the mean of -8..7 is not 0, and matrices with a mean turn every token into the same few
    directions, so that all tokens take the same experts.
    """
    blocks = bits(generator, count // 32 * BLOCK.itemsize).view(BLOCK)
    sizes = 2 * generator.random(len(blocks), np.float32) - 1
    blocks["scale"] = scale * (sizes + np.copysign(np.float32(0.5), sizes))
    return blocks.view(np.uint8)


def run(
    shape: Shape, path: str, steps: int = 60, warm_up: int = 20, threads: int = 2, use_mmap: bool = True,
    repack: bool = True, zipf: float = 0.0,
) -> dict:  # fmt: skip
    """Decode with the GGUF at ``path``: seconds per token, and the features that llama.cpp was built with.

    ``repack`` is llama.cpp's default: it copies the weights out of the file into rows side by side, faster and no
    longer shared with the page cache; without it the mapped file itself is read, so memory may be smaller than it.
    """
    import llama_cpp

    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    options.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP if use_mmap else llama_cpp.LLAMA_LOAD_MODE_NONE
    options.use_extra_bufts = repack
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
    if not model:
        raise RuntimeError(f"llama.cpp could not load {path}; what it printed says why.")
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = -(-(warm_up + steps) // 256) * 256
    options.n_threads = options.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, options)
    features = llama_cpp.llama_print_system_info().decode()
    measured = timed(_decoder(llama_cpp, context, shape), shape, warm_up, steps, zipf)
    return {**measured, "version": llama_cpp.__version__, "features": features}


def _decoder(llama_cpp, context, shape: Shape) -> Callable[[int], float]:
    word = (llama_cpp.llama_token * 1)()

    def step(token: int) -> float:
        word[0] = token
        if status := llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(word, 1)):
            raise RuntimeError(f"llama.cpp answers a decode step with {status}.")
        logits = ctypes.cast(llama_cpp.llama_get_logits(context), ctypes.POINTER(ctypes.c_float))
        return float(np.ctypeslib.as_array(logits, (shape.vocabulary,)).max())

    return step
