"""Qwen3-Omni as on a machine that lends its GPU (ZeroGPU): ``python lent_gpu.py CHECKPOINT SLABS``, on a CPU.

The emulation is that of ``spaces`` itself: until a reply, what is on the GPU is tensors that only say so. What moves
them to the GPU for a reply is stood in for by giving them their memory back. Prints what was seen, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

os.environ |= {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": "http://127.0.0.1:9"}
torch.version.cuda, torch._C._cuda_init, torch.cuda._is_in_bad_fork = (
    "13.0",
    dict,
    bool,
)  # a torch without CUDA has none

import spaces  # noqa: E402, F401
from spaces.zero.torch import patching  # noqa: E402

from omni.conversation import Conversation, Message, Text  # noqa: E402
from omni.engine import Wish  # noqa: E402
from omni.engines.qwen3_omni import Qwen3OmniEngine  # noqa: E402
from omni.events import SpeechChunk, TextDelta  # noqa: E402

engine = Qwen3OmniEngine.open(sys.argv[1], slabs=Path(sys.argv[2]))
seen = {
    "device": str(engine.experts.device),
    "sent": patching._total_unpacked_size(),
    "dense": engine.model.get_memory_footprint(),
    "experts": engine.experts.most_bytes,
    "readers": sum(len(held.cache._readers._threads) for held in engine.experts.pools),
}
for fake, original in list(patching.cuda_aliases.items()):
    fake.data = original
patching.unpatch()
engine.experts.device = torch.device("cpu")
asked = Conversation(Path(sys.argv[2]), (Message("user", (Text("hello"),)),))
events = list(engine.reply(asked, Wish(frozenset({"text", "speech"}), seed=3, max_tokens=80)))
counts = engine.experts.counts()
print(json.dumps(seen | {
    "words": sum(isinstance(event, TextDelta) for event in events),
    "samples": sum(len(event.samples) for event in events if isinstance(event, SpeechChunk)),
    "hits": counts.hits, "misses": counts.misses, "read": counts.bytes_read,
}))  # fmt: skip
