"""What several test files share: a running server, and small media made on the spot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from processes import REPOSITORY, running


@dataclass(frozen=True)
class Server:
    """The real page in a process of its own."""

    address: str
    root: Path

    def verdict(self, path: Path) -> str:
        """What c2pa's own reader says of a file, with this server's certificate as the only one that is trusted."""
        import c2pa

        from omni.provenance.keys import FOLDER, SIGNING, signing_of

        root = signing_of((self.root / FOLDER / SIGNING).read_bytes()).root.decode()
        with c2pa.Context.from_dict({"trust": {"trust_anchors": root}}) as context, path.open("rb") as file:
            reader = c2pa.Reader.try_create(None, file, context=context)
            return reader.get_validation_state() if reader else "no credentials"


@dataclass(frozen=True)
class Playground:
    """The program in a process of its own."""

    address: str
    key: str
    log: Path


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page on the scripted engine, or on the engine that an indirect parameter names."""
    engine = getattr(request, "param", "fake")
    root = tmp_path_factory.mktemp("server")
    script = [sys.executable, str(REPOSITORY / "tests" / "serve.py"), engine]
    # Gradio forgets a closed tab after an hour, under this variable after a second.
    environment = {"PYTHONPATH": str(REPOSITORY), "GRADIO_IS_E2E_TEST": "1"}
    log = root / "server.log"
    with running(lambda port: [*script, str(port), str(root)], log, **environment) as address:
        yield Server(f"{address}/", root)


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """The whole program as a host starts it for programs and models too: Primer, the page, --api with a key, --mcp."""
    root, key = tmp_path_factory.mktemp("playground"), "sk-of-the-playground"
    command = [sys.executable, str(REPOSITORY / "app.py"), "--api", "--mcp", "--root", str(root / "data")]
    log, environment = root / "server.log", {"OMNI_API_KEY": key, "OMP_NUM_THREADS": "1"}
    with running(lambda port: [*command, "--port", str(port)], log, "/health", **environment) as address:
        yield Playground(address, key, log)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory):
    """The keys of a playground."""
    from omni.provenance.keys import open_keys

    return open_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with blue.png, tone.wav (523 Hz) and grey.mp4."""
    folder = tmp_path_factory.mktemp("samples")
    Image.new("RGB", (80, 60), (20, 40, 220)).save(folder / "blue.png")
    tone = 0.3 * np.sin(2 * np.pi * 523 * np.arange(16_000) / 16_000)
    soundfile.write(folder / "tone.wav", tone, 16_000)
    with av.open(str(folder / "grey.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for grey in range(0, 160, 10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), grey, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return folder


@pytest.fixture(scope="session")
def tiny_omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-Omni checkpoint; 6 MB."""
    from omni_tiny import save_tiny  # transformers takes seconds to come, and few tests want it

    return save_tiny(tmp_path_factory.mktemp("omni"))


@pytest.fixture(scope="session")
def omni_samples(tmp_path_factory: pytest.TempPathFactory):
    """A picture, a sound, a clip and a silent clip."""
    from omni_tiny import make_samples

    return make_samples(tmp_path_factory.mktemp("omni-samples"))
