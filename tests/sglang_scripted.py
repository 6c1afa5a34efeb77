"""SGLang-Omni's own HTTP application over a scripted engine: ``python tests/sglang_scripted.py FOLDER PORT``.

FOLDER holds the published wheel and what its protocol needs, put there by ``make servers``. The GPU libraries that it
imports on the way are replaced by empty ones; requests, checks, serialisation and streaming are all its own.
"""

from __future__ import annotations

import asyncio
import importlib.abc
import importlib.machinery
import json
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

RATE = 24_000
WORDS = ("Good ", "morning", ".")
CHUNK = 2_400  # samples


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Libraries that are not there and not needed."""

    NAMES = ("sglang", "torchaudio", "librosa")

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.NAMES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = MagicMock()
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module) -> None:
        pass


def main(folder: str, port: str) -> None:
    sys.path.insert(0, folder)
    sys.meta_path.insert(0, Absent())
    import numpy as np
    import uvicorn
    from sglang_omni.client import Client
    from sglang_omni.client.types import GenerateChunk, UsageInfo
    from sglang_omni.proto import StreamMessage
    from sglang_omni.serve.openai_api import create_app

    class Coordinator:
        """What stands behind the application: three words and three chunks of speech, or an endless reply."""

        def health(self) -> dict:
            return {"running": True}

        async def abort(self, request_id: str) -> bool:
            print("aborted", flush=True)
            return True

        def get_request_info(self, request_id: str):
            return SimpleNamespace(state=None)

        async def stream(self, request_id: str, request):
            told = json.dumps(request.to_dict() if hasattr(request, "to_dict") else vars(request), default=str)
            print("asked", told[:400], "...", told[-400:], flush=True)
            if "fail" in told:
                raise RuntimeError("the talker has no voice")
            try:
                while "endless" in told:
                    yield StreamMessage(request_id, "decode", GenerateChunk(request_id, text="on ", modality="text"))
                    await asyncio.sleep(0.02)
            finally:
                print("left", flush=True)
            for place, word in enumerate(WORDS):
                yield StreamMessage(request_id, "decode", GenerateChunk(request_id, text=word, modality="text"))
                samples = np.full(CHUNK, (place + 1) / 8, np.float32)
                sound = GenerateChunk(request_id, modality="audio", audio_data=samples, sample_rate=RATE)
                yield StreamMessage(request_id, "code2wav", sound)
            usage = UsageInfo(prompt_tokens=11, completion_tokens=22, total_tokens=33)
            last = GenerateChunk(request_id, finish_reason="length", usage=usage)
            yield StreamMessage(request_id, "decode", last)

    app = create_app(Client(Coordinator()), model_name="tiny/Qwen3-Omni")
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
